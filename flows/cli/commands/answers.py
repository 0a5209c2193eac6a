"""Commands that use models: predict, embed, search and serve, and labels for their feedback."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from flows.cli.arguments import Recipe, count, port, seconds
from flows.cli.group import Group
from pipeline.core.errors import UserError

group = Group("Answers")


@contextmanager
def _uncollected() -> Iterator[None]:
    """Disable garbage collection during imports and exclude their objects from it afterwards.

    They all stay in use, and scanning them takes a quarter of a short command's time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


InputTexts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="TEXT",
        help="Texts (two for each pair), or - for standard input; put a text that begins with a"
        " dash behind --.",
        parser=str,
    ),
]
InputFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="One text per line; for pairs, two separated by a tab, or JSON: text, second.",
        parser=Path,
    ),
]
InputRows = Annotated[
    str | None,
    typer.Option("--input", metavar="ROWS", help="Table, or folder of tables, with the texts."),
]
Output = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Rows of --input with answers: .parquet, .jsonl or .csv.", parser=Path
    ),
]
InputText = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Text of --input.", show_default="as in the recipe"),
]
InputSecond = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="Second text of --input.", show_default="as in the recipe"),
]
InputEncoding = Annotated[
    str | None, typer.Option(metavar="NAME", help="Encoding of --input.", show_default="utf-8")
]


@group.command(
    'bertline predict news "Shares fell" "A late goal" --json',
    "bertline predict news --input mails.csv --output answers.parquet --text body",
    "cat texts | bertline predict news -",
)
@_uncollected()
def predict(
    recipe: Recipe,
    texts: InputTexts = None,
    file: InputFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The whole answer as a line of JSON per text.")
    ] = False,
    rows: InputRows = None,
    output: Output = None,
    text: InputText = None,
    second: InputSecond = None,
    encoding: InputEncoding = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace --output if it is there.")
    ] = False,
) -> None:
    """Answer texts, or all rows of a file, with the champion, through ONNX Runtime."""
    from pipeline.core.config import check_name

    check_name(recipe)
    of_rows = (rows, output, text, second, encoding, overwrite or None)
    if all(option is None for option in of_rows):
        _predict_texts(recipe, texts or [], file, as_json)
        return
    if not rows or not output or texts or file or as_json:
        raise UserError(
            "predict: give --input and --output together, without texts, --file and --json"
        )
    from flows.cli.predictions import RowOptions, predict_rows

    options = RowOptions(rows, text, second, encoding, overwrite)
    print(predict_rows(recipe, *_champion(recipe), options, output))


def _predict_texts(recipe: str, texts: list[str], file: Path | None, as_json: bool) -> None:
    from flows.cli import inputs, terminal

    source, given = inputs.read_texts(texts, file)
    from pipeline.registry.versions import inputs_of, takes_pairs

    loaded, version = _champion(recipe)
    pairs = takes_pairs(loaded)
    queries = inputs.pairs(recipe, source, given) if pairs else [(text, "") for text in given]
    answers = loaded.predict(inputs_of(loaded, queries)).to_dict("records")
    for (text, second), answer in zip(queries, answers, strict=True):
        if as_json:
            own = {"text": text, "second": second} if pairs else {"text": text}
            print(terminal.as_json(own | answer | {"version": version}))
        else:
            print(_line(loaded, answer, text, second))


def _champion(recipe: str) -> tuple[Any, str]:
    """Load the champion. Returns MLflow's model and the name of the version."""
    from pipeline.core.workspace import tracking
    from pipeline.promotion.champion import no_champion
    from pipeline.registry.versions import Registry

    registry = Registry(tracking())
    number = registry.champion(recipe)
    if number is None:
        raise UserError(no_champion(registry, recipe))
    return registry.load(recipe, number), f"{recipe}/{number}"


def _line(loaded: Any, answer: dict[str, Any], text: str, second: str) -> str:
    """Format an answer with the version's own task; the oldest versions have none."""
    from pipeline.core.text import excerpt

    answering = getattr(loaded.unwrap_python_model(), "answering", None)
    label = answer["label"]
    shown = str(answering.task.shown(label, text, second)) if answering else label
    texts = " | ".join(filter(None, (text, second)))
    return f"{excerpt(shown, 200)}\t{answer['score']:.3f}\t{excerpt(texts, 60)}"


# options of embed and search; None is the default, since a file of embeddings has its own settings

Text = Annotated[
    str | None,
    typer.Option("--text", metavar="COLUMN", help="Column of the text.", show_default="text"),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="conll, word_tags, lines or documents.",
        show_default="by the extension",
    ),
]
NoQuotes = Annotated[
    bool | None,
    typer.Option("--no-quotes", help="Read quotes as any other character (ingest.quotes: false)."),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        "--encoding", metavar="NAME", help="Of a text file (ingest.encoding).", show_default="utf-8"
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="package:NAME/FOLDER, hub:NAME@REVISION, a folder, or a recipe that was run.",
        show_default="the demo's base, all-MiniLM-L6-v2",
    ),
]
MaxLength = Annotated[
    int | None,
    typer.Option(
        "--max-length",
        metavar="TOKENS",
        help="Tokens of a text that are read.",
        parser=count,
        show_default="as the model was trained",
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="LAYERS",
        help="-1 is the last, 0 the word embeddings; a mean of several: 1,2 or --layers=-4:",
        show_default="-1",
    ),
]
Pooling = Annotated[
    Literal["own", "cls", "mean", "max"] | None,
    typer.Option(
        "--pooling",
        help="Pooling of the tokens; own: as the model was trained.",
        show_default="own",
    ),
]
Normalize = Annotated[
    bool | None,
    typer.Option(
        "--normalize/--no-normalize", help="Scale vectors to length 1.", show_default="normalize"
    ),
]
Runtime = Annotated[
    Literal["pytorch", "onnx-fp32", "onnx-int8"] | None,
    typer.Option(
        "--runtime", help="Runtime of the encoder.", show_default="onnx-fp32; pytorch with a GPU"
    ),
]
Columns = Annotated[str | None, typer.Option(metavar="A,B", help="More columns to keep.")]


