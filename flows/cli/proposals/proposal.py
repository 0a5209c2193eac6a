"""Proposal of a recipe for a file: `bertline new` looks at the rows and says what it found."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from flows.cli.proposals import columns as roles
from flows.cli.proposals.columns import Column
from flows.cli.proposals.layout import columns_of_parallel, find_layout
from flows.cli.proposals.values import HAN, Proposal
from pipeline import tasks
from pipeline.core.config import RECIPE_NAME
from pipeline.core.errors import UserError
from pipeline.core.text import excerpt
from pipeline.sources import Layout, Reject, Row, read_rows
from pipeline.sources.rows import require

SAMPLE = 20_000  # rows
ROWS_SEEN, MOST_EPOCHS = 12_000, 8  # in all epochs
FEW = 200  # rows of the files of other splits
PARTS = {
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}


def name_for(file: str) -> str:
    """Return the name of a recipe for a file: its stem, in the characters that a name may have."""
    stem = Path(file.rstrip("/")).name.split(".")[0].lower()
    name = re.sub(r"[^a-z0-9_-]+", "-", stem).strip("-_")[:40]
    if not RECIPE_NAME.fullmatch(name):
        raise UserError(f"{file}: its name gives none for a recipe: bertline new NAME {file}")
    return name


def propose(file: str, given: Mapping[str, Any], task: str | None) -> Proposal:
    """Look at a file and propose its task, its columns and how to read it.

    `given` holds values of `ingest` that are settled. Raises UserError, with the option to use, for
    what cannot be decided.
    """
    found = Proposal("", dict(given))
    layout = find_layout(file, found)
    by_format = found.ingest.get("format") or Path(file).suffix.lower()
    rows = _rows(file, found, layout)
    table = roles.columns_of(row.fields for row in rows)
    _check_given(file, found.ingest, table)
    if {"word", "tag"} <= {name.lower() for name in table}:
        raise UserError(
            f"{file}: has a token in each row: write the tokens with their tags as CoNLL, a blank"
            " line between sentences, and call bertline new for that file"
        )
    _split(file, found, table)
    texts = _texts(file, found, table, task)
    found.texts = [row.fields.get(texts[0], "") for row in rows]
    if task is not None:
        found.task = task
        found.because("task", f"{task}: as given")
    if found.ingest.get("label") is None:
        _label(file, found, table, texts)
    if not found.task:
        _task(file, found, table, str(by_format), len(texts) == 2)
    _offsets(found, rows)
    _check_split_files(found, table, layout)
    _script(found)
    _epochs(found, len(rows))
    return found


def _rows(file: str, found: Proposal, layout: Layout) -> list[Row]:
    """Read the first rows of a file, without quotes if quotes spoil more of them."""
    columns = columns_of_parallel(file) if layout.format == "parallel" else ()
    read = list(islice(read_rows(file, columns, layout), SAMPLE))
    rows = [row for row in read if isinstance(row, Row)]
    quotes = sum(isinstance(row, Reject) and "quote" in row.reason for row in read)
    if quotes and layout.quotes and "quotes" not in found.ingest:
        plain = islice(read_rows(file, (), replace(layout, quotes=False)), SAMPLE)
        unquoted = [row for row in plain if isinstance(row, Row)]
        if len(unquoted) > len(rows):
            found.ingest["quotes"] = False
            more = len(unquoted) - len(rows)
            found.because("quotes", f"a character like any other: {more:,} more rows can be read")
            return unquoted
    if not read:
        raise UserError(f"{file}: holds no rows: give a file with a text in each row")
    if not rows:
        first = next((f", line {r.number}: {r.reason}" for r in read if isinstance(r, Reject)), "")
        raise UserError(f"{file}{first}: none of its rows can be read: name its --format")
    return rows


def _offsets(found: Proposal, rows: Sequence[Row]) -> None:
    """Find out whether positions in labels count characters or UTF-16 code units."""
    task, ingest = tasks.get(found.task), found.ingest
    if not task.offsets or ingest.get("offsets") or not isinstance(ingest.get("label"), str):
        return
    names = [ingest.get(key) for key in ("text", "second", "label")]
    cells = [tuple(row.fields.get(name, "") if name else "" for name in names) for row in rows]
    cells = [cell for cell in cells[:SAMPLE] if not (cell[0] + cell[1]).isascii() and cell[2]]

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


def _split(file: str, found: Proposal, table: Mapping[str, Column]) -> None:
    """Find the column or the files that split the rows."""
    if found.ingest.get("split"):
        return
    if (column := roles.find_split(table)) and column.name != found.ingest.get("label"):
        found.ingest["split"] = column.name
        found.because(
            "split", f"{column.name!r}: its values are {', '.join(sorted(column.counts))}"
        )
        return
    path = Path(file)
    if not path.is_file() or path.name.split(".")[0].lower() not in ("train", "training"):
        return
    suffix = path.name[len(path.name.split(".")[0]) :]
    source = {"train": file}
    for split, names in PARTS.items():
        beside = (path.with_name(f"{name}{suffix}") for name in names)
        if other := next((each for each in beside if each.exists()), None):
            source[split] = str(other)
    if len(source) > 1:
        found.ingest["source"] = source
        found.because("split", f"{', '.join(Path(p).name for p in source.values())}: a file each")


def _check_split_files(found: Proposal, table: Mapping[str, Column], layout: Layout) -> None:
    """Leave out the files of other splits whose rows are not like those of the training file."""
    source, label = found.ingest.get("source"), found.ingest.get("label")
    if not isinstance(source, dict):
        return
    layout = replace(layout, quotes=found.ingest.get("quotes", True))
    columns = tuple(found.ingest[key] for key in ("text", "second") if found.ingest.get(key))
    columns += (label,) if isinstance(label, str) else tuple(label or ())
    one = label if isinstance(label, str) and table[label].classes else ""
    known = table[one].counts if one else {}
    for split in [name for name in source if name != "train"]:
        try:
            read = islice(read_rows(source[split], columns, layout), FEW)
            rows = [row for row in read if isinstance(row, Row)]
        except UserError:
            rows = []
        fit = [row for row in rows if not known or row.fields[one].strip() in known]
        if len(fit) <= len(rows) / 2:
            name = Path(source.pop(split)).name
            found.because("", f"{name} is left out: its rows are not like the training rows")
    if len(source) == 1:
        found.ingest["source"] = source["train"]


def _texts(
    file: str, found: Proposal, table: Mapping[str, Column], task: str | None
) -> tuple[str, ...]:
    """Settle the columns of the text and of the second text, and return their names."""
    ingest = found.ingest
    besides = [ingest.get("split"), ingest.get("group"), ingest.get("second")]
    label = ingest.get("label")
    besides += label if isinstance(label, list) else [label]
    if {"question", "context"} <= table.keys() and not ingest.get("text"):
        ingest.update({"text": "question", "second": "context"})
        found.because("text", "'question' with the second text 'context'")
    elif ingest.get("format") == "parallel":
        own, *others = columns_of_parallel(file)
        ingest.setdefault("text", own)
        if not ingest.get("label") and len(others) > 1:
            raise UserError(f"{file}: name the language of the translation by --label: {others}")
        ingest.setdefault("label", others[0])
        found.because("text", f"{ingest['text']!r}, and its translation {ingest['label']!r}")
        found.task = "translation"
    elif not ingest.get("text"):
        pair = None if ingest.get("second") else roles.find_pair(table)
        if pair and (task is None or _two_texts(task)):
            ingest.update({"text": pair[0].name, "second": pair[1].name})
            found.because("text", f"{pair[0].name!r} with the second text {pair[1].name!r}")
        else:
            column = roles.find_text(table, besides)
            if column is None:
                names = excerpt(", ".join(table), 120)
                raise UserError(f"{file}: no column looks like a text: name it by --text ({names})")
            ingest["text"] = column.name
            found.because("text", f"{column.describe()}, {column.mean:.0f} in the mean")
    return (ingest["text"], *([ingest["second"]] if ingest.get("second") else []))


def _two_texts(task: str) -> bool:
    return tasks.get(task).two_texts


def _label(file: str, found: Proposal, table: Mapping[str, Column], texts: tuple[str, ...]) -> None:
    """Settle the column of the label, if the task has one."""
    ingest = found.ingest
    if found.task and not tasks.get(found.task).labelled:
        return
    besides = [*texts, ingest.get("split"), ingest.get("group")]
    if "answers" in table and texts == ("question", "context"):
        ingest["label"] = "answers"
        return
    flags = roles.find_flags(table, besides)
    labels = [] if len(flags) > 1 else roles.find_labels(table, besides)
    if len(flags) > 1:
        ingest["label"] = [column.name for column in flags]
        found.because("label", f"{len(flags)} columns of 0 and 1: a class each")
    elif len(labels) == 1 and not found.task and _is_constant(labels[0]):
        if ingest.get("format") != "lines":
            value = excerpt(labels[0].filled[0], 40)
            raise UserError(
                f"{file}: {labels[0].name!r} is {value!r} in all rows: name another column by"
                " --label, or --task masked_lm"
            )
    elif len(labels) == 1:
        ingest["label"] = labels[0].name
        found.because("label", labels[0].describe())
    elif labels:
        names = ", ".join(repr(column.name) for column in labels[:10])
        raise UserError(f"{file}: several columns can be the label: name one by --label: {names}")
    elif found.task or ingest.get("second"):
        names = excerpt(", ".join(name for name in table if name not in besides), 120)
        left = (
            f"looks like a label: name it by --label ({names})" if names else "is left for a label"
        )
        raise UserError(f"{file}: no column {left}")


def _is_constant(label: Column) -> bool:
    return label.distinct == 1 and not label.lists


def _task(
    file: str, found: Proposal, table: Mapping[str, Column], by_format: str, two: bool
) -> None:
    """Settle the task by the label."""
    ingest, label = found.ingest, found.ingest.get("label")
    if by_format in ("squad",) or (label == "answers" and ingest["text"] == "question"):
        found.task, reason = "question_answering", "questions with contexts and answers"
    elif label is None:
        found.task, reason = "masked_lm", "there is no label: a base is trained on from the texts"
    elif isinstance(label, list):
        found.task, reason = "multilabel", "a row may have several classes"
    else:
        found.task, reason = _by_cells(file, found, table[label], two)
    found.because("task", f"{found.task}: {reason}")


def _by_cells(file: str, found: Proposal, label: Column, two: bool) -> tuple[str, str]:
    """Return the task that the cells of a label column are for, and the reason."""
    shown = excerpt(label.filled[0], 40) if label.filled else ""
    if label.spans:
        return "ner", f"its labels are lists of spans, such as {shown}"
    if label.lists and any(len(cell) > 1 for cell in label.lists):
        return "multilabel", f"its labels are lists, such as {shown}"
    if not label.lists and label.separator and not two:
        separator = label.separator
        if separator != ",":
            found.ingest["separator"] = separator
            found.because("separator", f"{separator!r}: what it parts recurs in other cells")
        several = next(cell for cell in label.counts if separator in cell)
        return "multilabel", f"a cell holds several classes, such as {excerpt(several, 40)!r}"
    numbers = label.numeric and (not label.whole or label.distinct > roles.FEW)
    if numbers and not (label.whole and label.classes and _consecutive(label)):
        return "similarity" if two else "regression", f"its labels are numbers, such as {shown}"
    if not label.classes and not label.lists and label.distinct > 2:
        raise UserError(
            f"{file}: {label.name!r} has {label.distinct:,} values in {len(label.filled):,} rows:"
            " too many for classes: name another column by --label, or the task by --task"
        )
    return ("pair" if two else "classification"), f"{label.distinct:,} classes, such as {shown!r}"


def _consecutive(label: Column) -> bool:
    """True for the numbers of classes: all from the least to the greatest."""
    numbers = {int(float(cell)) for cell in label.counts}
    return len(numbers) == max(numbers) - min(numbers) + 1


def _epochs(found: Proposal, rows: int) -> None:
    """Propose more epochs for few rows: a new head needs some hundred steps, whatever it learns."""
    epochs = min(MOST_EPOCHS, ROWS_SEEN // max(rows, 1))
    if epochs > 2 and tasks.get(found.task).labelled:
        found.finetune["epochs"] = epochs
        found.because("epochs", f"{epochs}: {rows:,} rows are few")


def _script(found: Proposal) -> None:
    """Adapt the settings to a language without spaces."""
    sample = "".join(found.texts[:500])[:100_000]
    if sample and len(HAN.findall(sample)) > 0.2 * len(sample):
        found.validate["near_duplicates"] = {"characters": 3}
        found.baseline = "characters"
        found.because("language", "Chinese characters: near copies and the baseline go by them")
