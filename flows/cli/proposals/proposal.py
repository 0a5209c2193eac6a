"""Proposal of a recipe for a file: `bertline new` looks at the rows and says what it found."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from flows.cli.proposals import columns as roles
from flows.cli.proposals.columns import Column
from flows.cli.proposals.labels import find_label, find_names, find_task
from flows.cli.proposals.layout import columns_of_parallel, find_layout
from flows.cli.proposals.sampling import Sample, sampled
from flows.cli.proposals.splits import check_split_files, find_split, training_file
from flows.cli.proposals.texts import find_texts
from flows.cli.proposals.values import HAN, Proposal
from pipeline import tasks
from pipeline.core.config import RECIPE_NAME, RESERVED_NAMES
from pipeline.core.errors import UserError
from pipeline.core.locations import is_local
from pipeline.core.log import Log, no_log
from pipeline.core.records import SPLITS
from pipeline.sources import Layout, Row, read_rows
from pipeline.sources.remote import local_path
from pipeline.sources.rows import require
from pipeline.sources.token_rows import find_columns
from pipeline.stages.ingest.stage import SPLIT_NAMES

ROWS_SEEN, MOST_EPOCHS = 12_000, 8  # in all epochs
SPLIT_WORDS = ("train", "training", "data", "test", "validation", "dev")  # names that say little


def name_for(file: str, taken: Iterable[str] = ()) -> str:
    """Return the name of a recipe for a file: its stem, or that of its folder if the stem is one
    such as train, in the characters that a name may have, with a number if it is taken."""
    path = Path(file.rstrip("/"))
    stem = path.name.split(".")[0].lower()
    stems = [path.parent.name.lower(), stem] if stem in SPLIT_WORDS else [stem]
    names = [re.sub(r"[^a-z0-9_-]+", "-", each).strip("-_")[:40] for each in stems]
    name = next((name for name in names if _may_be(name)), None)
    if name is None:
        raise UserError(f"{file}: its name gives none for a recipe: bertline new NAME {file}")
    others = (f"{name[:36]}-{number}" for number in count(2))
    return next(each for each in chain([name], others) if each not in taken)


def _may_be(name: str) -> bool:
    return RECIPE_NAME.fullmatch(name) is not None and name not in RESERVED_NAMES


def propose(
    file: str,
    given: Mapping[str, Any],
    task: str | None,
    *,
    like: bool = False,
    log: Log = no_log,
) -> Proposal:
    """Look at a file and propose its task, its columns and how to read it.

    `given` holds values of `ingest` that are settled; `like` if the training is settled by another
    recipe. Raises UserError, with the option to use, for
    what cannot be decided.
    """
    found = Proposal("", dict(given))
    path = local_path(file, log)
    if is_local(file) and path.is_dir() and (training := training_file(path, found)):
        file = training
    layout = find_layout(file, found)
    by_format = found.ingest.get("format") or Path(file).suffix.lower()
    sample = _sample(file, found, layout, log)
    if not layout.format and (own := find_columns(row.fields for row in sample.rows)).tag:
        found.ingest["format"] = "token_rows"
        named = ", ".join(repr(name) for name in own if name)
        found.because("format", f"token_rows: a token and its tag in each row, {named}")
        quotes = found.ingest.get("quotes", True)
        layout = replace(layout, format="token_rows", quotes=quotes)
        sample = _sample(file, found, layout, log)
    rows = sample.rows
    table: Mapping[str, Column] = roles.columns_of(row.fields for row in rows)
    _check_given(file, found.ingest, table)
    find_split(file, found, table)
    if task is not None:
        found.task = task
        found.because("task", f"{task}: as given")
    texts = find_texts(file, found, table, task)
    found.texts = [tuple(row.fields.get(name, "") for name in texts) for row in rows]
    if not found.ingest.get("label"):
        find_label(file, found, table, texts)
    if not found.task:
        find_task(file, found, table, str(by_format), len(texts) == 2)
    _names(file, found, table)
    _offsets(found, rows)
    check_split_files(found, table, layout)
    _group(found, table)
    _script(found)
    if not like:
        _epochs(found, sample.read)
    return found


def _sample(file: str, found: Proposal, layout: Layout, log: Log) -> Sample:
    """Read a sample of the rows of a file, without quotes if quotes spoil more of them."""
    columns = columns_of_parallel(file) if layout.format == "parallel" else ()
    sample = sampled(read_rows(file, columns, layout, log), log)
    if sample.quotes and layout.quotes and "quotes" not in found.ingest:
        plain = sampled(read_rows(file, (), replace(layout, quotes=False)), log)
        if plain.read > sample.read:
            found.ingest["quotes"] = False
            more = plain.read - sample.read
            found.because("quotes", f"a character like any other: {more:,} more rows can be read")
            sample = plain
    if (first := sample.first_reject) and sample.rejects > sample.read:
        most = "none" if not sample.rows else f"only {sample.read:,}"
        raise UserError(
            f"{file}, line {first.number}: {first.reason}: {most} of"
            f" {sample.rejects + sample.read:,} rows can be read: name its --format"
        )
    if not sample.rows:
        raise UserError(f"{file}: holds no rows: give a file with some")
    if len(sample.rows) < sample.read:
        found.because("sample", f"{len(sample.rows):,} of {sample.read:,} rows are looked at")
    return sample


def _names(file: str, found: Proposal, table: Mapping[str, Column]) -> None:
    """Find the names of numbered classes, for tasks with classes."""
    task, label = tasks.get(found.task), found.ingest.get("label")
    if (task.exclusive or task.many_classes) and isinstance(label, str):
        find_names(file, found, table[label].counts)


def _group(found: Proposal, table: Mapping[str, Column]) -> None:
    """Find the column whose rows must stay in one split, if splits are drawn."""
    ingest = found.ingest
    if ingest.get("group") or not _draws(ingest, table):
        return
    label = ingest.get("label")
    besides = [ingest["text"], *(label if isinstance(label, list) else [label])]
    if ingest.get("second") == "context":  # questions share it
        named = roles.named(table, ("title", "context"))
        groups = [c for c in named if 1 < c.distinct < len(c.filled) and "" not in c.cells]
        column = next((c for c in groups if c.distinct >= roles.FEWEST_GROUPS), None)
    else:
        column = roles.find_group(table, [*besides, ingest.get("second")])
    if column:
        ingest["group"] = column.name
        values = f"{column.distinct:,} values in {len(column.filled):,} rows"
        found.because("group", f"{column.name!r}: {values}; rows of one stay in one split")


def _draws(ingest: Mapping[str, Any], table: Mapping[str, Column]) -> bool:
    """True if a split is drawn: neither a column nor files name all of them."""
    source, column = ingest.get("source"), table.get(ingest.get("split") or "")
    names = {SPLIT_NAMES.get(cell.lower()) for cell in column.counts} if column else source
    return not (isinstance(names, dict | set) and set(SPLITS) <= {*names})


def _offsets(found: Proposal, rows: Sequence[Row]) -> None:
    """Find out whether positions in labels count characters or UTF-16 code units."""
    task, ingest = tasks.get(found.task), found.ingest
    if not task.offsets or ingest.get("offsets") or not isinstance(ingest.get("label"), str):
        return
    names = [ingest.get(key) for key in ("text", "second", "label")]
    cells = [tuple(row.fields.get(name, "") if name else "" for name in names) for row in rows]
    cells = [cell for cell in cells if not (cell[0] + cell[1]).isascii() and cell[2]]

    def wrong(text: str, second: str, cell: str, *, utf16: bool) -> bool:
        try:
            cell = task.in_characters(cell, text, second) if utf16 else cell
            return task.doubt(task.label(cell, text, second), text, second) is not None
        except ValueError:
            return True

    before = sum(wrong(*cell, utf16=False) for cell in cells)
    if before and sum(wrong(*cell, utf16=True) for cell in cells) < before / 2:
        ingest["offsets"] = "utf-16"
        found.because("offsets", f"utf-16: in characters {before:,} labels would be wrong")


def _check_given(file: str, ingest: Mapping[str, Any], table: Mapping[str, Column]) -> None:
    """Raise UserError for a given column that the file does not have."""
    for key in ("text", "second", "label", "group", "split"):
        value = ingest.get(key)
        names = value if isinstance(value, list) else [value] if value else []
        require(tuple(names), tuple(table), f"{file}: row 1", "its header names")


def _epochs(found: Proposal, rows: int) -> None:
    """Propose more epochs for few rows: a new head needs some hundred steps, whatever it learns."""
    epochs = min(MOST_EPOCHS, ROWS_SEEN // max(rows, 1))
    if epochs > 2 and tasks.get(found.task).labelled:
        found.finetune["epochs"] = epochs
        found.because("epochs", f"{epochs}: {rows:,} rows are few")


def _script(found: Proposal) -> None:
    """Adapt the settings to a language without spaces."""
    sample = "".join(text for texts in found.texts[:500] for text in texts)[:100_000]
    if sample and len(HAN.findall(sample)) > 0.2 * len(sample):
        found.validate["near_duplicates"] = {"characters": 3}
        found.baseline = "characters"
        found.because("language", "Chinese characters: near copies and the baseline go by them")
