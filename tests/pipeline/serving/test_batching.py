"""No request is lost, none is answered twice, none is answered by two versions."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.serving.batching import Batcher, Busy, Gone, Late
from pipeline.serving.runner import Failed
from pipeline.serving.tuning import Tuning
from pipeline.tasks.base import Answer
from pipeline.tasks.base.encoding import Texts


class Fake:
    """Version whose answers hold its number and the text; it waits while `gate` is not set and
    fails on texts that begin with '!'."""

    def __init__(self, number: int, gate: threading.Event | None = None) -> None:
        self.name, self.number, self.gate = f"toy/{number}", str(number), gate
        self.batches: list[list[str]] = []
        self.sizes: list[int] = []
        self.entered = threading.Semaphore(0)

    def answer(self, texts: Sequence[Texts], batch_size: int) -> list[Answer]:
        self.batches.append([text for text, _ in texts])
        self.sizes.append(batch_size)
        self.entered.release()
        if self.gate:
            assert self.gate.wait(10)
        if any(text.startswith("!!") for text, _ in texts):
            raise SystemExit(1)
        if any(text.startswith("!") for text, _ in texts):
            raise ValueError("it quotes\nthe text")
        return [Answer(f"{self.number}:{text}", 1.0) for text, _ in texts]


def tuning(runners: int = 1, batch: int = 4, rate: float = 1000.0) -> Tuning:
    return Tuning(runners, 1, batch, rate)


def run(make: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine for at most 20 seconds; no other callback of the loop may fail."""
    failed: list[dict[str, Any]] = []

    async def limited() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: failed.append(what))
        await asyncio.wait_for(make(), 20)  # type: ignore[arg-type]

    asyncio.run(limited())
    assert not failed


def ask(batcher: Batcher, *texts: str, seconds: float = 10.0, **more: Any) -> "asyncio.Task[Any]":
    rows = [(text, "") for text in texts]
    return asyncio.create_task(batcher.answer(rows, time.monotonic() + seconds, **more))


async def ready(version: Any, most: int = 0, **values: Any) -> Batcher:
    batcher = Batcher(tuning(**values), most)
    await batcher.swap(version)
    return batcher


async def entered(version: Fake) -> None:
    """Wait until a runner has a batch of the version."""
    assert await asyncio.to_thread(version.entered.acquire, timeout=10)


REQUESTS = st.lists(st.integers(min_value=0, max_value=30), min_size=1, max_size=40)


@given(REQUESTS, st.integers(1, 3), st.integers(1, 7), st.integers(0, 40), st.randoms())
def test_every_request_is_answered_once_and_by_one_version(
    sizes: list[int], runners: int, batch: int, swaps: int, random: Any
) -> None:
    async def check() -> None:
        batcher = await ready(Fake(0), 10**6, runners=runners, batch=batch)
        asked = []
        for place, size in enumerate(sizes):
            texts = [f"{place}.{row}" + "x" * random.randrange(20) for row in range(size)]
            asked.append((texts, ask(batcher, *texts)))
            if random.randrange(3) == 0:
                await asyncio.sleep(0)
            if place < swaps and random.randrange(2):
                await batcher.swap(Fake(place + 1))
        for texts, task in asked:
            answers, version = await task
            assert [a.label for a in answers] == [f"{version.number}:{text}" for text in texts]
        assert batcher.waiting == 0
        batcher.close()

    run(check)


@given(REQUESTS, st.randoms())
def test_counts_are_nought_when_all_have_left_or_were_answered(
    sizes: list[int], random: Any
) -> None:
    async def check() -> None:
        batcher = await ready(Fake(0), 10**6)
        tasks = [ask(batcher, *[f"{i}"] * size) for i, size in enumerate(sizes)]
        await asyncio.sleep(0)
        for task in tasks:
            if random.randrange(2):
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        answers, _ = await ask(batcher, "last")
        assert answers[0].label == "0:last"
        assert (batcher.waiting, batcher._ahead, batcher._busy) == (0, 0, 0)
        assert not batcher._open
        assert not batcher._versions
        batcher.close()

    run(check)


