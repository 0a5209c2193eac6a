"""Turns of the candidates in the timing of single texts, on a machine that others may use too.

In a round each candidate has one turn. A round during which other programs take much of the
processors is repeated, up to a limit, and the calmest rounds count. One candidate is faster than
another if that is significant over the rounds, in which both met the same neighbours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.log import Log, no_log

ROUNDS = 8  # that count
MOST_ROUNDS = 24
QUIET = 0.1  # share of the processors that other programs take at most in a quiet round
LEVEL = 0.05  # of significance


@dataclass(frozen=True)
class Turn:
    """Timings of one candidate in one round."""

    milliseconds: list[float]
    """Time of each text."""
    neighbours: float
    """Share of the processors that other programs took meanwhile."""

    @property
    def median(self) -> float:
        return float(np.median(self.milliseconds))


Round = dict[str, Turn]  # by candidate


def rounds(turn: Callable[[str], Turn], names: Sequence[str], log: Log = no_log) -> list[Round]:
    """Return the calmest ROUNDS rounds, in their order, of as many as it takes for so many quiet
    ones, MOST_ROUNDS at most."""
    found: list[Round] = []
    while sum(_busiest(each) <= QUIET for each in found) < ROUNDS and len(found) < MOST_ROUNDS:
        found.append({name: turn(name) for name in names})
        if len(found) == ROUNDS and (share := busy(found)) > QUIET:
            log.info(f"other programs take {share:.0%} of the processors: measuring for longer")
    calm = sorted(range(len(found)), key=lambda place: _busiest(found[place]))[:ROUNDS]
    return [found[place] for place in sorted(calm)]


def busy(found: Sequence[Round]) -> float:
    """Return the share of the processors that other programs took during the median round."""
    return float(np.median([_busiest(each) for each in found]))


def _busiest(found: Round) -> float:
    return max(turn.neighbours for turn in found.values())


def faster(one: Sequence[float], other: Sequence[float]) -> bool:
    """True if the median times of one candidate in each round are less than those of another by
    more than chance, by the signed-rank test (Wilcoxon 1945) on the logarithms."""
    from scipy.stats import wilcoxon

    ratios = np.log(other) - np.log(one)
    if not ratios.any():
        return False
    return bool(wilcoxon(ratios, alternative="greater").pvalue < LEVEL)
