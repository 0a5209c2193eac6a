"""Selection of feedback as training rows in data/labels/<recipe>.jsonl, for `bertline labels`.

Answers with the lowest confidence are taken first: uncertainty sampling (Lewis and Gale 1994).
They lie where classes meet, so their labels are worth most. Wrong answers have no priority: people
mostly send errors, so these are many, alike and no fair sample; and if feedback contradicts a
confident answer, its label is often the one that is wrong (Northcutt et al. 2021). Answers of
unknown confidence come last.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from flows.worktree import TREES
from pipeline.core.config import parse, read_recipe, read_task
from pipeline.core.errors import UserError
from pipeline.core.files import write_text
from pipeline.core.log import Console
from pipeline.core.text import excerpt, join_texts, normalised
from pipeline.core.workspace import DATA, LABELS, STATE
from pipeline.retraining.plan import RetrainParams
from pipeline.serving.feedback import Feedback, file_of, numbered
from pipeline.sources import Reject
from pipeline.sources.json_records import read_json
from pipeline.stages.validate.params import ValidateParams
from pipeline.stages.validate.survey import CONTROL
from pipeline.tasks.base import Task

SHOWN = 5  # refused lines that are printed
Key = str
"""Normalised text or pair of texts, by which validate finds copies."""


@dataclass(frozen=True)
class ExistingLabel:
    """Label that a text already has, and its place."""

    label: str
    file: str
    line: int
    when: str = ""


@dataclass(frozen=True)
class Existing:
    """Labels and classes of a recipe's rows."""

    rows: Mapping[Key, Sequence[ExistingLabel]] = field(default_factory=dict)
    classes: frozenset[str] = frozenset()
    """Empty if the task has none, or they are not known yet."""


@dataclass
class Choice:
    """Feedback that is taken, and counts of the rest."""

    taken: list[Feedback] = field(default_factory=list)
    """Feedback in order of arrival."""
    known: int = 0
    """Number of texts that the recipe's rows have with the same label."""
    already: int = 0
    """Number of texts that data/labels has with the same label or a later one."""
    surer: int = 0
    """Number of texts beyond the limit, with higher confidence."""
    refused: list[str] = field(default_factory=list)
    """Reason of each refusal, with file and line."""


def labels(recipe: str, most: int, folder: Path, *, dry: bool) -> None:
    """Add up to `most` texts of feedback from `folder` to the recipe's rows, and print a summary;
    with `dry`, only print it.

    Raises UserError if there is no feedback, or a file of feedback or labels is invalid.
    """
    block = read_recipe(recipe)
    task = read_task(block.get("task"), f"recipes.{recipe}.task")
    rules = parse(ValidateParams, block.get("validate"), f"recipes.{recipe}.validate")
    retrain = parse(RetrainParams, block.get("retrain"), f"recipes.{recipe}.retrain")
    source, target = file_of(folder, recipe), LABELS / f"{recipe}.jsonl"
    rows = ingested(recipe)
    with _no_ingest(recipe):
        sent = list(numbered(source, log=Console("labels")))
        newest = {key_of(f.text, f.second): (line, f) for line, f in sent if f.consent}
        lines, labelled = read_labels(target)
        existing = Existing(classes=frozenset(rules.labels or ()))
        if rows:
            existing = existing_rows(rows, newest, task, rules, target)
        choice = choose(source, newest, task, rules, existing, labelled, most)
        if choice.taken and not dry:
            write_text(target, "".join(_merged(lines, labelled, choice.taken)))
    silent = sum(not feedback.consent for _, feedback in sent)
    print(f"{source}: {len(sent):,} sent, {silent:,} without consent, {len(newest):,} texts")
    print("\n".join(_summary(choice, task, target)))
    if not rows:
        print(f"note: there are no rows to compare with: bertline run {recipe} reads them")
    if dry:
        print("nothing has been written: leave out --dry-run to write it")
    elif choice.taken:
        print(
            f"next: bertline run {recipe}, or a scheduled retraining: it starts at"
            f" {retrain.min_new_rows:,} new rows, these included, committed or not"
        )


def key_of(text: str, second: str) -> Key:
    return normalised(join_texts(text, second))


def ingested(recipe: str) -> Path | None:
    """Return the latest table of ingest, of a run here or of a scheduled one."""
    homes = (home / DATA / recipe / "ingest" for home in (Path(), TREES / recipe))
    tables = [home / "rows.parquet" for home in homes if (home / "rows.parquet").exists()]
    return max(tables, key=lambda table: table.stat().st_mtime, default=None)


@contextmanager
def _no_ingest(recipe: str) -> Iterator[None]:
    """Hold the lock of ingest, so ingest, forget and other calls do not use the labels."""
    lock = STATE / "locks" / f"{recipe}.ingest.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise UserError(f"{lock}: another process is using the labels: wait for its end") from None


def read_labels(path: Path) -> tuple[list[str], dict[Key, ExistingLabel]]:
    """Read a file of labels. Returns its lines and the label of each text.

    Raises UserError for a line that is no row, since the whole file is written again.
    """
    if not path.exists():
        return [], {}
    labelled = {}
    for row in read_json(path, str(path), ("text", "label")):
        if isinstance(row, Reject):
            raise UserError(f"{path}, line {row.number}: {row.reason}: fix or delete that line")
        text, second, label, when = (
            row.fields.get(name, "") for name in ("text", "second", "label", "when")
        )
        labelled[key_of(text, second)] = ExistingLabel(label, str(path), row.number, when)
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        return [line.removesuffix("\n") + "\n" for line in file], labelled


