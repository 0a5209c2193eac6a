"""What the gate says of a version, and what the ledger keeps of it.

No stage of the line reads these: they change without a training growing stale.
"""

from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.core import old_names
from pipeline.core.records import Interval, Record

Decision = Literal["promote", "hold", "reject"]
Event = Literal[
    "promote",  # the gate said so, and a person where the recipe asks one
    "override",  # a person against the gate
    "rebaseline",  # a person, where the labels have changed and nothing can be compared
    "rollback",  # a person, to the champion before
    "by hand",  # in MLflow's own pages, past all of this
    "await",  # the gate said promote, a person has yet to
    "hold",
    "reject",
]
MOVES: tuple[Event, ...] = ("promote", "override", "rebaseline", "rollback", "by hand")


class Comparison(Record):
    """Challenger minus champion in one metric, on the same test rows."""

    metric: str
    challenger: float
    champion: float
    difference: Interval
    test: str
    """Name of the test that the p-values are of."""
    p_better: float
    """How likely so good a result is if the challenger is not better (or, where the recipe has a
    margin, is worse by more than that); corrected where several metrics decide."""
    p_worse: float
    """How likely so bad a result is if the challenger is no worse."""
    detectable: float
    """The true difference that this question would have seen in 8 of 10 draws of as many rows."""


class Guardrail(Record):
    """A guardrail: one property besides the metric that decides, and its limit."""

    name: str
    value: float
    limit: float
    unit: str
    held: bool
    note: str


class Verdict(Record):
    """What the gate said of one version, and all that it said it on."""

    model: str
    version: str
    decision: Decision
    reason: str
    champion: str | None
    epoch: int
    """Which frozen test set was asked."""
    question: int
    """How many questions this epoch has answered, this one included; 0 where none was spent."""
    level: float
    """The error rate that this question could spend."""
    rows: int
    scores: dict[str, float]
    """The challenger's metrics, as served, on the epoch's rows."""
    comparisons: list[Comparison]
    only_challenger_right: int
    only_champion_right: int
    """Rows that just that side has right; where rows are not simply right, rows or groups of rows
    on which it is better."""
    guardrails: list[Guardrail]
    rule: dict[str, object]
    """The recipe's gate section."""
    unfit: bool
    """True if what it answers may not count at all: not even a person promotes it then."""
    evidence: dict[str, str]
    """SHA-256 of what was judged: rows, and each side's answers."""

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_rules(cls, content: Any) -> Any:
        """Ledgers hold verdicts by rules of other names, and some that know accuracy and macro-F1
        alone, with a floor of each."""
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
    """A frozen test set: versions are compared on it until so many new rows have come that they
    make the next one."""

    model: str
    number: int
    ids: list[str]
    why: str


class Entry(Record):
    """One line of the ledger: who moved a model's alias, from where to where, and why; or why the
    gate did not."""

    number: int
    """Its place in the ledger, from 1."""
    event: Event
    model: str
    version: str
    """Empty where a hand took the alias away."""
    previous: str | None
    who: str
    when: str
    reason: str
    lineage: str
    decision: Decision | None = None
    """The gate's, where it was asked."""
    epoch: int = 0
    question: int = 0
    evidence: dict[str, str] = Field(default_factory=dict)

    @property
    def moves(self) -> bool:
        """True if it moved the alias."""
        return self.event in MOVES


class Reign(Record):
    """A time for which a version was in use."""

    version: str
    since: str
    until: str | None
    how: Event
    reason: str
    ended: Event | None
