"""Latency: how calls are timed, what warms a runtime up, and what is told of the times."""

import time
from collections.abc import Callable

import numpy as np

from pipeline.core.records import Timing

# Warm-up: the first runs are slower, for memory is still claimed and code still loaded.
WARM_UP_TEXTS = 10  # of a candidate that has been loaded; their time is not taken
WARM_UP_CALLS = 1  # of each timing; they are not counted


def milliseconds(call: Callable[[], object], seconds: float) -> list[float]:
    """Milliseconds of each call until the seconds are spent, of 5 at least, after the warm-up."""
    for _ in range(WARM_UP_CALLS):
        call()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or (time.perf_counter() < end and len(times) < 9_000):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1e3)
    return times


def timing(times: list[float], batch: int, length: int) -> Timing:
    """Of calls that took so many milliseconds, each of a batch of texts of so many tokens."""
    p50, p95, p99 = (float(v) for v in np.percentile(times, (50, 95, 99)))
    return Timing(
        batch=batch,
        length=length,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        texts_per_second=batch / float(np.mean(times)) * 1e3,
    )
