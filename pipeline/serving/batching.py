"""Batching of requests: a bounded queue and runners, which are threads that answer its batches.

Everything but the model runs on the event loop's thread and needs no locks. A runner has one batch
at a time. A request is answered by one version: the one in use when its first row was taken.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING

from pipeline.serving.runner import Failed, answers, failed, lower_priority
from pipeline.serving.tuning import Tuning

if TYPE_CHECKING:
    from pipeline.serving.version import Version
    from pipeline.tasks.base import Answer
    from pipeline.tasks.base.encoding import Texts

WINDOW = 4  # batches of waiting rows in which rows of similar length are searched
SECONDS_INSIDE = 0.08  # time to answer the rows that may wait or be in a batch
SECONDS_OVERLOADED = 0.05  # the same while most requests are refused
FEWEST_INSIDE = 32  # rows: this many clients of single requests are never refused
OVERLOADED = 0.5  # share of recent requests refused
LEARNED = 0.05  # weight of each new batch or request in running means
SWEEP = 0.25  # seconds between checks for requests whose deadline has passed
log = logging.getLogger("bertline.serving")


class Busy(Exception):  # noqa: N818 - a state, like those below
    """Refusal of a request: the queue is full, or there is no version yet."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many requests: try again in {retry_after:.1f} s")
        self.retry_after = retry_after
        """Seconds."""


class Late(Exception):  # noqa: N818
    """End of a request whose deadline has passed without an answer."""


class Gone(Exception):  # noqa: N818
    """End of a request whose client has disconnected."""


class _Job:
    """Request with its rows, those that still wait for a runner, and its answers so far."""

    __slots__ = ("answers", "deadline", "future", "gone", "texts", "unanswered", "waiting")

    def __init__(
        self,
        texts: "Sequence[Texts]",
        future: "asyncio.Future[Version]",
        deadline: float,
        gone: Callable[[], bool],
    ) -> None:
        self.texts, self.future, self.deadline, self.gone = texts, future, deadline, gone
        self.waiting: list[int] = []  # indices of texts
        self.answers: list[Answer | None] = [None] * len(texts)
        self.unanswered = len(texts)


