"""Paired tests: is one of two models that answered the same rows better by more than chance?"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from pipeline.metrics.scoring import TIE, Floats, Labels, Measure, Scored, Tallies, chunks

DOUBT = 1e-7  # error rate of the interval for the share of rows on which the two differ
GRID = 64  # shares tried in that interval
POWER = 0.8  # of a detectable difference
RESAMPLES = 4000
MOST_RESAMPLES = 200_000


@lru_cache(maxsize=65536)
def exact_p(wins: int, losses: int, rows: int) -> float:
    """P-value of the exact unconditional McNemar test, one-sided.

    It is the probability of a (wins - losses) / sqrt(wins + losses) at least this large in `rows`
    rows if neither model is better: the maximum over all shares of discordant rows in their
    confidence interval (Suissa & Shuster 1985; interval after Berger & Boos 1994). Like the
    conditional (binomial) test it keeps its level for every share, but it has more power.
    """
    from scipy.stats import beta, binom

    discordant = wins + losses
    if wins <= losses:
        return 1.0
    statistic = (wins - losses) / np.sqrt(discordant)
    low = beta.ppf(DOUBT / 2, discordant, rows - discordant + 1)
    high = 1.0 if discordant == rows else beta.ppf(1 - DOUBT / 2, discordant + 1, rows - discordant)
    shares = np.linspace(low, high, GRID)[:, None]  # (grid, 1)
    spread = 8 * np.sqrt(rows * high * (1 - high)) + 8
    first, last = max(0, int(rows * low - spread)), min(rows, int(rows * high + spread) + 1)
    counts = np.arange(first, last + 1)  # of discordant rows
    needed = np.ceil((counts + statistic * np.sqrt(counts)) / 2 - 1e-9)
    extreme = binom.sf(np.maximum(needed, 1) - 1, counts, 0.5)  # (counts,)
    chances = np.asarray(binom.pmf(counts, rows, shares)) @ extreme  # (grid,)
    return float(min(1.0, chances.max() + DOUBT))


def margin_p(wins: int, losses: int, rows: int, margin: float) -> float:
    """P-value of the score test of non-inferiority, one-sided (Tango 1998).

    It is the probability of a result at least this good if the challenger's accuracy is lower by
    `margin`, a share of the rows.
    """
    from scipy.stats import norm

    null = -margin
    a, b = 2 * rows, -wins - losses + (2 * rows - wins + losses) * null
    c = -losses * null * (1 - null)
    share = (np.sqrt(b * b - 4 * a * c) - b) / (2 * a)  # of rows that the champion alone has right
    variance = rows * (2 * share + null * (1 - null))
    if variance <= 0:
        return 0.0 if wins - losses > rows * null else 1.0
    return float(norm.sf((wins - losses - rows * null) / np.sqrt(variance)))


def detectable(error: float, level: float) -> float:
    """True difference that a one-sided test at `level` finds with 80 % power.

    `error` is the standard error of the difference.
    """
    from scipy.stats import norm

    return float((norm.isf(level) + norm.ppf(POWER)) * error)


def differ(challenger: Tallies, champion: Tallies) -> bool:
    """True if the tallies of any unit differ between the two."""
    new, old = np.unique(np.stack([challenger.place, champion.place]), axis=1)
    return bool((challenger.table[new] != champion.table[old]).any())


def wins(task: Scored, challenger: Tallies, champion: Tallies, metric: str) -> tuple[int, int]:
    """Number of units on which the challenger is better, and number on which it is worse."""
    new, old = (
        task.measure(side.table)[metric][side.place]
        if metric == task.exact
        else task.per_unit_score(side.table)[side.place]
        for side in (challenger, champion)
    )
    return int((new - old > TIE).sum()), int((old - new > TIE).sum())


def resampled(
    measure: Measure,
    challenger: Tallies,
    champion: Tallies,
    strata: Sequence[str] | None,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Floats]:
    """Challenger minus champion in every metric over bootstrap resamples, (resamples,) each.

    Units are drawn with both their tallies, and within their stratum (`strata` has one name per
    unit). Drawing counts of the distinct (stratum, challenger, champion) triples gives the same
    distribution as drawing units, and its time does not grow with their number.
    """
    random = np.random.default_rng(seed)
    units = len(challenger)
    stratum = np.zeros(units, dtype=np.int64)
    if strata is not None:
        stratum = np.unique(np.asarray(strata), return_inverse=True)[1]
    triples, counts = np.unique(
        np.stack([stratum, challenger.place, champion.place]), axis=1, return_counts=True
    )
    new, old = challenger.table[triples[1]], champion.table[triples[2]]  # (triples, counts) each
    found: dict[str, list[Floats]] = {}
    for size in chunks(resamples, max(new.shape)):
        drawn = _by_stratum(random, triples[0], counts, size)
        ours, theirs = measure(drawn @ new), measure(drawn @ old)
        for name, values in ours.items():
            found.setdefault(name, []).append(values - theirs[name])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _by_stratum(random: np.random.Generator, stratum: Labels, counts: Labels, size: int) -> Floats:
    """Draw counts of the triples, (size, triples); each stratum keeps its number of units."""
    drawn = np.empty((size, len(counts)))
    for name in np.unique(stratum):
        own = np.flatnonzero(stratum == name)
        units = counts[own].sum()
        drawn[:, own] = random.multinomial(units, counts[own] / units, size)
    return drawn


def exchanged(
    measure: Measure,
    challenger: Tallies,
    champion: Tallies,
    seed: int,
    resamples: int = RESAMPLES,
) -> dict[str, Floats]:
    """Challenger minus champion in every metric with each unit's tallies swapped at random,
    (resamples,) each.

    This is the distribution by chance if neither model is better (approximate randomization, Noreen
    1989; for F1, Yeh 2000).
    """
    random = np.random.default_rng(seed)
    pairs, counts = np.unique(
        np.stack([challenger.place, champion.place]), axis=1, return_counts=True
    )
    change = champion.table[pairs[1]] - challenger.table[pairs[0]]  # (pairs, counts)
    apart = change.any(1)
    change, counts = change[apart], counts[apart]
    ours, theirs = challenger.total(), champion.total()
    found: dict[str, list[Floats]] = {}
    for size in chunks(resamples, max(change.shape)):
        moved = random.binomial(counts, 0.5, (size, len(counts))) @ change
        new, old = measure(ours + moved), measure(theirs - moved)
        for name, values in new.items():
            found.setdefault(name, []).append(values - old[name])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def resamples_for(level: float) -> int:
    """Number of resamples of which 20 lie below a p-value of `level`; capped, then conservative."""
    return int(min(max(RESAMPLES, np.ceil(20 / level)), MOST_RESAMPLES))


def bootstrap_p(differences: Floats, margin: float = 0.0) -> float:
    """Share of resamples in which the challenger is not better than the champion less `margin`.

    One resample is added to the count, so no p-value is 0 (Davison & Hinkley 1997).
    """
    return float((1 + (differences <= TIE - margin).sum()) / (1 + len(differences)))


def randomization_p(by_chance: Floats, difference: float) -> float:
    """Share of the differences by chance that are at least as large as this one, itself counted."""
    return float((1 + (by_chance >= difference - TIE).sum()) / (1 + len(by_chance)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values after Holm's correction (1979), valid together at the level of one test."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def spent(error_rate: float, question: int) -> float:
    """Error rate of an epoch's k-th question: error_rate / (k (k + 1)).

    As 1/2 + 1/6 + 1/12 + … = 1, all questions together have at most this error rate: in at most
    that share of epochs a model that is no better replaces the champion, whatever their number.
    """
    return error_rate / (question * (question + 1))
