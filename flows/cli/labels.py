"""What `bertline labels` does: feedback becomes training rows, in data/labels/<recipe>.jsonl.

It takes what the model was least sure of: uncertainty sampling (Lewis and Gale 1994), by the
confidence of the answer alone. That an answer was wrong does not put it first. People send what
struck them as wrong, so the errors are many, alike, and no fair sample; and where a sure answer is
contradicted, it is often the label that errs (Northcutt et al. 2021). Unsure answers lie where
classes meet, and a label tells most there. Answers of unknown confidence come last.
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
from pipeline.sources.tables import read_json_lines
from pipeline.stages.validate.params import ValidateParams
from pipeline.stages.validate.stage import CONTROL
from pipeline.tasks.base import Task

SHOWN = 5  # of the refused
Key = str
"""A text, or both, as validate finds copies by it."""


@dataclass(frozen=True)
class Seen:
    """A label that a text has already, and where."""

    label: str
    file: str
    line: int
    when: str = ""


@dataclass(frozen=True)
class Known:
    """What a recipe's rows say already."""

    rows: Mapping[Key, Sequence[Seen]] = field(default_factory=dict)
    classes: frozenset[str] = frozenset()
    """Empty where there are none, or nobody knows them yet."""


@dataclass
class Choice:
    """What becomes of feedback."""

    taken: list[Feedback] = field(default_factory=list)
    """In the order in which it came."""
    known: int = 0
    """Of texts that the recipe's rows have, under the same label."""
    already: int = 0
    """Of texts that data/labels has, under the same label or a later one."""
    surer: int = 0
    """Beyond the number that was asked for."""
    refused: list[str] = field(default_factory=list)
    """One line each, with file and line."""


def labels(recipe: str, most: int, folder: Path, *, dry: bool) -> None:
    """Take up to `most` words of feedback from `folder` into the recipe's rows, and say so; with
    `dry`, only say so.

    Raises UserError where there is no feedback, or a file of it or of labels is broken.
    """
    block = read_recipe(recipe)
    task = read_task(block.get("task"), f"recipes.{recipe}.task")
    rules = parse(ValidateParams, block.get("validate"), f"recipes.{recipe}.validate")
    retrain = parse(RetrainParams, block.get("retrain"), f"recipes.{recipe}.retrain")
    source, target = file_of(folder, recipe), LABELS / f"{recipe}.jsonl"
    rows = ingested(recipe)
    with _no_ingest(recipe):
        words = list(numbered(source, log=Console("labels")))
        newest = {key_of(f.text, f.second): (line, f) for line, f in words if f.consent}
        lines, there = read_labels(target)
        known = Known(classes=frozenset(rules.labels or ()))
        if rows:
            known = known_rows(rows, newest, task, rules, target)
        choice = choose(source, newest, task, rules, known, there, most)
        if choice.taken and not dry:
            write_text(target, "".join(_with(lines, there, choice.taken)))
    silent = sum(not feedback.consent for _, feedback in words)
    print(f"{source}: {len(words):,} sent, {silent:,} without consent, {len(newest):,} texts")
    print("\n".join(_told(choice, task, target)))
    if not rows:
        print(f"note: no rows are here to compare with: bertline run {recipe} reads them")
    if dry:
        print("nothing has been written: without --dry-run it is")
    elif choice.taken:
        print(
            f"next: bertline run {recipe}, or a scheduled retraining: committed or not, they are"
            f" new rows, of which {retrain.min_new_rows:,} are worth one"
        )


def key_of(text: str, second: str) -> Key:
    return normalised(join_texts(text, second))


def ingested(recipe: str) -> Path | None:
    """Ingest's table, of a run here or of a scheduled one, whichever is the later."""
    homes = (home / DATA / recipe / "ingest" for home in (Path(), TREES / recipe))
    tables = [home / "rows.parquet" for home in homes if (home / "rows.parquet").exists()]
    return max(tables, key=lambda table: table.stat().st_mtime, default=None)


@contextmanager
def _no_ingest(recipe: str) -> Iterator[None]:
    """Nobody reads or writes the labels meanwhile: neither ingest, nor forget, nor another call."""
    lock = STATE / "locks" / f"{recipe}.ingest.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise UserError(f"{lock}: the labels are being read: wait for the end of it") from None


def read_labels(path: Path) -> tuple[list[str], dict[Key, Seen]]:
    """The lines of a file of labels, and what they say of each text.

    Raises UserError for a line that is no row: it is written again as a whole.
    """
    if not path.exists():
        return [], {}
    there = {}
    for row in read_json_lines(path, str(path), ("text", "label")):
        if isinstance(row, Reject):
            raise UserError(f"{path}, line {row.number}: {row.reason}: mend or delete that line")
        text, second, label, when = (
            row.fields.get(name, "") for name in ("text", "second", "label", "when")
        )
        there[key_of(text, second)] = Seen(label, str(path), row.number, when)
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        return [line.removesuffix("\n") + "\n" for line in file], there


