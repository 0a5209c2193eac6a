"""How many batches at once, on how many threads and of how many rows: measured, in about a second.

The cores are split between runners in every even way; of ways and batch sizes that are nearly as
fast the one with fewer threads and rows a batch is taken.
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

SIZES = (1, 2, 4, 8, 16, 32, 64)  # rows that a model is given at once
FEWEST_ROWS = 4  # that a runner is given: to be given any costs time
FIRST_SIZE = 16  # by which ways to split the cores are compared
WORTH = 1.05  # times the speed for which more rows or other threads are taken
LONGEST_BATCH = 0.05  # seconds
QUOTA = Path("/sys/fs/cgroup/cpu.max")  # microseconds of CPU, and of how many
CPU = "CPUExecutionProvider"
ALIKE = 0.1  # share by which a model's file may differ for its numbers to hold


@dataclass(frozen=True)
class Tuning:
    """How a version is run on this machine."""

    runners: int
    """Batches at once."""
    threads: int
    """Of each batch."""
    batch: int
    """Rows that a runner is given."""
    rows_per_second: float
    """Of all runners together, as measured."""
    characters: int = 256
    """Of a text for which that holds: of longer ones a batch has fewer."""
    at_once: int = 0
    """Rows of a batch that the model is given at once: on a CPU short texts may go faster one by
    one. 0: all of them."""

    def room(self, characters: int) -> int:
        """How many texts of such a length are a batch: its memory and time grow with both."""
        return max(1, min(self.batch, self.batch * self.characters // max(characters, 1)))


def cores() -> int:
    """Cores that this process may use, by its affinity and by its container's quota."""
    pinned = hasattr(os, "sched_getaffinity")  # not on macOS
    allowed = len(os.sched_getaffinity(0)) if pinned else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(allowed, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or "max"
        return allowed


def at_first(number_of_cores: int) -> Tuning:
    """What is assumed before anything is measured."""
    return Tuning(number_of_cores, 1, FIRST_SIZE, 100.0 * number_of_cores)


def measure(
    opened: "Callable[[int], Version]", number_of_cores: int, seconds: float = 2.0
) -> "tuple[Tuning, Version]":
    """The tuning of a version on so many cores, and the version opened with it.

    `opened` opens the version with a number of threads a batch. `seconds` are those of measuring.
    """
    best, version = 0.0, opened(1)
    runners, threads = number_of_cores, 1
    texts = _texts(version)
    splits = [t for t in range(1, number_of_cores + 1) if number_of_cores % t == 0]
    if version.provider != CPU:  # what it runs on has threads of its own
        runners, splits = 2, []
    window = seconds / (len(splits) + len(SIZES))
    for each in splits:
        tried = version if each == 1 else opened(each)
        speed = rate(tried, texts, number_of_cores // each, FIRST_SIZE, window)
        if speed > WORTH * best:
            best, version, runners, threads = speed, tried, number_of_cores // each, each
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
    """Rows a second of so many runners, whose model is given `size` of them at once."""
    batch = max(size, FEWEST_ROWS)

    def run(_: int) -> int:
        given = cycle(texts)
        rows = 0
        while not rows or perf_counter() < end:
            version.answer(list(islice(given, batch)), size)
            rows += batch
        return rows

    with ThreadPoolExecutor(runners) as pool:
        list(pool.map(lambda _: version.answer(texts[:batch], size), range(runners)))  # warm
        started = perf_counter()
        end = started + seconds
        rows = sum(pool.map(run, range(runners)))
    return rows / (perf_counter() - started)


def _texts(version: "Version") -> "list[Texts]":
    """The version's stored texts, or made-up ones of up to forty words."""
    if version.stored:
        return [(text, second) for text, second in version.stored["texts"]]
    words = " ".join(["these are the words of a text"] * 6).split()
    made = [" ".join(words[: 3 + 7 * i % 38]) for i in range(64)]
    return [(text, text if version.two_texts else "") for text in made]


# kept


def kept(tuning: Tuning, version: "Version", number_of_cores: int) -> dict[str, Any]:
    """A tuning and what it holds for, as JSON can say it."""
    return asdict(tuning) | {"for": _circumstances(version, number_of_cores)}


def again(content: Any, version: "Version | None", number_of_cores: int) -> Tuning | None:
    """A kept tuning; None where it was measured of something else, or is none.

    Without a version, only the machine is compared.
    """
    try:
        before = content["for"]
        tuning = Tuning(**{each.name: content[each.name] for each in fields(Tuning)})
        whole = min(tuning.runners, tuning.threads, tuning.batch) >= 1
        now = _machine(number_of_cores)
        if not whole or not tuning.rows_per_second > 0 or any(before[k] != now[k] for k in now):
            return None
        if version and abs(version.model_bytes / before["bytes"] - 1) > ALIKE:
            return None
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return tuning


def _circumstances(version: "Version", number_of_cores: int) -> dict[str, Any]:
    return _machine(number_of_cores) | {"bytes": version.model_bytes}


def _machine(number_of_cores: int) -> dict[str, Any]:
    return {"cores": number_of_cores, "runtime": _runtime()}


def _runtime() -> str:
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return f"{name} {installed(name)}"
        except PackageNotFoundError:
            continue
    return ""
