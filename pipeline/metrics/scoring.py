"""Scores with intervals, computed from a tally of each row.

A task's metrics are functions of sums of tallies over rows. Resampling rows with replacement
(Efron 1979) is equivalent to drawing the count of each *distinct* tally from a multinomial. So the
time of a bootstrap depends on the number of distinct tallies, not on the number of rows.
"""

import hashlib
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
TIE = 1e-12  # smaller differences of two scores are rounding errors
MOST_NUMBERS = 4_000_000  # in memory at once while resampling
QUARTERS = (0.25, 0.5, 0.75)


class Scored(Protocol):
    """Part of a task that scoring needs."""

    by_group: ClassVar[bool]
    exact: ClassVar[str | None]

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats: ...

    def measure(self, tallies: Floats) -> dict[str, Floats]: ...

    def per_unit_score(self, tallies: Floats) -> Floats: ...


@dataclass(frozen=True)
class Tallies:
    """Tallies of all units: of rows, or of groups if the task scores groups."""

    table: Floats
    """Distinct tallies, (distinct, counts)."""
    place: Labels
    """Index of each unit's tally in the table, (units,)."""

    def __len__(self) -> int:
        return len(self.place)

    @property
    def rows(self) -> Floats:
        """Tally of each unit, (units, counts)."""
        return np.asarray(self.table[self.place])

    def of(self, units: npt.NDArray[np.bool_]) -> "Tallies":
        """Tallies of the selected units; `units` is a mask, (units,)."""
        return Tallies(self.table, self.place[units])

    def total(self) -> Floats:
        """Sum over all units, (counts,)."""
        return np.asarray(np.bincount(self.place, minlength=len(self.table)) @ self.table)


def tallies(
    task: Scored,
    truths: Sequence[str],
    answers: Sequence[str],
    classes: Sequence[str],
    groups: Sequence[str] = (),
) -> Tallies:
    """Tally every row, or every group if the task scores groups; each distinct unit only once."""
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
    index = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
    each = np.zeros((0, 0))
    for unit, i in index.items():
        tally = task.tally(*unit, classes)
        if i == 0:
            each = np.empty((len(index), len(tally)))
        each[i] = tally
    table, place = distinct(each)
    return Tallies(table, place[np.array([index[unit] for unit in units], dtype=np.int64)])


def grouped(rows: Tallies, groups: Sequence[str]) -> Tallies:
    """Return the tallies of groups: each is the sum of its rows' tallies."""
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((len(names), rows.table.shape[1]))
    np.add.at(sums, group, rows.rows)
    return Tallies(*distinct(sums))


def distinct(rows: Floats) -> tuple[Floats, Labels]:
    """Return the distinct rows of a table, and the index of each row among them.

    They are sorted, except those of a large table, whose copies would not fit into memory.
    """
    if not len(rows):
        return rows.reshape(0, 0), np.zeros(0, dtype=np.int64)
    if rows.size > MOST_NUMBERS:
        first: dict[bytes, int] = {}
        keys = (hashlib.blake2b(row.tobytes(), digest_size=20).digest() for row in rows)
        found = np.array([first.setdefault(key, i) for i, key in enumerate(keys)], dtype=np.int64)
        kept, index = np.unique(found, return_inverse=True)
        return rows if len(kept) == len(rows) else rows[kept], index.astype(np.int64)
    table, place = np.unique(rows, axis=0, return_inverse=True)
    return table, place.ravel().astype(np.int64)


def metrics(measure: Measure, tallied: Tallies) -> dict[str, float]:
    return {name: float(value) for name, value in measure(tallied.total()).items()}


def intervals(measure: Measure, tallied: Tallies, seed: int = 0) -> dict[str, Interval]:
    """Return every metric with its 95 % percentile-bootstrap interval over units."""
    random = np.random.default_rng(seed)
    units = len(tallied)
    counts = np.bincount(tallied.place, minlength=len(tallied.table))
    used = np.flatnonzero(counts)
    shares = counts[used] / units
    table = tallied.table if len(used) == len(tallied.table) else tallied.table[used]
    found: dict[str, list[Floats]] = {}
    for size in chunks(RESAMPLES, max(len(table), table.shape[1])):
        drawn = random.multinomial(units, shares, size) @ table
        for name, values in measure(drawn).items():
            found.setdefault(name, []).append(values)
    result: dict[str, Interval] = {}
    for name, value in metrics(measure, tallied).items():
        low, high = np.quantile(np.concatenate(found[name]), (0.025, 0.975))
        result[name] = Interval(value=value, low=float(low), high=float(high))
    return result


def chunks(draws: int, numbers: int) -> Iterator[int]:
    """Split a number of draws into parts, so that no part holds more than MOST_NUMBERS numbers.

    `numbers` is the number of numbers of one draw.
    """
    part = max(1, MOST_NUMBERS // max(numbers, 1))
    for start in range(0, draws, part):
        yield min(part, draws - start)


def per_unit_score(task: Scored, tallied: Tallies) -> Floats:
    """Score of every unit on its own, (units,): 1 or 0 if units are right or wrong."""
    table = tallied.table
    size = max(1, MOST_NUMBERS // max(table.shape[1], 1))
    parts = [table[start : start + size] for start in range(0, len(table), size)] or [table]
    values = np.concatenate(
        [
            task.measure(part)[task.exact] if task.exact else task.per_unit_score(part)
            for part in parts
        ]
    )
    return np.asarray(values[tallied.place])


def by_length(characters: npt.NDArray[np.integer[Any]]) -> dict[str, npt.NDArray[np.bool_]]:
    """Split rows into quarters by number of characters, shortest first, named by their range.

    Returns a mask of rows per quarter.
    """
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
    """Number of values above 0 and number below."""
    return int((difference > TIE).sum()), int((difference < -TIE).sum())


def worse_p(difference: Floats, groups: Sequence[str] | None) -> float:
    """P-value of a sign test, one-sided, against differences below 0, one per row.

    With `groups` it tests the sums of groups, since rows of a group are not independent.
    """
    if groups is not None:
        group = np.unique(np.asarray(groups), return_inverse=True)[1]
        difference = np.asarray(np.bincount(group, weights=difference), dtype=np.float64)
    above, below = signs(difference)
    return mcnemar_p(below, above)


def mcnemar_p(wins: int, losses: int) -> float:
    """P-value of the exact one-sided McNemar test in its binomial form (McNemar 1947).

    It is the probability of at least this many wins among the rows where two models differ, if
    neither is better.
    """
    from scipy.stats import binomtest

    if wins + losses == 0:
        return 1.0
    return float(binomtest(wins, wins + losses, 0.5, alternative="greater").pvalue)
