"""Columns of the texts of a file of rows."""

from collections.abc import Mapping

from flows.cli.proposals import columns as roles
from flows.cli.proposals.columns import Column
from flows.cli.proposals.layout import columns_of_parallel
from flows.cli.proposals.values import Proposal
from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.text import excerpt


def find_texts(
    file: str, found: Proposal, table: Mapping[str, Column], task: str | None
) -> tuple[str, ...]:
    """Settle the columns of the text and of the second text, and return their names. Raises
    UserError where the second text of the task cannot be decided."""
    ingest = found.ingest
    if ingest.get("format") == "parallel":
        _parallel(file, found)
    elif ingest.get("format") == "token_rows" and not ingest.get("text"):
        ingest["text"] = "text"
        found.because("text", "'text': the tokens of a sentence")
    elif not ingest.get("text"):
        _one_or_two(file, found, table, task)
    if task and tasks.get(task).two_texts and not ingest.get("second"):
        others = roles.texts_of(table, [ingest["text"], ingest.get("label")])
        long = 0.2 * table[ingest["text"]].mean
        names = [c.name for c in others if c.mean >= long and not c.classes]
        if len(names) != 1:
            shown = excerpt(", ".join(names or table), 120)
            raise UserError(f"{file}: {task} reads two texts: name the other by --second ({shown})")
        ingest["second"] = names[0]
        found.because("second", f"{names[0]!r}: the only other column that looks like a text")
    return (ingest["text"], *([ingest["second"]] if ingest.get("second") else []))


def _parallel(file: str, found: Proposal) -> None:
    ingest = found.ingest
    own, *others = columns_of_parallel(file)
    ingest.setdefault("text", own)
    if not ingest.get("label") and len(others) > 1:
        names = ", ".join(others)
        raise UserError(f"{file}: name the language of the translation by --label: {names}")
    ingest.setdefault("label", others[0])
    found.because("text", f"{ingest['text']!r}, and its translation {ingest['label']!r}")
    if not found.task:
        found.task = "translation"
        found.because("task", "translation: a file for each language")


def _one_or_two(file: str, found: Proposal, table: Mapping[str, Column], task: str | None) -> None:
    """Settle the columns of the texts by their names and by what they hold."""
    ingest = found.ingest
    second = ingest.get("second")
    two = task is None or tasks.get(task).two_texts
    if {"question", "context"} <= table.keys() and two and not second:
        ingest.update({"text": "question", "second": "context"})
        found.because("text", "'question' with the second text 'context'")
    elif _ranking(found, table, task) or _translation(found, table, task):
        return
    elif two and not second and (pair := roles.find_pair(table)):
        ingest.update({"text": pair[0].name, "second": pair[1].name})
        found.because("text", f"{pair[0].name!r} with the second text {pair[1].name!r}")
    else:
        label = ingest.get("label")
        besides = [ingest.get("split"), ingest.get("group"), second]
        besides += label if isinstance(label, list) else [label]
        column = roles.find_text(table, besides)
        if column is None:
            names = excerpt(", ".join(table), 120)
            raise UserError(f"{file}: no column looks like a text: name it by --text ({names})")
        ingest["text"] = column.name
        found.because("text", f"{column.describe()}, {column.mean:.0f} in the mean")


def _ranking(found: Proposal, table: Mapping[str, Column], task: str | None) -> bool:
    """Settle a ranking by the names of its columns; False if it is none."""
    ingest = found.ingest
    if task and not tasks.get(task).by_group:
        return False
    if any(ingest.get(key) for key in ("second", "label", "group")):
        return False
    if (columns := roles.find_ranking(table)) is None:
        return False
    group, query, candidate, grade = (column.name for column in columns)
    ingest.update({"text": query, "second": candidate, "label": grade, "group": group})
    found.because("text", f"{query!r} with the candidate {candidate!r}, graded by {grade!r}")
    found.because("group", columns[0].describe())
    if not found.task:
        found.task = "ranking"
        found.because("task", "ranking: queries recur with other candidates and grades")
    return True


def _translation(found: Proposal, table: Mapping[str, Column], task: str | None) -> bool:
    """Settle a text and its translation; False if the file holds none, or labels."""
    ingest = found.ingest
    if (task and not _takes_texts(task)) or ingest.get("second") or ingest.get("label"):
        return False
    pair = roles.find_translation(table)
    if not pair or roles.find_labels(table, [column.name for column in pair]):
        return False
    ingest.update({"text": pair[0].name, "label": pair[1].name})
    found.because("text", f"{pair[0].name!r}, and its translation {pair[1].name!r}")
    if not found.task:
        found.task = "translation"
        found.because("task", "translation: two texts in different languages, and no label")
    return True


def _takes_texts(name: str) -> bool:
    """True if the label of a task may be any text."""
    task = tasks.get(name)
    return task.labelled and not (
        task.exclusive or task.many_classes or task.two_texts or task.offsets
    )
