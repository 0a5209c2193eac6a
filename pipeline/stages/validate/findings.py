"""Findings on ingested rows: the rows that each rule flags, and what stops a run.

`validate` refuses by them, `bertline check` foresees them, `bertline new` proposes policies by
them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.core.log import Log, no_log
from pipeline.core.records import SPLITS
from pipeline.core.text import excerpt
from pipeline.stages.validate import label_notes, shortfalls
from pipeline.stages.validate.params import RULES, ValidateParams
from pipeline.stages.validate.rules import fate_of, flag, flag_unknown, labels_of, trained
from pipeline.stages.validate.survey import survey
from pipeline.tasks.base import Task

if TYPE_CHECKING:
    import pandas as pd

FIRST = 3  # rows that a finding names


class Place(NamedTuple):
    """A row and what a rule says of it."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


@dataclass(frozen=True)
class Finding:
    """Rows that one rule flags."""

    rule: str
    policy: str
    rows: int
    """Number of rows that it flags; a row can be flagged by several rules."""
    share: float
    """Share of all rows, in [0, 1]."""
    refused: int
    """Number of these rows that stop the run: the policy is `fail`, and no other rule sets them
    aside."""
    first: list[Place]
    """The first of them, at most FIRST: of those that stop the run if there are any."""

    @property
    def stops(self) -> bool:
        """True if the run would stop."""
        return self.refused > 0


