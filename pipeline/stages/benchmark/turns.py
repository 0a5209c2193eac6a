"""Turns of the candidates in the timing of single texts, on a machine that others may use too.

In a round each candidate has one turn. A round during which other programs take much of the
processors is repeated, up to a limit, and the calmest rounds count. One candidate is faster than
another if that is significant over the rounds, in which both met the same neighbours.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from pipeline.core.log import Log, no_log

ROUNDS = 8  # that count
MOST_ROUNDS = 24
QUIET = 0.1  # share of the processors that other programs take at most in a quiet round
LEVEL = 0.05  # of significance


@dataclass
class Turn:
    """Timings of one candidate in one round."""

    milliseconds: list[float] = field(default_factory=list)
    """Time of each text."""
    neighbours: float = 0.0
    """Share of the processors that other programs took meanwhile."""

    @property
    def median(self) -> float:
        return float(np.median(self.milliseconds))


Round = dict[str, Turn]  # by candidate


@contextmanager
def neighbours(turn: Turn) -> Iterator[None]:
    """Measure the share of the processors that other programs take during a block, by the idle time
    of the system (proc_stat(5)) and the time of this process."""
    import psutil

    def idle() -> float:
        times = psutil.cpu_times()
        return float(times.idle + getattr(times, "iowait", 0.0))

    started, own, unused = time.perf_counter(), time.process_time(), idle()
    yield
    whole = (time.perf_counter() - started) * (psutil.cpu_count() or 1)
    used = time.process_time() - own
    turn.neighbours = min(1.0, max(0.0, 1 - (idle() - unused + used) / whole))


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
