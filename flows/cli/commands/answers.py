"""Answers to texts: a champion's, of an encoder's own layers, over HTTP, and what people say of
them."""

import gc
import json
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
    """Keep Python from collecting what imports have made, then and at exit: it is all in use, and
    looking it through takes a quarter of a short command's time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@group.command(
    'bertline predict news "Shares fell" "A late goal" --json',
    "cat texts | bertline predict news -",
)
@_uncollected()
def predict(
    recipe: Recipe,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            help="Texts (two by two, where it reads pairs), or - for standard input; behind --,"
            " one that begins with a dash.",
            parser=str,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="One text a line; of pairs, two with a tab between them or JSON: text, second.",
            parser=Path,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The whole answer, a line a text.")
    ] = False,
) -> None:
    """Answer texts by the champion, through ONNX Runtime."""
    from flows.cli import inputs
    from pipeline.core.config import check_name

    check_name(recipe)
    source, given = inputs.read_texts(texts or [], file)
    from pipeline.registry.versions import inputs_of, takes_pairs

    loaded, version = _champion(recipe)
    pairs = takes_pairs(loaded)
    queries = inputs.pairs(recipe, source, given) if pairs else [(text, "") for text in given]
    answers = loaded.predict(inputs_of(loaded, queries)).to_dict("records")
    for (text, second), answer in zip(queries, answers, strict=True):
        if as_json:
            own = {"text": text, "second": second} if pairs else {"text": text}
            print(json.dumps(own | answer | {"version": version}, ensure_ascii=False))
        else:
            print(_line(loaded, answer, text, second))


def _champion(recipe: str) -> tuple[Any, str]:
    """The champion, as MLflow loads it, and its name."""
    from pipeline.core.workspace import tracking
    from pipeline.registry.versions import Registry

    registry = Registry(tracking())
    number = registry.champion(recipe)
    if number is None:
        raise UserError(f"{recipe}: has no champion yet: bertline run {recipe}")
    return registry.load(recipe, number), f"{recipe}/{number}"


def _line(loaded: Any, answer: dict[str, Any], text: str, second: str) -> str:
    """An answer as people read it, in the words of the version's own task; the oldest have none."""
    from pipeline.core.text import excerpt

    answering = getattr(loaded.unwrap_python_model(), "answering", None)
    label = answer["label"]
    shown = str(answering.task.shown(label, text, second)) if answering else label
    asked = " | ".join(filter(None, (text, second)))
    return f"{excerpt(shown, 200)}\t{answer['score']:.3f}\t{excerpt(asked, 60)}"


# which rows are embedded, by which encoder, and how; None is the default, for a file of embeddings
# brings its own

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
NoQuotes = Annotated[bool | None, typer.Option("--no-quotes", help="As ingest.quotes: false.")]
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
        help="Of a text that are read.",
        parser=count,
        show_default="as the model was trained",
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        "--layers",
        metavar="LAYERS",
        help="-1 is the last, 0 embeddings of words; a mean: 1,2 or --layers=-4:",
        show_default="-1",
    ),
]
Pooling = Annotated[
    Literal["own", "cls", "mean", "max"] | None,
    typer.Option(
        "--pooling", help="Of a text's tokens; own: as the model was trained.", show_default="own"
    ),
]
Normalize = Annotated[
    bool | None,
    typer.Option("--normalize/--no-normalize", help="To length 1.", show_default="normalize"),
]
Runtime = Annotated[
    Literal["pytorch", "onnx-fp32", "onnx-int8"] | None,
    typer.Option("--runtime", help="What computes.", show_default="onnx-fp32; pytorch with a GPU"),
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
            help="Rows: CSV, TSV, JSON Lines, Parquet, .txt with a text a line.",
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
            help="Column that names a row.",
            show_default="its line in the file",
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column to keep as label.")
    ] = None,
    carry: Columns = None,
    level: Annotated[Literal["text", "token"], typer.Option(help="What a row is.")] = "text",
    centroids: Annotated[
        bool, typer.Option("--centroids", help="A row a label: the mean over its texts.")
    ] = False,
    text: Text = None,
    format_: Format = None,
    no_quotes: NoQuotes = None,
    model: Model = None,
    max_length: MaxLength = None,
    layers: Layers = None,
    pooling: Pooling = None,
    normalize: Normalize = None,
    runtime: Runtime = None,
) -> None:
    """Embed the texts of a file: a vector a row, by an encoder's own layers."""
    from flows.cli.embeddings import Asked, KeptColumns, embed

    how = Asked(text, format_, no_quotes, model, max_length, layers, pooling, normalize, runtime)
    kept = KeptColumns(row_id, label, carry)
    print(embed(file, out, how, kept, level=level, centroids=centroids))


@group.command(
    'bertline search faq.csv --text question --show answer "my card has not come"',
    "cat questions | bertline search faq.parquet -k 3 --json",
)
def search(
    answers: Annotated[
        str,
        typer.Argument(
            metavar="ANSWERS",
            help="A file of rows, or what bertline embed has written.",
            parser=str,
        ),
    ],
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERY",
            help="Texts that ask.",
            show_default="a line of standard input each",
            parser=str,
        ),
    ] = None,
    most: Annotated[
        int, typer.Option("-k", metavar="N", help="Rows to each query.", parser=count)
    ] = 5,
    show: Annotated[
        str | None, typer.Option(metavar="A,B", help="Columns to show besides the text.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON a query.")] = False,
    text: Text = None,
    format_: Format = None,
    no_quotes: NoQuotes = None,
    model: Model = None,
    max_length: MaxLength = None,
    layers: Layers = None,
    pooling: Pooling = None,
    normalize: Normalize = None,
    runtime: Runtime = None,
) -> None:
    """The rows of a file that are nearest to a query, by the cosine of their embeddings."""
    from flows.cli.embeddings import Asked, search

    how = Asked(text, format_, no_quotes, model, max_length, layers, pooling, normalize, runtime)
    for told in search(answers, queries or [], how, most=most, show=show, as_json=as_json):
        print(told, flush=True)


@group.command("bertline serve news --port 8080", "bertline serve news --host 0.0.0.0 --cores 4")
def serve(
    recipe: Recipe,
    host: Annotated[
        str,
        typer.Option(
            metavar="HOST", help="Another than this machine's own needs BERTLINE_API_KEYS."
        ),
    ] = "127.0.0.1",
    at_port: Annotated[
        int, typer.Option("--port", metavar="N", help="0 takes a free one.", parser=port)
    ] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="By which a proxy on this machine asks, besides localhost; may be given again.",
        ),
    ] = None,
    every: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="How often the alias is looked at.", parser=seconds),
    ] = 2.0,
    cores: Annotated[
        int,
        typer.Option(
            metavar="N", help="Cores to answer on.", show_default="all there are", parser=count
        ),
    ] = 0,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long a request may take.", parser=seconds)
    ] = 10.0,
) -> None:
    """Serve the champion over HTTP, and every champion that follows it, until it is ended."""
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
    most: Annotated[
        int, typer.Option(metavar="N", help="Texts to take at once.", parser=count)
    ] = 200,
    feedback: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Where RECIPE.jsonl lies.", parser=Path)
    ] = Path("data/feedback"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be taken.")
    ] = False,
) -> None:
    """Take what people said of answers into the recipe's rows, the least sure first."""
    from flows.cli.labels import labels

    labels(recipe, most, feedback, dry=dry_run)
