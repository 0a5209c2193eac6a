"""Tuning of a version: number of parallel batches, threads and rows of each, measured in seconds.

Every even split of the cores between runners is tried. Among splits and batch sizes of nearly the
same speed, the one with fewer threads and rows per batch wins.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.serving.version import Version
    from pipeline.tasks.base.encoding import Texts

SIZES = (1, 2, 4, 8, 16, 32, 64)  # rows of one call of the model
FEWEST_ROWS = 4  # rows of a runner's batch: handing over a batch costs time
FIRST_SIZE = 16  # batch size at which the splits of the cores are compared
WORTH = 1.05  # speedup that justifies more rows or threads
LONGEST_BATCH = 0.05  # seconds
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # "CPU-microseconds period-microseconds"
CPU = "CPUExecutionProvider"
ALIKE = 0.1  # share by which the size of a model file may differ for a tuning to be reused


@dataclass(frozen=True)
class Tuning:
    """Settings of the runners for a version on this machine."""

    runners: int
    """Number of parallel batches."""
    threads: int
    """Threads of each batch."""
    batch: int
    """Rows of a runner's batch."""
    rows_per_second: float
    """Measured speed of all runners together."""
    characters: int = 256
    """Text length up to which `batch` holds: a batch of longer texts has fewer."""
    at_once: int = 0
    """Rows of one call of the model: on a CPU short texts can be faster one by one. 0: all."""

    def room(self, characters: int) -> int:
        """Return the rows of a batch of texts of this length: memory and time grow with both."""
        return max(1, min(self.batch, self.batch * self.characters // max(characters, 1)))


def cores() -> int:
    """Number of cores that this process may use, by its affinity and its container's quota."""
    has_affinity = hasattr(os, "sched_getaffinity")  # macOS lacks it
    allowed = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(allowed, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max"
        return allowed


def default_tuning(number_of_cores: int) -> Tuning:
    """Return the tuning that is assumed before one is measured."""
    return Tuning(number_of_cores, 1, FIRST_SIZE, 100.0 * number_of_cores)


def measure(
    open_with: "Callable[[int], Version]", number_of_cores: int, seconds: float = 2.0
) -> "tuple[Tuning, Version]":
    """Measure the best tuning of a version, and return it with the version opened for it.

    `open_with` opens the version with a number of threads. Measuring takes about `seconds`.
    """
    best, version = 0.0, open_with(1)
    runners, threads = number_of_cores, 1
    texts = _texts(version)
    splits = [t for t in range(1, number_of_cores + 1) if number_of_cores % t == 0]
    if version.provider != CPU:  # a GPU does not use these threads
        runners, splits = 2, []
    window = seconds / (len(splits) + len(SIZES))
    for count in splits:
        candidate = version if count == 1 else open_with(count)
        speed = rate(candidate, texts, number_of_cores // count, FIRST_SIZE, window)
        if speed > WORTH * best:
            best, version, runners, threads = speed, candidate, number_of_cores // count, count
    at_once, best = 0, 0.0
    for size in SIZES:
        speed = rate(version, texts, runners, size, window)
        if at_once and max(size, FEWEST_ROWS) * runners / speed > LONGEST_BATCH:
            break
        if speed > WORTH * best:
            at_once, best = size, speed
    characters = 2 * sum(len(text) + len(second) for text, second in texts) // len(texts)
    batch, characters = max(at_once, FEWEST_ROWS), max(characters, Tuning.characters)
    return Tuning(runners, threads, batch, best, characters, at_once), version


def rate(
    version: "Version", texts: "Sequence[Texts]", runners: int, size: int, seconds: float
) -> float:
    """Measure the rows per second of so many runners with `size` rows per call of the model."""
    batch = max(size, FEWEST_ROWS)

    def run(_: int) -> int:
        endless = cycle(texts)
        rows = 0
        while not rows or perf_counter() < end:
            version.answer(list(islice(endless, batch)), size)
            rows += batch
        return rows

    with ThreadPoolExecutor(runners) as pool:
        list(pool.map(lambda _: version.answer(texts[:batch], size), range(runners)))  # warm-up
        started = perf_counter()
        end = started + seconds
        rows = sum(pool.map(run, range(runners)))
    return rows / (perf_counter() - started)


def _texts(version: "Version") -> "list[Texts]":
    """Return the version's stored texts, or made-up ones of up to forty words."""
    if version.stored:
        return [(text, second) for text, second in version.stored["texts"]]
    words = " ".join(["these are the words of a text"] * 6).split()
    made = [" ".join(words[: 3 + 7 * i % 38]) for i in range(64)]
    return [(text, text if version.two_texts else "") for text in made]


# storage


def to_json(tuning: Tuning, version: "Version", number_of_cores: int) -> dict[str, Any]:
    """Return a tuning, with the machine and model size that it was measured for, for JSON."""
    measured_for = _machine(number_of_cores) | {"bytes": version.model_bytes}
    return asdict(tuning) | {"for": measured_for}


def from_json(content: Any, version: "Version | None", number_of_cores: int) -> Tuning | None:
    """Return a stored tuning; None if it is invalid or was measured for something else.

    Without a version, only the machine is compared.
    """
    try:
        measured_for = content["for"]
        tuning = Tuning(**{each.name: content[each.name] for each in fields(Tuning)})
        valid = min(tuning.runners, tuning.threads, tuning.batch) >= 1
        now = _machine(number_of_cores)
        same = all(measured_for[key] == now[key] for key in now)
        if not valid or not tuning.rows_per_second > 0 or not same:
            return None
        if version and abs(version.model_bytes / measured_for["bytes"] - 1) > ALIKE:
            return None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return tuning


def _machine(number_of_cores: int) -> dict[str, Any]:
    return {"cores": number_of_cores, "runtime": _runtime()}


def _runtime() -> str:
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return f"{name} {installed(name)}"
        except PackageNotFoundError:
            continue
    return ""
