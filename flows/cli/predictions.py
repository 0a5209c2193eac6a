"""Output of `bertline predict` for the rows of a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.batch import predict as batch
from pipeline.core.config import PARAMS_FILE, read_recipes
from pipeline.core.errors import UserError
from pipeline.core.locations import is_local
from pipeline.core.log import Console
from pipeline.core.workspace import STATE
from pipeline.registry.versions import inputs_of, takes_pairs
from pipeline.sources import Layout
from pipeline.sources.encodings import known

JOBS = STATE / "predict"
TEXT = "text"


@dataclass(frozen=True)
class RowOptions:
    """Options of the rows; None is that of the recipe."""

    source: str
    text: str | None = None
    second: str | None = None
    encoding: str | None = None
    overwrite: bool = False


def predict_rows(recipe: str, loaded: Any, version: str, options: RowOptions, out: Path) -> str:
    """Write the answers of a loaded version to the rows of a file. Returns a sentence about it."""

    def answer(texts: Sequence[batch.Texts]) -> Sequence[dict[str, Any]]:
        found: list[dict[str, Any]] = loaded.predict(inputs_of(loaded, texts)).to_dict("records")
        return found

    rows = _rows(recipe, takes_pairs(loaded), options)
    log = Console("predict")
    done = batch.predict(rows, answer, version, out, JOBS, overwrite=options.overwrite, log=log)
    aside = f"; {done.rejected:,} cannot be answered: {batch.rejects_of(out)}" * bool(done.rejected)
    return f"{out}: {done.rows:,} rows, answered by {version}{aside}"


def _rows(recipe: str, pairs: bool, options: RowOptions) -> batch.Input:
    if is_local(options.source) and not Path(options.source).exists():
        raise UserError(f"{options.source}: no such file or folder")
    if options.encoding is not None and not known(options.encoding):
        raise UserError(f"--encoding {options.encoding}: Python knows no such encoding")
    if options.second and not pairs:
        raise UserError(f"--second {options.second}: {recipe} reads one text: leave it out")
    recipes = read_recipes() if PARAMS_FILE.exists() else {}
    own = recipes.get(recipe, {}).get("ingest", {})
    second = (options.second or own.get("second")) if pairs else None
    if pairs and not second:
        raise UserError(f"{recipe}: reads two texts: name the column of the second by --second")
    layout = Layout(encoding=options.encoding or "utf-8")
    return batch.Input(options.source, options.text or own.get("text") or TEXT, second, layout)