async def batches_behind(
    version: "Fake", batcher: Batcher, lengths: Sequence[int]
) -> list[list[int]]:
    """Return the text lengths of each batch of requests that arrive while another is answered."""
    first = ask(batcher, "first")
    await entered(version)
    others = [ask(batcher, "x" * length) for length in lengths]
    await asyncio.sleep(0)
    assert version.gate
    version.gate.set()
    await asyncio.gather(first, *others)
    assert version.batches[0] == ["first"]
    return [sorted(map(len, batch)) for batch in version.batches[1:]]


def test_what_waits_is_taken_together_and_the_oldest_with_those_of_its_length() -> None:
    async def check() -> None:
        version = Fake(1, threading.Event())
        batcher = await ready(version, batch=3)
        found = await batches_behind(version, batcher, [5, 50, 4, 49, 6, 48])
        assert found == [[4, 5, 6], [48, 49, 50]]
        batcher.close()

    run(check)


def test_long_texts_are_answered_a_few_at_a_time_and_never_beside_short_ones() -> None:
    async def check() -> None:
        version = Fake(1, threading.Event())
        batcher = await ready(version, batch=4)
        found = await batches_behind(version, batcher, [5000, 10, 512, 11, 512, 5000])
        assert found == [[5000], [10, 11], [512, 512], [5000]]
        batcher.close()

    run(check)


def test_fewer_may_be_inside_when_answering_is_slower_than_measured() -> None:
    async def check() -> None:
        class Slow(Fake):
            def answer(self, texts: Sequence[Texts], batch_size: int) -> list[Answer]:
                time.sleep(0.01)
                return super().answer(texts, batch_size)

        batcher = await ready(Slow(1), batch=4, rate=100_000.0)
        before = batcher.most_inside
        await asyncio.gather(*(ask(batcher, f"{i}") for i in range(80)))
        assert batcher.most_inside < before / 2
        batcher.close()

    run(check)


def test_a_text_that_had_to_wait_says_little_about_how_fast_many_are() -> None:
    async def check() -> None:
        class Held(Fake):
            def answer(self, texts: Sequence[Texts], batch_size: int) -> list[Answer]:
                found = super().answer(texts, batch_size)
                time.sleep(0.05 if texts[0][0] == "held" else 0)
                return found

        version = Held(1)
        batcher = await ready(version, batch=64, rate=30_000.0)
        assert batcher.most_inside == 2400
        held = ask(batcher, "held")
        await entered(version)
        await asyncio.gather(held, ask(batcher, "next"))
        assert 300 < batcher.most_inside < 2400
        batcher.close()

    run(check)


def test_a_single_request_has_its_turn_between_the_slices_of_a_long_one() -> None:
    async def check() -> None:
        gate = threading.Event()
        version = Fake(1, gate)
        batcher = await ready(version, batch=4)
        long = ask(batcher, *[f"long {row}" for row in range(40)])
        await entered(version)
        single = ask(batcher, "single")
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(long, single)
        place = next(i for i, batch in enumerate(version.batches) if "single" in batch)
        assert place <= 2
        assert len(version.batches) >= 10
        batcher.close()

    run(check)


def test_a_long_request_ends_with_the_version_that_it_began_with() -> None:
    async def check() -> None:
        gate = threading.Event()
        old = Fake(1, gate)
        batcher = await ready(old, batch=4)
        long = ask(batcher, *[f"long {row}" for row in range(20)])
        await entered(old)
        new = Fake(2)
        await batcher.swap(new)
        single = ask(batcher, "single")
        gate.set()
        answers, version = await long
        assert version is old
        assert {answer.label[0] for answer in answers} == {"1"}
        assert (await single)[1] is new
        assert (batcher.version, batcher.previous) == (new, old)
        batcher.close()

    run(check)


