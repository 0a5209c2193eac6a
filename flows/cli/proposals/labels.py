"""Label and task of a file of rows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from flows.cli.proposals import columns as roles
from flows.cli.proposals.columns import Column
from flows.cli.proposals.values import Proposal, watchable
from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.locations import is_local
from pipeline.core.text import excerpt

NAMES = ("labels.txt", "label_names.txt", "classes.txt", "tags.txt")
ASIDE = (
    "title",
    "headline",
    "url",
    "link",
    "source",
    "author",
    "date",
    "time",
    "id",
    "name",
    "标题",
)
# texts beside the text of a corpus


def find_label(
    file: str, found: Proposal, table: Mapping[str, Column], texts: tuple[str, ...]
) -> None:
    """Settle the column of the label, if the task has one. Raises UserError where several columns
    can be it, or none."""
    ingest = found.ingest
    if found.task and not tasks.get(found.task).labelled:
        return
    besides = [*texts, ingest.get("split"), ingest.get("group")]
    answers = [c for c in roles.named(table, ("answers", "answer")) if not c.classes]
    if answers and texts == ("question", "context"):
        ingest["label"] = answers[0].name
        return
    flags = roles.find_flags(table, besides)
    labels = [] if len(flags) > 1 else roles.find_labels(table, besides)
    if len(flags) > 1:
        ingest["label"] = [column.name for column in flags]
        named = excerpt(", ".join(column.name for column in flags), 60)
        found.because("label", f"{len(flags)} columns of 0 and 1, a class each: {named}")
    elif len(labels) == 1 and not found.task and labels[0].distinct == 1 and not labels[0].lists:
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
    else:
        _refuse_unlabelled(file, found, table, besides)


def _refuse_unlabelled(
    file: str, found: Proposal, table: Mapping[str, Column], besides: Sequence[str | None]
) -> None:
    """Raise UserError if rows without a label are no task by themselves."""
    names = [name for name in table if name not in besides]
    shown = excerpt(", ".join(names), 120)
    if found.task or found.ingest.get("second"):
        named = f"looks like a label: name it by --label ({shown})"
        left = named if names else "is left for a label"
        raise UserError(f"{file}: no column {left}")
    others = [c for c in roles.texts_of(table, besides) if c.name.lower() not in ASIDE]
    if others:
        raise UserError(
            f"{file}: no column looks like a label: name it by --label ({shown}), or take --task"
            " masked_lm to train a base on from the texts alone"
        )


def find_task(
    file: str, found: Proposal, table: Mapping[str, Column], by_format: str, two: bool
) -> None:
    """Settle the task by the label."""
    ingest, label = found.ingest, found.ingest.get("label")
    if by_format in ("squad",) or (
        label in ("answers", "answer") and ingest.get("second") == "context"
    ):
        found.task, reason = "question_answering", "questions with contexts and answers"
    elif label is None:
        found.task, reason = "masked_lm", "there is no label: a base is trained on from the texts"
    elif isinstance(label, list):
        rows = zip(*(table[name].cells for name in label), strict=True)
        several = any(
            sum(cell.strip() in ("1", "1.0", "true", "True") for cell in r) > 1 for r in rows
        )
        found.task, reason = "multilabel", "a row may have several classes"
        reason = reason if several else "a column for each class, though no row has several"
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
    if not label.recurs and not label.lists and label.distinct > 2:
        raise UserError(
            f"{file}: {label.name!r} has {label.distinct:,} values in {len(label.filled):,} rows:"
            " too many for classes: name another column by --label, or the task by --task"
        )
    return ("pair" if two else "classification"), _classes(label)


def _classes(label: Column) -> str:
    """Return the number of classes in cells that hold one each, and the most frequent ones."""
    rows: Counter[str] = Counter()
    for cell, number in label.counts.items():
        names = label.listed(cell)
        if names:
            rows[str(names[0])] += number
    named = ", ".join(excerpt(name, 24) for name, _ in rows.most_common(3))
    more = ", …" if len(rows) > 3 else ""
    return f"{roles.counted(len(rows), 'class')}: {named}{more}"


def _consecutive(label: Column) -> bool:
    """True for the numbers of classes: all from 0 or 1 to the greatest."""
    numbers = {int(float(cell)) for cell in label.counts}
    return min(numbers) in (0, 1) and len(numbers) == max(numbers) - min(numbers) + 1


def find_names(file: str, found: Proposal, cells: Iterable[str]) -> None:
    """Find a file beside the rows that names the numbers of their classes, a class a line."""
    if found.ingest.get("label_names") or not is_local(file) or not watchable(Path(file).parent):
        return
    numbers = {part.strip() for cell in cells for part in cell.strip("[] ").split(",")} - {""}
    if not numbers or not all(map(str.isdecimal, numbers)):
        return
    folder = Path(file).parent
    for path in (folder / name for name in NAMES):
        lines = path.read_text(errors="replace").split("\n") if path.is_file() else []
        names = [line.strip() for line in lines if line.strip()]
        if len(names) > max(map(int, numbers)) and len({*names}) == len(names):
            found.ingest["label_names"] = str(path)
            shown = excerpt(", ".join(names), 60)
            found.because("", f"{path.name} beside it names {len(names)} numbers: {shown}")
            return