@dataclass(frozen=True)
class Examination:
    """All rows with their flags, and what follows from them."""

    frame: "pd.DataFrame"
    """A line for each row and reject: the columns of the survey, a flag for each rule, and `fate`,
    the rule that sets it aside or an empty string."""
    params: ValidateParams
    task: Task
    classes: Mapping[str, Sequence[str]]
    """Classes in each label."""
    labels: list[str]
    """Classes in the model's order."""

    @property
    def policies(self) -> dict[str, str]:
        return self.params.rules.model_dump()

    @property
    def source(self) -> str:
        """File of the first row."""
        return str(self.frame["file"].iloc[0])

    @cached_property
    def kept(self) -> "pd.DataFrame":
        return self.frame[self.frame["fate"] == ""]

    @property
    def fewest_kept(self) -> int:
        """Least number of rows that `max_quarantine_percent` leaves."""
        percent = 100 - self.params.max_quarantine_percent
        return max(1, -int(-len(self.frame) * percent // 100))

    def findings(self) -> list[Finding]:
        """Findings of the rules that flag rows, in the order of the rules."""
        return [self._finding(rule) for rule in RULES if self.frame[rule].any()]

    def _finding(self, rule: str) -> Finding:
        flagged = self.frame[self.frame[rule]]
        policy = self.policies[rule]
        refused = flagged[flagged["fate"] == ""] if policy == "fail" else flagged[:0]
        shown = refused if len(refused) else flagged
        return Finding(
            rule=rule,
            policy=policy,
            rows=len(flagged),
            share=len(flagged) / len(self.frame),
            refused=len(refused),
            first=self._places(shown, rule),
        )

    def _places(self, rows: "pd.DataFrame", rule: str) -> list[Place]:
        return [
            Place(str(row["file"]), int(row["line"]), self._reason(place, row, rule))
            for place, row in zip(rows.index[:FIRST], rows[:FIRST].to_dict("records"), strict=True)
        ]

    def _reason(self, place: int, row: dict[Any, Any], rule: str) -> str:
        """Return what a rule says of a row."""
        match rule:
            case "undecodable":
                return str(row["reason"])
            case "unlabelled":
                return "no label"
            case "unknown_label":
                told = f"label {excerpt(row['outside'])!r} is not in validate.labels or in no"
                other = label_notes.near_name(row["outside"], self.labels)
                hint = f"; {excerpt(other)!r} is" if other and other != row["outside"] else ""
                return f"{told} training row{hint}"
            case "too_long":
                return f"{row['most_characters']:,} characters"
            case "conflicting_labels" | "duplicate":
                return self._copied(place, row, rule)
            case "leak" | "near_duplicate":
                return f"{rule.replace('_', ' ')}, copy in {row['leaks_to']}"
            case _:
                return rule.replace("_", " ")

    def _copied(self, place: int, row: dict[Any, Any], rule: str) -> str:
        """Return the reason of a row with a copy elsewhere, which it names."""
        frame, name = self.frame, rule.replace("_", " ")
        same = (frame["key"] == row["key"]) & ~frame["undecodable"] & ~frame["blank"]
        if self.task.by_group:
            same &= frame["group"] == row["group"]
        if rule == "duplicate":
            others = frame[same & (frame["split"] == row["split"]) & ~frame[rule]]
        else:
            others = frame[same & frame[rule] & (frame["label"] != row["label"])]
        others = others[others.index != place]
        if others.empty:
            return name
        other = others.iloc[0]
        file = "" if other["file"] == row["file"] else f"{other['file']}, "
        where = f"{file}line {other['line']}"
        if rule == "duplicate":
            return f"{name} of {where}"
        return (
            f"{name}, {excerpt(row['label'], 40)!r} and {excerpt(other['label'], 40)!r} in {where}"
        )

    def shortfalls(self) -> list[str]:
        """Sentences on what is missing in the kept rows, without which a run would stop."""
        if not self.task.outputs(self.labels):
            lost = self._taken(self.frame)
            return [f"no training row has a class: there is nothing to learn{lost}"]
        kept, told = self.kept, []
        if len(kept) < self.fewest_kept:
            told.append(shortfalls.rows(len(kept), self.fewest_kept, len(self.frame)))
        if self.task.labelled and (labels := kept["label"].nunique()) < 2:
            told.append(shortfalls.labels(labels))
        if told:
            told[0] += self._taken(self.frame)
        for split in SPLITS:
            number = int((kept["split"] == split).sum())
            if number < self.params.min_rows:
                of = self.frame[self.frame["split"] == split]
                taken = "" if told else self._taken(of)
                told.append(shortfalls.split(split, number, self.params.min_rows) + taken)
        return told

    def _taken(self, rows: "pd.DataFrame") -> str:
        """Return which rule sets aside most of some rows, and the first one; empty if none does."""
        fates = Counter(rows["fate"])
        del fates[""]
        if not fates:
            return ""
        rule, number = fates.most_common(1)[0]
        [first, *_] = self._places(rows[rows["fate"] == rule], rule)
        return f" (most by {rule}: {number:,}, first {first})"

    def notes(self) -> list[str]:
        """Sentences on classes that are likely mistakes; none for tasks without classes."""
        return label_notes.notes(
            self.counts(self.frame), self.counts(self.kept), self.task.exclusive
        )

    def counts(self, rows: "pd.DataFrame") -> label_notes.Counts:
        """Count the rows of each class in each split."""
        counts: dict[str, Counter[str]] = {}
        pairs = rows.value_counts(["label", "split"]).reset_index(name="rows")
        columns = (pairs[name] for name in ("label", "split", "rows"))
        for label, split, number in zip(*columns, strict=True):
            for name in dict.fromkeys(self.classes.get(label, ())):
                counts.setdefault(name, Counter())[split] += int(number)
        return counts


def examine(
    params: ValidateParams, task: Task, ingest: Path, log: Log = no_log, *, near: bool = True
) -> Examination:
    """Read the rows that ingest wrote into a folder, and flag them by all rules; unless `near`, by
    all but `near_duplicate`, whose search takes the most time and memory.

    Raises UserError for columns and settings that cannot be used.
    """
    frame = survey(params, task, ingest, log)
    classes = {label: task.classes(label) for label in frame["label"].unique() if label}
    labels = labels_of(params, frame, classes)
    texts = ingest / "rows.parquet" if near else None
    flag(frame, params, task, labels, classes, texts, log)
    policies = params.rules.model_dump()
    frame["fate"] = fate_of(frame, policies)
    kept = frame[frame["fate"] == ""]
    if trained(kept, classes) != trained(frame, classes):  # all rows of a class were set aside
        labels = labels_of(params, kept, classes)
        flag_unknown(frame, trained(kept, classes) & set(labels), classes)
        frame["fate"] = fate_of(frame, policies)
    return Examination(frame, params, task, classes, labels)


def findings(
    rows_folder: Path, params: ValidateParams, task: Task, log: Log = no_log
) -> list[Finding]:
    """Return the findings on the rows that ingest wrote into a folder, in the order of the rules;
    rules that flag no row have none. Raises UserError as `examine`."""
    return examine(params, task, rows_folder, log).findings()
