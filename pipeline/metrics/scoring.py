"""Scores with intervals, from what each row adds to them.

A task's metrics are functions of sums of tallies over rows. Resampling rows with replacement is the
same as drawing how often each *different* tally comes from a multinomial, so a bootstrap of
thousands of resamples costs what there are different tallies, whatever the number of rows
(Efron 1979).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.core.records import Interval

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Measure = Callable[[Floats], dict[str, Floats]]
RESAMPLES = 4000
TIE = 1e-12  # of two scores that differ by rounding alone
MOST_NUMBERS = 4_000_000  # held at once while resampling
QUARTERS = (0.25, 0.5, 0.75)


class Scored(Protocol):
    """What of a task is asked here."""

    by_group: ClassVar[bool]
    exact: ClassVar[str | None]

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats: ...

    def measure(self, tallies: Floats) -> dict[str, Floats]: ...

    def per_unit_score(self, tallies: Floats) -> Floats: ...


@dataclass(frozen=True)
class Tallies:
    """What each unit (a row, or a group where the task scores groups) adds to the scores."""

    table: Floats
    """The different tallies, (different, counts)."""
    place: Labels
    """Which one is each unit's, (units,)."""

    def __len__(self) -> int:
        return len(self.place)

    @property
    def rows(self) -> Floats:
        """(units, counts)"""
        return np.asarray(self.table[self.place])

    def of(self, units: npt.NDArray[np.bool_]) -> "Tallies":
        return Tallies(self.table, self.place[units])

    def total(self) -> Floats:
        """(counts,)"""
        return np.asarray(np.bincount(self.place, minlength=len(self.table)) @ self.table)


def tallies(
    task: Scored,
    truths: Sequence[str],
    answers: Sequence[str],
    classes: Sequence[str],
    groups: Sequence[str] = (),
) -> Tallies:
    """Tally every row, or every group where the task scores groups; each different one once."""
    units: list[tuple[tuple[str, ...], tuple[str, ...]]]
    if task.by_group:
        members: dict[str, list[int]] = {}
        for row, group in enumerate(groups):
            members.setdefault(group, []).append(row)
        units = [
            (tuple(truths[i] for i in rows), tuple(answers[i] for i in rows))
            for rows in members.values()
        ]
    else:
        units = [((t,), (a,)) for t, a in zip(truths, answers, strict=True)]
    number = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    each = np.array([task.tally(*unit, classes) for unit in number], dtype=np.float64)
    table, same = distinct(each)
    return Tallies(table, same[np.array([number[unit] for unit in units], dtype=np.int64)])


def grouped(rows: Tallies, groups: Sequence[str]) -> Tallies:
    """Whole groups as units: each the sum of its rows' tallies."""
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), rows.table.shape[1]))
    np.add.at(sums, group, rows.rows)
    return Tallies(*distinct(sums))


def distinct(rows: Floats) -> tuple[Floats, Labels]:
    """The different rows of a table, and which of them each row is."""
    if not len(rows):
        return rows.reshape(0, 0), np.zeros(0, dtype=np.int64)
    table, place = np.unique(rows, axis=0, return_inverse=True)
    return table, place.ravel().astype(np.int64)


def metrics(measure: Measure, tallied: Tallies) -> dict[str, float]:
    return {name: float(value) for name, value in measure(tallied.total()).items()}


def intervals(measure: Measure, tallied: Tallies, seed: int = 0) -> dict[str, Interval]:
    """Every metric and its 95 % percentile-bootstrap interval over units."""
    random = np.random.default_rng(seed)
    units = len(tallied)
    counts = np.bincount(tallied.place, minlength=len(tallied.table))
    held = np.flatnonzero(counts)
    table, shares = tallied.table[held], counts[held] / units
    found: dict[str, list[Floats]] = {}
    for size in chunks(RESAMPLES, max(len(table), table.shape[1])):
        drawn = random.multinomial(units, shares, size) @ table
        for name, values in measure(drawn).items():
            found.setdefault(name, []).append(values)
    whole = metrics(measure, tallied)
    ends = {
        name: np.quantile(np.concatenate(values), (0.025, 0.975)) for name, values in found.items()
    }
    return {
        name: Interval(value=value, low=float(ends[name][0]), high=float(ends[name][1]))
        for name, value in whole.items()
    }


def chunks(draws: int, numbers: int) -> Iterator[int]:
    """How many draws of so many numbers to make at once."""
    part = max(1, MOST_NUMBERS // max(numbers, 1))
    for start in range(0, draws, part):
        yield min(part, draws - start)


def per_unit_score(task: Scored, tallied: Tallies) -> Floats:
    """How good every unit is by itself, (units,): 1 or 0 where units are right or wrong."""
    table = tallied.table
    values = task.measure(table)[task.exact] if task.exact else task.per_unit_score(table)
    return np.asarray(values[tallied.place])


def by_length(characters: npt.NDArray[np.integer[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Rows in quarters by how many characters each has, the shortest first, named by their span."""
    if not len(characters):
        return {}
    edges = np.unique(np.quantile(characters, QUARTERS, method="inverted_cdf"))
    quarter = np.searchsorted(edges, characters)
    found = {}
    for number in np.unique(quarter):
        own = characters[quarter == number]
        found[f"characters: {own.min():,}–{own.max():,}"] = quarter == number
    return found


def signs(difference: Floats) -> tuple[int, int]:
    """How many are above 0, and how many below."""
    return int((difference > TIE).sum()), int((difference < -TIE).sum())


def worse_p(difference: Floats, groups: Sequence[str] | None) -> float:
    """Sign test, one-sided: how likely differences so low are, one a row, if they come as often
    above 0 as below. Of whole `groups` where there are any, for the rows of one are alike."""
    if groups is not None:
        group = np.unique(np.asarray(groups), return_inverse=True)[1]
        difference = np.asarray(np.bincount(group, weights=difference), dtype=np.float64)
    above, below = signs(difference)
    return mcnemar_p(below, above)


def mcnemar_p(wins: int, losses: int) -> float:
    """Exact one-sided McNemar: the chance of at least this many wins among the rows where two
    models differ, if neither is better (McNemar 1947; the binomial form)."""
    from scipy.stats import binomtest

    if wins + losses == 0:
        return 1.0
    return float(binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue)
