"""Latency: timing of calls after a warm-up, and statistics of the times."""

import time
from collections.abc import Callable

import numpy as np

from pipeline.core.records import Timing

# the first runs are slower, since memory is allocated and code loaded: they are not timed
WARM_UP_TEXTS = 10  # after a candidate was loaded
WARM_UP_CALLS = 1  # before each timing


def milliseconds(call: Callable[[], object], seconds: float) -> list[float]:
    """Return the milliseconds of each call until `seconds` have passed, of at least 5 calls."""
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
    """Return the statistics of calls with `batch` texts of `length` tokens each."""
    p50, p95, p99 = (float(v) for v in np.percentile(times, (50, 95, 99)))
    return Timing(
        batch=batch,
        length=length,
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        texts_per_second=batch / float(np.mean(times)) * 1e3,
    )