class Batcher:
    """Queue that answers requests in batches with the version in use, as `tuning` says.

    A new request is refused if more than `most_inside` rows would wait or be in a batch. 0 means
    the rows that are answered in 0.08 seconds at the measured speed, at least 32 and two batches
    per runner. While most requests are refused it means the rows of 0.05 seconds, at least enough
    to keep the runners busy: refusals use the processor too, and admitted requests should not wait
    longer than before. While a runner is idle, a row waits at most `gather` seconds for others, and
    only as long as others arrive. For one event loop.
    """

    def __init__(self, tuning: Tuning, most_inside: int = 0, gather: float = 0.002) -> None:
        self.version: Version | None = None
        self.previous: Version | None = None
        """Version that was in use before; it stays loaded."""
        self.confirmed = False
        """True if the champion is known and in use or refused, or if it cannot be known now."""
        self.refused: tuple[str, str] | None = None
        """Number of the champion if it was refused, and the reason."""
        self.swaps = self.refusals = 0
        self.waiting = 0
        """Number of rows that wait for a runner."""
        self.observe: Callable[[int, float], object] | None = None
        """Callback for each batch: its rows and its seconds."""
        self.gather = gather
        self._fixed_most_inside = most_inside
        self._jobs: deque[_Job] = deque()
        self._versions: dict[_Job, Version] = {}  # of jobs of which only some rows were taken
        self._open: set[_Job] = set()
        self._busy = 0  # runners with a batch
        self._ahead = 0  # rows that are taken before the first of a new request
        self._taken = 0  # rows in batches
        self._mean = 0.0, 0.0  # rows and seconds of a batch
        self._refused = 0.0  # share of recent requests
        self._begun: list[float] = []  # start times of the current batches
        self._wake: asyncio.Handle | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._pool = ThreadPoolExecutor(max(4, os.cpu_count() or 1), "runner", lower_priority)
        self.tune(tuning)

    @property
    def ready(self) -> bool:
        """True if a version is in use and confirmed."""
        return self.confirmed and self.version is not None

    def tune(self, tuning: Tuning) -> None:
        """Change the tuning."""
        self.tuning = tuning
        self._mean = tuning.batch, tuning.batch * tuning.runners / tuning.rows_per_second
        self._set_rate(tuning.rows_per_second)
        self._ahead = sum(min(len(job.waiting), tuning.batch) for job in self._jobs)

    def _set_rate(self, rate: float) -> None:
        """Set the rows answered per second and the limits that follow from it."""
        self._rate = rate
        batch, runners = self.tuning.batch, self.tuning.runners
        most = max(FEWEST_INSIDE, 2 * runners * batch, round(rate * SECONDS_INSIDE))
        few = max((runners + 1) * batch, round(rate * SECONDS_OVERLOADED))
        self.most_inside = self._fixed_most_inside or most
        self._most_overloaded = self._fixed_most_inside or few

    def _learn(self, rows: int, seconds: float) -> None:
        """Update the mean rows and seconds of a batch, and the rate, which is their ratio.

        So a small batch that had to wait for the processor counts little, and its time has a lower
        limit, since a batch that fails at once is not a fast one.
        """
        mean_rows, mean_seconds = self._mean
        seconds = max(seconds, rows * mean_seconds / mean_rows / 2)
        mean_rows += LEARNED * (rows - mean_rows)
        mean_seconds += LEARNED * (seconds - mean_seconds)
        self._mean = mean_rows, mean_seconds
        self._set_rate(self.tuning.runners * mean_rows / mean_seconds)

    def busy_for(self) -> float:
        """Return the seconds since the oldest current batch was started."""
        return monotonic() - min(self._begun) if self._begun else 0.0

    async def swap(self, version: "Version") -> None:
        """Put a version in use. The one before stays loaded and completes its requests."""
        if self.version is not None or (self.refused and self.refused[0] == version.number):
            self.refused = None  # a first version may replace the refused one, which stays noted
        if version is not self.version:
            self.swaps += self.version is not None
            self.previous, self.version = self.version, version

    def refuse(self, number: str, reason: str) -> None:
        """Note that a version was refused; the one in use stays."""
        self.refused = (number, reason)
        self.refusals += 1

    def close(self) -> None:
        """Stop: requests that still wait end with Late."""
        for job in self._open:
            if not job.future.done():
                job.future.set_exception(Late())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for handle in (self._wake, self._sweeper):
            if handle:
                handle.cancel()

    # requests

    def admit(self, rows: int, deadline: float) -> None:
        """Raise Busy if too many rows are ahead of a request of `rows` rows, or if it could not be
        answered by its deadline."""
        if self.version is None:
            raise Busy(1.0)
        inside, now = self._ahead + self._taken, monotonic()
        most = self.most_inside if self._refused < OVERLOADED else self._most_overloaded
        if inside and inside + min(rows, self.tuning.batch) > most:
            self._refused += LEARNED * (1 - self._refused)
            raise Busy(inside / self._rate)
        if self.waiting and now + (self.waiting + rows) / self._rate > deadline:
            raise Busy(self.waiting / self._rate)

    async def answer(
        self,
        texts: "Sequence[Texts]",
        deadline: float,
        gone: Callable[[], bool] = lambda: False,
    ) -> "tuple[list[Answer], Version]":
        """Return one answer per text and the version that gave all of them.

        `deadline` is a time of `time.monotonic`; `gone` returns True once the client has
        disconnected. Raises Busy, Late, Gone, and Failed if the version's code fails on a text.
        """
        self.admit(len(texts), deadline)
        self._refused -= LEARNED * self._refused
        if not texts:
            assert self.version is not None
            return [], self.version
        loop = asyncio.get_running_loop()
        job = _Job(texts, loop.create_future(), deadline, gone)
        self._set_waiting(job, sorted(range(len(texts)), key=lambda row: _length(texts[row])))
        self._jobs.append(job)
        self._open.add(job)
        self._schedule(loop)
        try:
            version = await job.future
        finally:
            self._open.discard(job)
            self._versions.pop(job, None)
            if job.waiting:  # cancelled or late
                self._set_waiting(job, [])
        return job.answers, version  # type: ignore[return-value]  # none is missing

    def _set_waiting(self, job: _Job, rows: list[int]) -> None:
        batch = self.tuning.batch
        self.waiting += len(rows) - len(job.waiting)
        self._ahead += min(len(rows), batch) - min(len(job.waiting), batch)
        job.waiting = rows

    # batches

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give a full batch to an idle runner now, a smaller one once no more requests arrive."""
        if self._sweeper is None:
            self._sweeper = loop.call_later(SWEEP, self._sweep)
        if self._busy >= self.tuning.runners:
            return
        if self._ahead >= self.tuning.batch:
            if self._wake:
                self._wake.cancel()
            self._take_all()
        elif self._wake is None:
            self._wake = loop.call_soon(self._take_when_quiet, loop, self.waiting, monotonic())

    def _take_when_quiet(self, loop: asyncio.AbstractEventLoop, waiting: int, since: float) -> None:
        """Wait while each turn of the loop brings more requests, at most `gather` seconds."""
        if self.waiting > waiting and monotonic() - since < self.gather:
            self._wake = loop.call_soon(self._take_when_quiet, loop, self.waiting, since)
        else:
            self._take_all()

    def _take_all(self) -> None:
        """Give every idle runner a batch while rows wait."""
        self._wake = None
        while self._busy < self.tuning.runners and self._jobs:
            version, rows = self._take()
            if version is None:
                return
            started = monotonic()
            texts = [job.texts[row] for job, row in rows]
            size = self.tuning.room(max(map(_length, texts)))
            size = min(size, self.tuning.at_once or size)
            work = self._pool.submit(answers, version, texts, size)
            self._busy += 1
            self._taken += len(rows)
            self._begun.append(started)
            work.add_done_callback(self._after(version, rows, started))

    def _after(
        self, version: "Version", rows: list[tuple[_Job, int]], started: float
    ) -> "Callable[[Future[list[Answer | Failed]]], None]":
        loop = asyncio.get_running_loop()

        def done(work: "Future[list[Answer | Failed]]") -> None:  # in the runner's thread
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._deliver, version, rows, work, started)

        return done

    def _take(self) -> "tuple[Version | None, list[tuple[_Job, int]]]":
        """Take a batch, rows of similar length with the oldest among them, and its version.

        A request with more rows than a batch goes to the end of the queue with its other rows.
        """
        batch, now = self.tuning.batch, monotonic()
        version: Version | None = None
        seen: list[_Job] = []
        rows: list[tuple[int, int, int]] = []  # characters, index in seen, row
        while self._jobs and len(rows) < WINDOW * batch:
            job = self._jobs.popleft()
            if not self._is_live(job, now):
                continue
            own = self._versions.get(job, self.version)
            if version is None:
                version = own
            if own is version:
                rows += [(_length(job.texts[row]), len(seen), row) for row in job.waiting[:batch]]
            seen.append(job)
        if not rows:  # all jobs have ended
            return None, []
        taken: dict[int, set[int]] = {}
        for _, index, row in _batch_with_oldest(rows, self.tuning):
            taken.setdefault(index, set()).add(row)
        self._put_back(seen, taken, version)
        return version, [(seen[index], row) for index, own in taken.items() for row in own]

    def _is_live(self, job: _Job, now: float) -> bool:
        if job.waiting and not job.future.done():
            if job.deadline > now and not job.gone():
                return True
            job.future.set_exception(Late() if job.deadline <= now else Gone())
        self._set_waiting(job, [])
        return False

    def _put_back(
        self, seen: list[_Job], taken: dict[int, set[int]], version: "Version | None"
    ) -> None:
        untouched = []
        for index, job in enumerate(seen):
            if index not in taken:
                untouched.append(job)
                continue
            self._set_waiting(job, [row for row in job.waiting if row not in taken[index]])
            if job.waiting:
                assert version is not None
                self._versions[job] = version
                self._jobs.append(job)
        self._jobs.extendleft(reversed(untouched))

    def _deliver(
        self,
        version: "Version",
        rows: list[tuple[_Job, int]],
        work: "Future[list[Answer | Failed]]",
        started: float,
    ) -> None:
        """Pass the answers of a batch to its requests."""
        self._busy -= 1
        self._taken -= len(rows)
        self._begun.remove(started)
        error = work.exception()
        found = [failed(error)] * len(rows) if error else work.result()
        for (job, row), answer in zip(rows, found, strict=True):
            job.unanswered -= 1
            if job.future.done():
                continue
            if isinstance(answer, Failed):
                log.error("%s did not answer a text: %s", version.name, answer)
                job.future.set_exception(answer)
                continue
            job.answers[row] = answer
            if not job.unanswered:
                job.future.set_result(version)
        seconds = monotonic() - started
        if self.observe:
            self.observe(len(rows), seconds)
        if self._jobs:
            self._learn(len(rows), seconds)  # only under load, when all runners are busy
            if self._wake is None:
                self._take_all()

    def _sweep(self) -> None:
        """End the requests whose deadline has passed, including those in a batch."""
        self._sweeper = None
        now = monotonic()
        for job in [job for job in self._open if job.deadline <= now]:
            if not job.future.done():
                job.future.set_exception(Late())
        if self._open:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)


def _length(texts: "Texts") -> int:
    return len(texts[0]) + len(texts[1])


def _batch_with_oldest(
    rows: list[tuple[int, int, int]], tuning: Tuning
) -> list[tuple[int, int, int]]:
    """Return the oldest row, which is the first of `rows`, and its neighbours by length, shorter
    ones first."""
    oldest, ordered = rows[0], sorted(rows)
    size = tuning.room(oldest[0])
    start = max(0, ordered.index(oldest) + 1 - size)
    batch = ordered[start : start + size]
    while len(batch) > tuning.room(batch[-1][0]) and batch[-1] is not oldest:
        batch.pop()
    return batch