def known_rows(
    path: Path, texts: Iterable[Key], task: Task, rules: ValidateParams, labels: Path
) -> Known:
    """What ingest's table says of these texts, but for rows that came from `labels`."""
    import pandas as pd

    wanted = set(texts)
    frame = pd.read_parquet(path, columns=["text", "second", "label", "split", "file", "line"])
    frame = frame[(frame["file"] != str(labels)) & (frame["label"] != "")]
    taught = frame.loc[frame["split"] == "train", "label"].unique()
    rows: dict[Key, list[Seen]] = {}
    columns = (frame[name].tolist() for name in ("text", "second", "label", "file", "line"))
    for text, second, label, file, line in zip(*columns, strict=True):
        if (key := key_of(text, second)) in wanted:
            rows.setdefault(key, []).append(Seen(label, file, line))
    names = frozenset(name for label in taught for name in task.classes(label))
    return Known(rows, frozenset(rules.labels or names))


def choose(
    source: Path,
    newest: Mapping[Key, tuple[int, Feedback]],
    task: Task,
    rules: ValidateParams,
    known: Known,
    there: Mapping[Key, Seen],
    most: int,
) -> Choice:
    """Sort feedback into what is taken, left and refused; `newest` is the last word on each text,
    with its line in `source`.

    A label that contradicts a row of the source is refused: one of the two is wrong, and `validate`
    would set both aside or end the line. It is the row that a person may have to mend.
    """
    choice = Choice()
    fit: list[tuple[int, Feedback]] = []
    for key, (line, feedback) in newest.items():
        try:
            word = _checked(feedback, task, rules, known)
        except (ValueError, RecursionError) as error:
            choice.refused.append(f"{source}, line {line}: {' '.join(str(error).split())}")
            continue
        rows, old = known.rows.get(key, ()), there.get(key)
        if other := next((row for row in rows if row.label != word.label), None):
            choice.refused.append(
                f"{source}, line {line}: says {excerpt(word.label)!r}, where {other.file},"
                f" line {other.line}, says {excerpt(other.label)!r}: mend that row if it is wrong"
            )
        elif rows:
            choice.known += 1
        elif old and (old.label == word.label or old.when >= word.when):
            choice.already += 1
        else:
            fit.append((line, word))
    fit.sort(key=lambda each: (each[1].score is None, each[1].score or 0.0, -each[0]))
    choice.surer = len(fit[most:])
    choice.taken = [word for _, word in sorted(fit[:most], key=lambda each: each[0])]
    return choice


def _checked(feedback: Feedback, task: Task, rules: ValidateParams, known: Known) -> Feedback:
    """Feedback with its label as the task writes it today.

    Raises ValueError for what would be no row to train on.
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
    unknown = set(task.classes(label)) - known.classes
    if known.classes and unknown:
        raise ValueError(f"the recipe has no class {excerpt(min(unknown))!r}")
    return feedback.model_copy(update={"label": label})


def _with(lines: list[str], there: Mapping[Key, Seen], taken: Sequence[Feedback]) -> list[str]:
    """The lines of a file of labels with these: a later word takes the place of an earlier one."""
    new = list(lines)
    for word in taken:
        texts = {"text": word.text, "second": word.second, "label": word.label}
        row = {**texts, "id": word.id, "version": word.version, "when": word.when}
        line = json.dumps(row, ensure_ascii=False) + "\n"
        if old := there.get(key_of(word.text, word.second)):
            new[old.line - 1] = line
        else:
            new.append(line)
    return new


def _told(choice: Choice, task: Task, target: Path) -> Iterator[str]:
    counts = Counter(name for word in choice.taken for name in task.classes(word.label))
    named = ", ".join(f"{name} {rows:,}" for name, rows in counts.most_common())
    scores = [word.score for word in choice.taken if word.score is not None]
    sure = f"; confidence {min(scores):.2f} to {max(scores):.2f}" if scores else ""
    parts = f" ({excerpt(named, 160)})" if named else ""
    yield f"taken   {len(choice.taken):,} into {target}{parts}{sure}"
    reasons = {
        "whose text and label are among the rows already": choice.known,
        f"that {target} has already": choice.already,
        "that the model was surer of: the next call takes them": choice.surer,
    }
    yield from (f"left    {count:,} {why}" for why, count in reasons.items() if count)
    yield from (f"refused {line}" for line in choice.refused[:SHOWN])
    if more := len(choice.refused[SHOWN:]):
        yield f"refused {more:,} more"