def test_beyond_what_may_be_inside_a_request_is_refused_at_once_and_later_taken_again() -> None:
    async def check() -> None:
        gate = threading.Event()
        version = Fake(1, gate)
        batcher = await ready(version, most=6, batch=2, rate=10.0)
        first = ask(batcher, "first", seconds=100)
        await entered(version)
        waiting = [ask(batcher, f"{i}", seconds=100) for i in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Busy) as refused:
            await ask(batcher, "one too many", seconds=100)
        assert refused.value.retry_after == pytest.approx(0.6)
        with pytest.raises(Busy):
            batcher.admit(1, time.monotonic() + 100)
        gate.set()
        await asyncio.gather(first, *waiting)
        assert (await ask(batcher, "again", seconds=100))[0][0].label == "1:again"
        batcher.close()

    run(check)


def test_while_most_are_refused_fewer_are_let_in() -> None:
    async def check() -> None:
        gate = threading.Event()
        version = Fake(1, gate)
        batcher = await ready(version, batch=2, rate=100.0)
        clients = [ask(batcher, f"{i}", seconds=100) for i in range(32)]
        await entered(version)
        for _ in range(50):
            with pytest.raises(Busy):
                await ask(batcher, "the 33rd", seconds=100)
        gate.set()
        await asyncio.gather(*clients)

        gate = threading.Event()
        again = Fake(2, gate)
        await batcher.swap(again)  # type: ignore[arg-type]
        batcher.tune(batcher.tuning)  # 100 rows a second, of which 5 in 0.05 seconds
        batcher._refused = 0.9
        few = [ask(batcher, f"{i}", seconds=100) for i in range(5)]
        await entered(again)
        with pytest.raises(Busy):
            await ask(batcher, "the sixth", seconds=100)
        gate.set()
        await asyncio.gather(*few)
        for _ in range(10):  # one after the other, and all are taken
            await ask(batcher, "alone", seconds=100)
        more = [ask(batcher, f"{i}", seconds=100) for i in range(32)]
        await asyncio.gather(*more)
        batcher.close()

    run(check)


def test_a_long_request_takes_no_more_of_the_queue_than_a_batch() -> None:
    async def check() -> None:
        gate = threading.Event()
        version = Fake(1, gate)
        batcher = await ready(version, most=6, batch=2)
        first = ask(batcher, *["first"] * 500)
        await entered(version)
        second = ask(batcher, "second")
        gate.set()
        assert len((await first)[0]) == 500
        await second
        batcher.close()

    run(check)


def test_what_cannot_be_done_by_its_deadline_is_refused_at_once() -> None:
    async def check() -> None:
        gate = threading.Event()
        version = Fake(1, gate)
        batcher = await ready(version, most=1000, batch=2, rate=10.0)
        first = ask(batcher, "first")
        await entered(version)
        second = ask(batcher, *["x"] * 50)
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await ask(batcher, *["x"] * 51)
        gate.set()
        await asyncio.gather(first, second)
        batcher.close()

    run(check)


def test_before_there_is_a_version_every_request_is_refused() -> None:
    async def check() -> None:
        batcher = Batcher(tuning())
        with pytest.raises(Busy):
            await ask(batcher, "early")
        assert not batcher.ready
        batcher.close()

    run(check)


def test_late_and_left_requests_cost_nothing() -> None:
    async def check() -> None:
        gate = threading.Event()
        version = Fake(1, gate)
        batcher = await ready(version, batch=8)
        first = ask(batcher, "first")
        await entered(version)
        late = ask(batcher, "late", seconds=0.01)
        left = ask(batcher, "left", gone=lambda: True)
        cancelled = ask(batcher, "cancelled")
        stays = ask(batcher, "stays")
        await asyncio.sleep(0.02)
        cancelled.cancel()
        gate.set()
        with pytest.raises(Late):
            await late
        with pytest.raises(Gone):
            await left
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await asyncio.gather(first, stays)
        assert version.batches == [["first"], ["stays"]]
        batcher.close()

    run(check)


