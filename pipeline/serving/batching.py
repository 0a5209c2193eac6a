"""Requests that arrive together are answered together: a bounded queue, and runners that take
from it.

All of it but the model's own work happens on the event loop's thread, so that it needs no locks.
A runner is a thread that is given one batch at a time. A request is answered by one version: the
one that was in use when its first row was taken.
"""

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import TYPE_CHECKING

from pipeline.serving.runner import Failed, answers, failed, step_back
from pipeline.serving.tuning import Tuning

if TYPE_CHECKING:
    from pipeline.serving.version import Version
    from pipeline.tasks.base import Answer
    from pipeline.tasks.base.encoding import Texts

WINDOW = 4  # batches of waiting rows among which those of like length are looked for
SECONDS_INSIDE = 0.08  # worth of rows that may wait or be worked at
SECONDS_OVERLOADED = 0.05  # the same, while most are refused
FEWEST_INSIDE = 32  # rows: so many clients who ask one thing at a time are never refused
OVERLOADED = 0.5  # share of the last requests that were refused
LEARNED = 0.05  # of each batch or request, into what is expected of the next
SWEEP = 0.25  # seconds between looks for requests whose deadline has passed
log = logging.getLogger("bertline.serving")


class Busy(Exception):  # noqa: N818 - a state, like those below
    """The queue is full, or there is no version yet."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many requests: try again in {retry_after:.1f} s")
        self.retry_after = retry_after
        """Seconds."""


class Late(Exception):  # noqa: N818
    """The deadline passed before there was an answer."""


class Gone(Exception):  # noqa: N818
    """Who asked has left: nobody is waiting for this answer."""


class _Job:
    """A request: its rows, those that no runner has taken yet, and its answers so far."""

    __slots__ = ("answers", "arrived", "deadline", "future", "gone", "left", "rest", "texts")

    def __init__(
        self,
        texts: "Sequence[Texts]",
        future: "asyncio.Future[Version]",
        arrived: float,
        deadline: float,
        gone: Callable[[], bool],
    ) -> None:
        self.texts, self.future, self.gone = texts, future, gone
        self.arrived, self.deadline = arrived, deadline
        self.rest: list[int] = []  # places in texts
        self.answers: list[Answer | None] = [None] * len(texts)
        self.left = len(texts)  # rows without an answer


def nobody_left() -> bool:
    """For those who cannot tell whether their client is still there."""
    return False


class Batcher:
    """Answers requests by the version in use, in batches, within `tuning`.

    `most_inside` rows may wait or be worked at before a new request is refused. 0 stands for what
    is answered in 0.08 seconds, as measured and as seen since, and no fewer than 32 and than two
    batches a runner. While most are refused it is 0.05 seconds, and no fewer than keep the runners
    busy: refusals take from the processor, and who is answered should not wait longer than before.
    While a runner is idle a row waits at most `gather` seconds for others, and only as long as
    others come. For one event loop.
    """

    def __init__(self, tuning: Tuning, most_inside: int = 0, gather: float = 0.002) -> None:
        self.version: Version | None = None
        self.previous: Version | None = None
        """The one before, ready to answer."""
        self.confirmed = False
        """Whether it is known which version should be in use, or cannot be known now."""
        self.refused: tuple[str, str] | None = None
        """The number of the version that should be in use and cannot be, and why."""
        self.swaps = self.refusals = 0
        self.waiting = 0
        """Rows that no runner has taken yet."""
        self.observe: Callable[[int, float], object] | None = None
        """Told of every batch: its rows, and its seconds."""
        self.gather = gather
        self._asked_most_inside = most_inside
        self._jobs: deque[_Job] = deque()
        self._versions: dict[_Job, Version] = {}  # of requests that have begun and wait for more
        self._open: set[_Job] = set()
        self._busy = 0
        self._ahead = 0  # rows that are taken before the first of a new request
        self._taken = 0  # rows that runners are at
        self._mean = 0.0, 0.0  # rows of a batch, and its seconds
        self._refused = 0.0  # share of the last requests
        self._begun: list[float] = []  # when each batch that runners are at was taken
        self._wake: asyncio.Handle | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._pool = ThreadPoolExecutor(max(4, os.cpu_count() or 1), "runner", step_back)
        self.tune(tuning)

    @property
    def ready(self) -> bool:
        """True if there is a version, and it is known to be the one that should be in use."""
        return self.confirmed and self.version is not None

    def tune(self, tuning: Tuning) -> None:
        """Go on with other numbers."""
        self.tuning = tuning
        self._mean = tuning.batch, tuning.batch * tuning.runners / tuning.rows_per_second
        self._set_rate(tuning.rows_per_second)
        self._ahead = sum(min(len(job.rest), tuning.batch) for job in self._jobs)

    def _set_rate(self, rate: float) -> None:
        """How many rows a second are answered, and so how many may be inside."""
        self._rate = rate
        batch, runners = self.tuning.batch, self.tuning.runners
        most = max(FEWEST_INSIDE, 2 * runners * batch, round(rate * SECONDS_INSIDE))
        few = max((runners + 1) * batch, round(rate * SECONDS_OVERLOADED))
        self.most_inside = self._asked_most_inside or most
        self._most_overloaded = self._asked_most_inside or few

    def _learn(self, rows: int, seconds: float) -> None:
        """Let a batch count for as much as it holds: a single text that had to wait for the
        processor says little about many, and one that failed at once made nothing faster."""
        mean_rows, mean_seconds = self._mean
        seconds = max(seconds, rows * mean_seconds / mean_rows / 2)
        mean_rows += LEARNED * (rows - mean_rows)
        mean_seconds += LEARNED * (seconds - mean_seconds)
        self._mean = mean_rows, mean_seconds
        self._set_rate(self.tuning.runners * mean_rows / mean_seconds)

    def busy_for(self) -> float:
        """Seconds for which the batch that was taken first has been worked at."""
        return monotonic() - min(self._begun) if self._begun else 0.0

    async def swap(self, version: "Version") -> None:
        """Put a version in use. What has begun ends with the one before, which is kept."""
        if self.version is not None or (self.refused and self.refused[0] == version.number):
            self.refused = None  # but not by the first, which may stand in for the one refused
        if version is not self.version:
            self.swaps += self.version is not None
            self.previous, self.version = self.version, version

    def refuse(self, number: str, reason: str) -> None:
        """Say that a version was not let in; the one in use stays."""
        self.refused = (number, reason)
        self.refusals += 1

    def close(self) -> None:
        """Take no more work: whoever still waits is told that it is too late."""
        for job in self._open:
            if not job.future.done():
                job.future.set_exception(Late())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for handle in (self._wake, self._sweeper):
            if handle:
                handle.cancel()

    # requests

    def admit(self, rows: int, deadline: float) -> None:
        """Raises Busy where a request of so many rows would not be taken now: there are too many
        before it, or it could not be done by its deadline."""
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
        gone: Callable[[], bool] = nobody_left,
    ) -> "tuple[list[Answer], Version]":
        """One answer a text, all by the version that is returned.

        `deadline` is a moment of `time.monotonic`; `gone` tells whether the client has left. Raises
        Busy, Late, Gone, and Failed where the version's code does not manage one of the texts.
        """
        self.admit(len(texts), deadline)
        self._refused -= LEARNED * self._refused
        now = monotonic()
        loop = asyncio.get_running_loop()
        job = _Job(texts, loop.create_future(), now, deadline, gone)
        if not texts:
            assert self.version is not None
            return [], self.version
        self._leave(job, sorted(range(len(texts)), key=lambda row: _length(texts[row])))
        self._jobs.append(job)
        self._open.add(job)
        self._rouse(loop)
        try:
            version = await job.future
        finally:
            self._open.discard(job)
            self._versions.pop(job, None)
            if job.rest:  # cancelled or late
                self._leave(job, [])
        return job.answers, version  # type: ignore[return-value]  # none is missing

    def _leave(self, job: _Job, rest: list[int]) -> None:
        """Set which rows of a request still wait."""
        batch = self.tuning.batch
        self.waiting += len(rest) - len(job.rest)
        self._ahead += min(len(rest), batch) - min(len(job.rest), batch)
        job.rest = rest

    # batches

    def _rouse(self, loop: asyncio.AbstractEventLoop) -> None:
        """See to it that what waits is taken: soon, or when others have had time to join it."""
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
        """Wait for as long as each turn of the loop brings more requests, but not for long."""
        if self.waiting > waiting and monotonic() - since < self.gather:
            self._wake = loop.call_soon(self._take_when_quiet, loop, self.waiting, since)
        else:
            self._take_all()

    def _take_all(self) -> None:
        """Give every idle runner a batch, while there are any."""
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
                loop.call_soon_threadsafe(self._give, version, rows, work, started)

        return done

    def _take(self) -> "tuple[Version | None, list[tuple[_Job, int]]]":
        """A batch, and the version that answers it: rows of like length, the oldest among them.

        A request with more rows than a batch goes to the end of the queue with those that are left.
        """
        batch, now = self.tuning.batch, monotonic()
        version: Version | None = None
        seen: list[_Job] = []
        rows: list[tuple[int, int, int]] = []  # characters, place in seen, row
        while self._jobs and len(rows) < WINDOW * batch:
            job = self._jobs.popleft()
            if not self._is_wanted(job, now):
                continue
            own = self._versions.get(job, self.version)
            if version is None:
                version = own
            if own is version:
                rows += [(_length(job.texts[row]), len(seen), row) for row in job.rest[:batch]]
            seen.append(job)
        if not rows:  # all who waited have left
            return None, []
        taken: dict[int, set[int]] = {}
        for _, place, row in _run_with_the_oldest(rows, self.tuning):
            taken.setdefault(place, set()).add(row)
        self._put_back(seen, taken, version)
        return version, [(seen[place], row) for place, own in taken.items() for row in own]

    def _is_wanted(self, job: _Job, now: float) -> bool:
        if job.rest and not job.future.done():
            if job.deadline > now and not job.gone():
                return True
            job.future.set_exception(Late() if job.deadline <= now else Gone())
        self._leave(job, [])
        return False

    def _put_back(
        self, seen: list[_Job], taken: dict[int, set[int]], version: "Version | None"
    ) -> None:
        kept = []
        for place, job in enumerate(seen):
            if place not in taken:
                kept.append(job)
                continue
            self._leave(job, [row for row in job.rest if row not in taken[place]])
            if job.rest:
                assert version is not None
                self._versions[job] = version
                self._jobs.append(job)
        self._jobs.extendleft(reversed(kept))

    def _give(
        self,
        version: "Version",
        rows: list[tuple[_Job, int]],
        work: "Future[list[Answer | Failed]]",
        started: float,
    ) -> None:
        """Hand a batch's answers to its requests."""
        self._busy -= 1
        self._taken -= len(rows)
        self._begun.remove(started)
        error = work.exception()
        found = [failed(error)] * len(rows) if error else work.result()
        for (job, row), answer in zip(rows, found, strict=True):
            job.left -= 1
            if job.future.done():
                continue
            if isinstance(answer, Failed):
                log.error("%s did not answer a text: %s", version.name, answer)
                job.future.set_exception(answer)
                continue
            job.answers[row] = answer
            if not job.left:
                job.future.set_result(version)
        seconds = monotonic() - started
        if self.observe:
            self.observe(len(rows), seconds)
        if self._jobs:
            # all runners were at work: what they manage now counts for more than the measurement
            self._learn(len(rows), seconds)
            if self._wake is None:
                self._take_all()

    def _sweep(self) -> None:
        """End the requests whose deadline has passed, also those that a runner is at."""
        self._sweeper = None
        now = monotonic()
        for job in [job for job in self._open if job.deadline <= now]:
            if not job.future.done():
                job.future.set_exception(Late())
        if self._open:
            self._sweeper = asyncio.get_running_loop().call_later(SWEEP, self._sweep)


def _length(texts: "Texts") -> int:
    return len(texts[0]) + len(texts[1])


def _run_with_the_oldest(
    rows: list[tuple[int, int, int]], tuning: Tuning
) -> list[tuple[int, int, int]]:
    """Of rows that begin with the oldest: it, and those that come before it by length."""
    oldest, ordered = rows[0], sorted(rows)
    place = ordered.index(oldest)
    size = tuning.room(oldest[0])
    start = max(0, place + 1 - size)
    run = ordered[start : start + size]
    while len(run) > tuning.room(run[-1][0]) and run[-1] is not oldest:
        run.pop()
    return run
