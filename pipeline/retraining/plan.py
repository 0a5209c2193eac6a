"""Decide if a recipe is worth training again, by what has changed since its last version."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, model_validator

from pipeline.core.config import Settings
from pipeline.core.records import Record
from pipeline.retraining.row_changes import Changes, words

INTERVAL = re.compile(r"every ([1-9]\d{0,3}) ?(min|h|d)")
SECONDS = {"min": 60, "h": 3600, "d": 86400}
Channel = Literal["slack", "email", "webhook"]
Kind = Literal["data", "recipe", "base", "code", "pins", "behaviour suites"]


class RetrainParams(Settings):
    schedule: str | None
    """Cron (`0 3 * * 1-5`), `every 6 h` (min, h, d), `manual`, or null for no deployment."""
    timezone: str
    """Time zone of cron times and of the midnight that intervals count from: Europe/Berlin, say."""
    min_new_rows: int = Field(ge=1)
    """Least number of new, corrected, moved or deleted rows for which new data alone is trained."""
    notify: list[Channel]
    """Channels that receive the outcome; their addresses come from the environment."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no time zone is called {self.timezone!r}") from None
        known = self.schedule in (None, "manual") or self.every
        if not known and len(str(self.schedule).split()) != 5:
            raise ValueError(f"{self.schedule!r} is neither cron, `every 6 h`, manual nor null")
        return self

    @property
    def every(self) -> int | None:
        """Seconds between two runs; None for other kinds of schedule."""
        found = INTERVAL.fullmatch(self.schedule or "")
        return int(found[1]) * SECONDS[found[2]] if found else None


class Rescore(Record):
    """Comparison of a version's answers under today's packages with those of its judgement."""

    version: str
    rows: int
    """Texts that were answered both times."""
    changed: int
    """Texts whose label is another now."""
    max_difference: float
    """Largest difference of an answer's score, which is the version's confidence."""
    problem: str = ""
    """Error message if it does not answer under today's packages."""

    @property
    def sentence(self) -> str:
        if self.problem:
            return f"{self.version} does not answer under these versions: {self.problem}"
        if not self.rows:
            return f"{self.version} cannot be re-scored: none of the rows it was judged on is left"
        return (
            f"{self.version} answers {self.rows:,} test rows under these versions:"
            f" {self.changed:,} answers changed, scores by {self.max_difference:.1g} at most"
        )


class Plan(Record):
    """Decision to run a recipe's pipeline or not, and why."""

    recipe: str
    run: bool
    why: str
    """One line."""
    since: str | None
    """Version that today's inputs are compared with."""
    new: list[str]
    """Changes since that version, one line each."""
    changes: Changes | None
    """Changes of the rows, if the source was read again."""
    rescore: Rescore | None

    @property
    def explanation(self) -> str:
        """Reason, and the result of re-scoring the champion if there is one."""
        return f"{self.why}; {self.rescore.sentence}" if self.rescore else self.why


@dataclass(frozen=True)
class Past:
    """A registered version, its last decision, and the inputs that have changed since."""

    version: str
    """RECIPE/NUMBER."""
    fate: str | None
    """`the champion`, or event and reason of its last entry in the ledger; None if it was never
    judged."""
    changed: Mapping[Kind, Sequence[str]] = field(default_factory=dict)
    """Inputs that have changed since, by kind."""
    installed: Sequence[str] = ()
    """Packages of another version than then, if no changed pin explains it."""


def plan(
    params: RetrainParams,
    recipe: str,
    past: Past | None,
    changes: Changes | None = None,
    rescore: Rescore | None = None,
    *,
    force: bool = False,
) -> Plan:
    """Decide if a recipe is trained again, given a past version of it.

    `changes` compares its rows with today's, if data or recipe may have changed them. New data
    alone is worth a training if enough rows changed; any other change always is.
    """

    def decided(run: bool, why: str) -> Plan:
        return Plan(
            recipe=recipe,
            run=run or force,
            why=f"asked for ({why})" if force and not run else why,
            since=past.version if past else None,
            new=new,
            changes=changes,
            rescore=rescore,
        )

    new: list[str] = []
    if past is None:
        return decided(True, "there is no version yet")
    new = [f"{kind}: {', '.join(what)}" for kind, what in past.changed.items() if kind != "data"]
    if changes and (changes.rows or changes.moved):
        new += words(changes)
    elif "data" in past.changed:
        new.append(f"data: {', '.join(past.changed['data'])}")
    if past.installed:
        new.append(f"installed: {', '.join(past.installed)}")
    since = f"since {past.version} ({past.fate or 'never judged'})"
    if past.fate is None and past.changed.keys() <= {"data"}:
        return decided(True, "; ".join([f"{past.version} was never judged: finishing it", *new]))
    if not past.changed:
        return decided(False, f"nothing new {since}")
    if past.changed.keys() == {"data"} and changes is not None:
        classes = changes.added or changes.dropped or changes.renamed or changes.merged
        rows = changes.rows + changes.moved
        if not rows:
            return decided(False, f"nothing new {since}: other bytes, the same rows")
        if rows < params.min_new_rows and not (classes or changes.split):
            return decided(
                False,
                f"{'; '.join(new)} {since}: fewer than the {params.min_new_rows:,} rows that"
                " min_new_rows asks for",
            )
    return decided(True, f"new {since}: {'; '.join(new)}")