def test_when_all_who_waited_have_left_there_is_nothing_to_do() -> None:
    async def check() -> None:
        gate = threading.Event()
        version = Fake(1, gate)
        batcher = await ready(version)
        first = ask(batcher, "first")
        await entered(version)
        left, cancelled = ask(batcher, "left", gone=lambda: True), ask(batcher, "cancelled")
        await asyncio.sleep(0.02)
        cancelled.cancel()
        gate.set()
        await first
        with pytest.raises(Gone):
            await left
        await ask(batcher, "next")
        assert version.batches == [["first"], ["next"]]
        batcher.close()

    run(check)


def test_a_runner_that_hangs_does_not_keep_requests_beyond_their_deadline() -> None:
    async def check() -> None:
        gate = threading.Event()
        batcher = await ready(Fake(1, gate))
        for task in (ask(batcher, "at it", seconds=0.05), ask(batcher, "waits", seconds=0.05)):
            with pytest.raises(Late):
                await task
        gate.set()
        assert (await ask(batcher, "next"))[0][0].label == "1:next"
        batcher.close()

    run(check)


@pytest.mark.parametrize("bad", ["! a text", "!! a text"])
def test_a_bad_text_fails_alone_and_its_runner_goes_on(bad: str) -> None:
    async def check() -> None:
        gate = threading.Event()
        version = Fake(1, gate)
        batcher = await ready(version, batch=8)
        first = ask(batcher, "first")
        await entered(version)
        good, wrong, mixed = ask(batcher, "good"), ask(batcher, bad), ask(batcher, "fine", bad)
        await asyncio.sleep(0)
        gate.set()
        assert (await first)[0][0].label == "1:first"
        for task in (wrong, mixed):
            with pytest.raises(Failed) as failed:
                await task
            assert "text" not in str(failed.value)
            assert "\n" not in str(failed.value)
        assert (await good)[0][0].label == "1:good"
        assert (await ask(batcher, "after"))[0][0].label == "1:after"
        assert (batcher.waiting, batcher._busy) == (0, 0)
        batcher.close()

    run(check)


def test_answers_that_are_too_few_are_given_to_nobody() -> None:
    class Short(Fake):
        def answer(self, texts: Sequence[Texts], batch_size: int) -> list[Answer]:
            return super().answer(texts, batch_size)[: 1 if len(texts) == 1 else -1]

    async def check() -> None:
        batcher = await ready(Short(1), batch=8)
        answers, _ = await ask(batcher, "a", "b", "c")
        assert [answer.label for answer in answers] == ["1:a", "1:b", "1:c"]
        batcher.close()

    run(check)


def test_a_refused_version_is_told_until_another_is_put_in_use() -> None:
    async def check() -> None:
        batcher = await ready(Fake(1))
        batcher.refuse("2", "it is broken")
        assert batcher.refused == ("2", "it is broken")
        await batcher.swap(Fake(3))
        assert (batcher.refused, batcher.refusals, batcher.swaps) == (None, 1, 1)
        batcher.close()

    run(check)


@pytest.mark.parametrize(
    ("at_once", "length", "size"), [(0, 9, 8), (2, 9, 2), (2, 1000, 2), (4, 1000, 2)]
)
def test_a_model_is_given_as_many_rows_at_once_as_pays(
    at_once: int, length: int, size: int
) -> None:
    async def check() -> None:
        version = Fake(1)
        batcher = await ready(version, batch=8)
        batcher.tune(replace(batcher.tuning, at_once=at_once))
        await asyncio.gather(*(ask(batcher, "x" * length) for _ in range(8)))
        assert set(version.sizes) == {size}
        batcher.close()

    run(check)


def test_how_many_may_be_inside_follows_what_was_measured() -> None:
    async def check() -> None:
        batcher = Batcher(tuning(batch=16, rate=1000.0))
        assert batcher.most_inside == 80
        batcher.tune(tuning(batch=24, rate=10.0))
        assert batcher.most_inside == 48
        batcher.tune(tuning(batch=4, rate=10.0))
        assert batcher.most_inside == 32
        batcher.close()

    run(check)
