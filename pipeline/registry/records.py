"""Records of the gate's verdicts and of the ledger.

No stage of the pipeline reads them, so a change here makes no training stale.
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.core import old_names
from pipeline.core.records import Interval, Record

Decision = Literal["promote", "hold", "reject"]
Event = Literal[
    "promote",  # decided by the gate and, if the recipe requires it, approved by a person
    "override",  # decided by a person against the gate
    "rebaseline",  # decided by a person, as changed labels leave nothing to compare
    "rollback",  # decided by a person: back to the previous champion
    "by hand",  # the alias was moved in MLflow itself, not by bertline
    "await",  # the gate decided to promote, and a person has not approved it yet
    "hold",
    "reject",
]
MOVES: tuple[Event, ...] = ("promote", "override", "rebaseline", "rollback", "by hand")


class Comparison(Record):
    """Comparison of challenger and champion in one metric, on the same test rows."""

    metric: str
    challenger: float
    champion: float
    difference: Interval
    test: str
    """Name of the test of both p-values."""
    p_better: float
    """Probability of a result at least this good if the challenger is not better (with a margin: if
    it is worse by more than the margin); corrected if several metrics decide."""
    p_worse: float
    """Probability of a result at least this bad if the challenger is not worse."""
    detectable: float
    """True difference that this test would find in 8 of 10 draws of as many rows."""


class Guardrail(Record):
    """Value and limit of one property besides the deciding metrics."""

    name: str
    value: float
    limit: float
    unit: str
    held: bool
    note: str


class Verdict(Record):
    """Decision of the gate on one version, with everything that it is based on."""

    model: str
    version: str
    decision: Decision
    reason: str
    champion: str | None
    epoch: int
    """Number of the frozen test set."""
    question: int
    """Number of questions that this epoch has answered, with this one; 0 if none was spent."""
    level: float
    """Error rate that this question could spend."""
    rows: int
    scores: dict[str, float]
    """Metrics of the challenger, as served, on the epoch's rows."""
    comparisons: list[Comparison]
    only_challenger_right: int
    only_champion_right: int
    """Rows that only this side has right; for tasks without right and wrong rows, the rows or
    groups of rows on which it is better."""
    guardrails: list[Guardrail]
    rule: dict[str, object]
    """Gate section of the recipe."""
    unfit: bool
    """True if its answers must not count at all: then not even a person can promote it."""
    evidence: dict[str, str]
    """SHA-256 of what was judged: rows, and each side's answers."""

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_rules(cls, content: Any) -> Any:
        """Read verdicts of earlier releases: their rules have other names, and the oldest have only
        accuracy and macro-F1, with a floor for each."""
        if not isinstance(content, dict):
            return content
        rule = old_names.section("gate", content.get("rule") or {})
        if "scores" in content:
            return content | {"rule": rule}
        metrics = ("accuracy", "macro_f1")
        new = {name: value for name, value in content.items() if name not in metrics}
        new["scores"] = {name: content[name] for name in metrics if name in content}
        floors = {name: rule.pop(f"floor_{name}", None) for name in metrics}
        if floors := {name: floor for name, floor in floors.items() if floor is not None}:
            rule = {"floors": floors} | rule
        return new | {"rule": rule}


class Epoch(Record):
    """A frozen test set, in use until enough new rows have arrived for the next one."""

    model: str
    number: int
    ids: list[str]
    why: str


class Entry(Record):
    """Entry of the ledger: who moved a model's alias, from and to which version, and why; or why
    the gate did not move it."""

    number: int
    """Position in the ledger, from 1."""
    event: Event
    model: str
    version: str
    """Empty if the alias was removed in MLflow itself."""
    previous: str | None
    who: str
    when: str
    reason: str
    lineage: str
    decision: Decision | None = None
    """Decision of the gate, if it was asked."""
    epoch: int = 0
    question: int = 0
    evidence: dict[str, str] = Field(default_factory=dict)

    @property
    def moves(self) -> bool:
        """True if it moved the alias."""
        return self.event in MOVES


class Reign(Record):
    """Period in which a version was the champion."""

    version: str
    since: str
    until: str | None
    how: Event
    reason: str
    ended: Event | None
