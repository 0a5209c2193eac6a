"""Two models have answered the same rows: is one better by more than chance? Pure functions."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.scoring import METRICS, MOST_NUMBERS, Labels

Floats = npt.NDArray[np.float64]
DOUBT = 1e-7  # of the interval that holds the share of rows on which the two differ
GRID = 64  # shares tried in that interval
POWER = 0.8  # at which a detectable difference is told
RESAMPLES = 4000
MOST_RESAMPLES = 200_000


@lru_cache(maxsize=65536)
def exact_p(wins: int, losses: int, rows: int) -> float:
    """Exact unconditional McNemar, one-sided: the chance of so large a (wins - losses) /
    sqrt(wins + losses) among `rows` rows, if neither model is better.

    The largest chance over every share of discordant rows that the data allow (Suissa & Shuster
    1985; the share's interval after Berger & Boos 1994). It keeps its level for every such share,
    as the conditional (binomial) test does, and finds more true differences than that one.
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
    """Score test of non-inferiority, one-sided (Tango 1998): the chance of so good a result if the
    challenger's accuracy is lower by `margin`, a share of the rows."""
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
    """The true difference that a one-sided test at `level` sees at 80 % power, given the standard
    error of the difference."""
    from scipy.stats import norm

    return float((norm.isf(level) + norm.ppf(POWER)) * error)


def resampled(
    metric: str,
    truth: Labels,
    challenger: Labels,
    champion: Labels,
    classes: int,
    groups: Sequence[str] | None,
    seed: int,
    resamples: int = RESAMPLES,
) -> Floats:
    """Challenger minus champion in a metric over bootstrap resamples, shape (resamples,).

    Rows are drawn with both their answers, as many of each true class as there are (stratified);
    where rows depend on each other whole groups are drawn instead. A resample is drawn as counts of
    the distinct (truth, challenger, champion) triples, which is the same and takes no row's time.
    """
    random = np.random.default_rng(seed)
    triples, place, counts = np.unique(
        np.stack([truth, challenger, champion]), axis=1, return_inverse=True, return_counts=True
    )
    place = place.ravel()
    function = METRICS[metric]
    part = max(1, MOST_NUMBERS // max(classes**2, triples.shape[1]))
    weights = None if groups is None else _per_group(groups, place, triples.shape[1])
    values = []
    for start in range(0, resamples, part):
        size = min(part, resamples - start)
        if weights is None:
            drawn = _by_class(random, triples[0], counts, size)
        else:
            number = len(weights)
            picked = random.multinomial(number, np.full(number, 1 / number), size)
            drawn = picked @ weights  # (size, triples)
        values.append(
            function(_confusions(drawn, triples[0], triples[1], classes))
            - function(_confusions(drawn, triples[0], triples[2], classes))
        )
    return np.concatenate(values)


def _per_group(groups: Sequence[str], place: Labels, triples: int) -> Labels:
    """How many rows of each triple a group holds, shape (groups, triples)."""
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    return np.bincount(group * triples + place, minlength=len(names) * triples).reshape(-1, triples)


def _by_class(random: np.random.Generator, truth: Labels, counts: Labels, size: int) -> Labels:
    """As many rows of each true class as there are, shape (size, triples)."""
    drawn = np.empty((size, len(counts)), dtype=np.int64)
    for label in np.unique(truth):
        own = np.flatnonzero(truth == label)
        rows = counts[own].sum()
        drawn[:, own] = random.multinomial(rows, counts[own] / rows, size)
    return drawn


def _confusions(drawn: Labels, truth: Labels, answers: Labels, classes: int) -> Labels:
    """Confusion matrices, (size, classes, classes), of counts of triples, (size, triples)."""
    matrices = np.zeros((len(drawn), classes**2), dtype=np.int64)
    for column, cell in enumerate(truth * classes + answers):
        matrices[:, cell] += drawn[:, column]
    return matrices.reshape(-1, classes, classes)


def resamples_for(level: float) -> int:
    """So many that a p-value at `level` rests on 20 resamples; capped, and then conservative."""
    return int(min(max(RESAMPLES, np.ceil(20 / level)), MOST_RESAMPLES))


def bootstrap_p(differences: Floats, margin: float = 0.0) -> float:
    """Share of resamples in which the challenger is not better than the champion less `margin`.

    One is counted more than were seen, so that no p-value is 0 (Davison & Hinkley 1997).
    """
    return float((1 + (differences <= -margin).sum()) / (1 + len(differences)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): p-values that hold together at the level of one."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def spent(error_rate: float, question: int) -> float:
    """The error rate of an epoch's k-th question: error_rate / (k (k + 1)).

    Over every question together that is the error rate: 1/2 + 1/6 + 1/12 + … = 1. So a champion is
    replaced by a model that is no better in at most that share of epochs, however often one asks.
    """
    return error_rate / (question * (question + 1))
