"""True if a recipe is worth training again: what is new since the last version, in plain words."""

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
    """When: cron (`0 3 * * 1-5`), `every 6 h` (min, h, d), `manual`, or null for no deployment."""
    timezone: str
    """Of cron times and of the midnight that intervals count from: Europe/Berlin, for instance."""
    min_new_rows: int = Field(ge=1)
    """Rows that are new, corrected, moved or gone, below which new data alone trains nothing."""
    notify: list[Channel]
    """Who is told how it went; their addresses come from the environment."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no time zone is called {self.timezone!r}") from None
        plain = self.schedule in (None, "manual") or self.every
        if not plain and len(str(self.schedule).split()) != 5:
            raise ValueError(f"{self.schedule!r} is neither cron, `every 6 h`, manual nor null")
        return self

    @property
    def every(self) -> int | None:
        """Seconds between two runs; None where the schedule is another."""
        found = INTERVAL.fullmatch(self.schedule or "")
        return int(found[1]) * SECONDS[found[2]] if found else None


class Rescore(Record):
    """What a version answers under today's versions, beside what it answered when it was judged."""

    version: str
    rows: int
    """Texts that were answered both times."""
    changed: int
    """Of these, answered with another label now."""
    max_difference: float
    """Of an answer's score: how sure the version is of it."""
    problem: str = ""
    """Why it does not answer under them, where it does not."""

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
    """True if a line is run, and why."""

    recipe: str
    run: bool
    why: str
    """One line."""
    since: str | None
    """The version that today's inputs are compared with."""
    new: list[str]
    """What has changed since, a line each."""
    changes: Changes | None
    """Of the rows, where the source was read again."""
    rescore: Rescore | None

    @property
    def told(self) -> str:
        """Why, and how a champion stands that was answered again."""
        return f"{self.why}; {self.rescore.sentence}" if self.rescore else self.why


@dataclass(frozen=True)
class Past:
    """A registered version, and what the gate made of it."""

    version: str
    """RECIPE/NUMBER."""
    fate: str | None
    """`the champion`, or the event and reason of its last line in the ledger; None where it was
    never judged."""
    changed: Mapping[Kind, Sequence[str]] = field(default_factory=dict)
    """Inputs that differ now from its own, by kind."""
    installed: Sequence[str] = ()
    """Packages whose version differs, where pins do not explain it."""


def plan(
    params: RetrainParams,
    recipe: str,
    past: Past | None,
    changes: Changes | None = None,
    rescore: Rescore | None = None,
    *,
    force: bool = False,
) -> Plan:
    """Decide, beside one version of the past; `changes` compares its rows with today's, where data
    or recipe may have changed them.

    New data alone is worth a training where enough rows changed; anything else always is.
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