@group.command(
    "bertline embed reviews.csv --text review --out reviews.parquet",
    "bertline embed reviews.csv --text review --label stars --centroids --out stars.npy",
)
def embed(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Rows: CSV, TSV, JSON Lines, Parquet, or .txt with one text per line.",
            parser=str,
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Ends in .parquet or .npy.", parser=Path)
    ],
    row_id: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="Column with the id of a row.",
            show_default="its line in the file",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column to keep as label.")
    ] = None,
    carry: Columns = None,
    level: Annotated[
        Literal["text", "token"], typer.Option(help="One row per text or per token.")
    ] = "text",
    centroids: Annotated[
        bool, typer.Option("--centroids", help="One row per label: the mean over its texts.")
    ] = False,
    text: Text = None,
    format_: Format = None,
    no_quotes: NoQuotes = None,
    encoding: Encoding = None,
    model: Model = None,
    max_length: MaxLength = None,
    layers: Layers = None,
    pooling: Pooling = None,
    normalize: Normalize = None,
    runtime: Runtime = None,
) -> None:
    """Write an embedding of each text of a file, from chosen layers of an encoder."""
    from flows.cli.embeddings import EmbeddingOptions, KeptColumns, embed

    options = EmbeddingOptions(
        text, format_, no_quotes, encoding, model, max_length, layers, pooling, normalize, runtime
    )
    kept = KeptColumns(row_id, label, carry)
    print(embed(file, out, options, kept, level=level, centroids=centroids))


@group.command(
    'bertline search faq.csv --text question --show answer "my card has not come"',
    "cat questions | bertline search faq.parquet -k 3 --json",
)
def search(
    answers: Annotated[
        str,
        typer.Argument(
            metavar="ANSWERS",
            help="A file of rows, or of embeddings by bertline embed.",
            parser=str,
        ),
    ],
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERY",
            help="Texts to search for.",
            show_default="lines of standard input",
            parser=str,
        ),
    ] = None,
    most: Annotated[int, typer.Option("-k", metavar="N", help="Rows per query.", parser=count)] = 5,
    show: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns to show besides the text.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON per query.")] = False,
    text: Text = None,
    format_: Format = None,
    no_quotes: NoQuotes = None,
    encoding: Encoding = None,
    model: Model = None,
    max_length: MaxLength = None,
    layers: Layers = None,
    pooling: Pooling = None,
    normalize: Normalize = None,
    runtime: Runtime = None,
) -> None:
    """Show the rows of a file that are nearest to a query, by the cosine of their embeddings."""
    from flows.cli.embeddings import EmbeddingOptions, search

    options = EmbeddingOptions(
        text, format_, no_quotes, encoding, model, max_length, layers, pooling, normalize, runtime
    )
    for output in search(answers, queries or [], options, most=most, show=show, as_json=as_json):
        print(output, flush=True)


@group.command("bertline serve news --port 8080", "bertline serve news --host 0.0.0.0 --cores 4")
def serve(
    recipe: Recipe,
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST", help="Address to bind; any but the loopback needs BERTLINE_API_KEYS."
        ),
    ] = "127.0.0.1",
    at_port: Annotated[
        int, typer.Option("--port", metavar="N", help="0 takes a free port.", parser=port)
    ] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Host name that a proxy on this machine passes on; may be repeated.",
        ),
    ] = None,
    every: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Interval between checks of the alias.", parser=seconds
        ),
    ] = 2.0,
    cores: Annotated[
        int,
        typer.Option(metavar="N", help="Number of cores to use.", show_default="all", parser=count),
    ] = 0,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time limit of a request.", parser=seconds)
    ] = 10.0,
) -> None:
    """Serve the champion over HTTP, and each new one, until it is stopped."""
    from pipeline.core.workspace import DATA, STATE, tracking
    from pipeline.serving.settings import Limits
    from pipeline.serving.supervisor import ServerOptions, serve

    serve(
        ServerOptions(
            recipe=recipe,
            tracking=tracking(),
            state=STATE / "serving" / f"{recipe}.json",
            feedback=DATA / "feedback",
            host=host,
            port=at_port,
            every=every,
            cores=cores,
            limits=Limits(deadline=deadline),
            hosts=allow_host or [],
        )
    )


@group.command("bertline labels news --most 100", "bertline labels news --dry-run")
def labels(
    recipe: Recipe,
    most: Annotated[int, typer.Option(metavar="N", help="Most texts to take.", parser=count)] = 200,
    feedback: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of RECIPE.jsonl.", parser=Path)
    ] = Path("data/feedback"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be taken.")
    ] = False,
) -> None:
    """Turn feedback on answers into training rows, the least confident answers first."""
    from flows.cli.labels import labels

    labels(recipe, most, feedback, dry=dry_run)