def existing_rows(
    path: Path, texts: Iterable[Key], task: Task, rules: ValidateParams, labels: Path
) -> Existing:
    """Read the labels of texts from the table of ingest, except rows that came from `labels`."""
    import pandas as pd

    wanted = set(texts)
    frame = pd.read_parquet(path, columns=["text", "second", "label", "split", "file", "line"])
    frame = frame[(frame["file"] != str(labels)) & (frame["label"] != "")]
    taught = frame.loc[frame["split"] == "train", "label"].unique()
    rows: dict[Key, list[ExistingLabel]] = {}
    columns = (frame[name].tolist() for name in ("text", "second", "label", "file", "line"))
    for text, second, label, file, line in zip(*columns, strict=True):
        if (key := key_of(text, second)) in wanted:
            rows.setdefault(key, []).append(ExistingLabel(label, file, line))
    names = frozenset(name for label in taught for name in task.classes(label))
    return Existing(rows, frozenset(rules.labels or names))


def choose(
    source: Path,
    newest: Mapping[Key, tuple[int, Feedback]],
    task: Task,
    rules: ValidateParams,
    existing: Existing,
    labelled: Mapping[Key, ExistingLabel],
    most: int,
) -> Choice:
    """Sort feedback into taken, left and refused; `newest` is the last feedback on each text, with
    its line in `source`.

    A label that contradicts a row of the source is refused: one of the two is wrong, and `validate`
    would set both aside or stop. A person may have to correct the row.
    """
    choice = Choice()
    fit: list[tuple[int, Feedback]] = []
    for key, (line, feedback) in newest.items():
        try:
            checked = _checked(feedback, task, rules, existing)
        except (ValueError, RecursionError) as error:
            choice.refused.append(f"{source}, line {line}: {' '.join(str(error).split())}")
            continue
        rows, old = existing.rows.get(key, ()), labelled.get(key)
        if other := next((row for row in rows if row.label != checked.label), None):
            choice.refused.append(
                f"{source}, line {line}: says {excerpt(checked.label)!r}, where {other.file},"
                f" line {other.line}, says {excerpt(other.label)!r}: fix that row if it is wrong"
            )
        elif rows:
            choice.known += 1
        elif old and (old.label == checked.label or old.when >= checked.when):
            choice.already += 1
        else:
            fit.append((line, checked))
    fit.sort(key=lambda each: (each[1].score is None, each[1].score or 0.0, -each[0]))
    choice.surer = len(fit[most:])
    choice.taken = [feedback for _, feedback in sorted(fit[:most], key=lambda each: each[0])]
    return choice


def _checked(feedback: Feedback, task: Task, rules: ValidateParams, existing: Existing) -> Feedback:
    """Return the feedback with its label as the task writes it.

    Raises ValueError if it is no row to train on.
    """
    if bool(feedback.second) != task.two_texts:
        raise ValueError("it has a second text" if feedback.second else "it has no second text")
    for text in (feedback.text, feedback.second)[: 1 + task.two_texts]:
        if not text.strip():
            raise ValueError("its text is blank")
        if re.search(CONTROL, text):
            raise ValueError("its text has control characters")
        if len(text) > rules.max_characters:
            raise ValueError(f"its text has {len(text):,} characters")
    if not feedback.label:
        raise ValueError("it has no label")
    label = task.label(feedback.label, feedback.text, feedback.second)
    unknown = set(task.classes(label)) - existing.classes
    if existing.classes and unknown:
        raise ValueError(f"the recipe has no class {excerpt(min(unknown))!r}")
    return feedback.model_copy(update={"label": label})


def _merged(
    lines: list[str], labelled: Mapping[Key, ExistingLabel], taken: Sequence[Feedback]
) -> list[str]:
    """Add feedback to the lines of a file of labels, or replace the line of the same text."""
    new = list(lines)
    for each in taken:
        texts = {"text": each.text, "second": each.second, "label": each.label}
        row = {**texts, "id": each.id, "version": each.version, "when": each.when}
        line = json.dumps(row, ensure_ascii=False) + "\n"
        if old := labelled.get(key_of(each.text, each.second)):
            new[old.line - 1] = line
        else:
            new.append(line)
    return new


def _summary(choice: Choice, task: Task, target: Path) -> Iterator[str]:
    counts = Counter(name for each in choice.taken for name in task.classes(each.label))
    named = ", ".join(f"{name} {rows:,}" for name, rows in counts.most_common())
    scores = [each.score for each in choice.taken if each.score is not None]
    sure = f"; confidence {min(scores):.2f} to {max(scores):.2f}" if scores else ""
    parts = f" ({excerpt(named, 160)})" if named else ""
    yield f"taken   {len(choice.taken):,} into {target}{parts}{sure}"
    reasons = {
        "whose text and label are in the rows already": choice.known,
        f"that {target} has already": choice.already,
        "with a higher confidence: the next call takes them": choice.surer,
    }
    yield from (f"left    {count:,} {why}" for why, count in reasons.items() if count)
    yield from (f"refused {line}" for line in choice.refused[:SHOWN])
    if more := len(choice.refused[SHOWN:]):
        yield f"refused {more:,} more"
