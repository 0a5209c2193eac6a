"""Reactions of a worker to messages."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import UserError
from pipeline.serving.batching import Batcher
from pipeline.serving.spec import Spec, as_json
from pipeline.serving.tuning import Tuning, default_tuning, to_json
from pipeline.serving.worker import OPENS, Opener, Worker
from tests.pipeline.serving.toys import make_version
from tests.pipeline.serving.web import Toy

TUNING = Tuning(2, 1, 8, 500.0)


class Fake:
    def __init__(self, number: str) -> None:
        self.number, self.name = number, f"toy/{number}"


class Openings:
    """Fake opener that waits for `let` and records which versions it opened."""

    recipe, stored = "toy", {"batch": 8}

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.errors: dict[str, BaseException] = {}
        self.let: dict[str, Future[None]] = {}

    def __call__(self, spec: Spec, *, known: bool) -> tuple[Any, Tuning]:
        self.opened.append(spec.number)
        if spec.number in self.let:
            self.let[spec.number].result(10)
        if spec.number in self.errors:
            raise self.errors[spec.number]
        return Fake(spec.number), TUNING


class Channel:
    """Channel that records messages of the worker."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def is_closing(self) -> bool:
        return False

    def write(self, line: bytes) -> None:
        self.said.append(json.loads(line))


class Scene:
    """Worker with a fake opener and channel."""

    def __init__(self) -> None:
        self.reader, self.channel = asyncio.StreamReader(), Channel()
        self.opener, self.batcher = Openings(), Batcher(default_tuning(1))
        self.logged: list[Any] = []
        log = lambda **fields: self.logged.append(fields)  # noqa: E731
        self.worker = Worker(self.batcher, self.opener, self.channel, log, 5.0)  # type: ignore[arg-type]

    def tell(self, **message: Any) -> None:
        self.reader.feed_data(json.dumps(message).encode() + b"\n")

    def serve(self, number: str, files: str = "same") -> None:
        self.tell(serve=as_json(spec(number, files)))

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            await asyncio.sleep(0.005)

    async def serving(self, number: str) -> None:
        now = self.batcher
        await self.until(lambda: bool(now.version and now.version.number == number))


def spec(number: str, files: str = "same") -> Spec:
    return Spec(number, f"/{number}", {"model": files})


def play(
    act: Callable[[Scene], Awaitable[None]], first: Spec | None = None, opened: Any = None
) -> None:
    async def run() -> None:
        scene = Scene()
        work = (scene.worker.listen(scene.reader), scene.worker.run(first, opened))
        tasks = [asyncio.create_task(each) for each in work]
        await asyncio.wait_for(act(scene), 20)  # type: ignore[arg-type]
        scene.reader.feed_eof()
        await asyncio.wait_for(tasks[0], 10)
        tasks[1].cancel()
        scene.batcher.close()

    asyncio.run(run())


def test_a_version_is_served_and_said_so_with_the_tuning() -> None:
    async def act(scene: Scene) -> None:
        scene.serve("1")
        await scene.serving("1")
        assert scene.channel.said == [{"serving": "1", "tuning": {"batch": 8}}]
        assert scene.batcher.tuning == TUNING
        assert not scene.batcher.ready
        scene.tell(confirmed=True)
        await scene.until(lambda: scene.batcher.ready)

    play(act)


def test_it_says_that_it_answers_unless_a_batch_does_not_end() -> None:
    async def act(scene: Scene) -> None:
        scene.tell(beat=True)
        await scene.until(lambda: bool(scene.channel.said))
        assert scene.channel.said == [{"beat": True}]
        scene.batcher._begun = [time.monotonic() - 6.0, time.monotonic()]
        scene.tell(beat=True)
        scene.tell(confirmed=True)
        await scene.until(lambda: scene.batcher.confirmed)
        assert len(scene.channel.said) == 1

    play(act)


def test_it_does_not_say_that_it_answers_while_an_opening_does_not_end() -> None:
    async def act(scene: Scene) -> None:
        scene.worker.opening = time.monotonic() - OPENS
        scene.tell(beat=True)
        scene.tell(confirmed=True)
        await scene.until(lambda: scene.batcher.confirmed)
        assert scene.channel.said == []

    play(act)


def test_the_version_before_is_put_back_without_being_opened() -> None:
    async def act(scene: Scene) -> None:
        for number in ("1", "2", "1", "2"):
            scene.serve(number)
            await scene.serving(number)
        assert scene.opener.opened == ["1", "2"]
        assert scene.batcher.previous
        assert scene.batcher.previous.number == "1"

    play(act)


def test_a_version_of_other_files_is_another() -> None:
    async def act(scene: Scene) -> None:
        scene.serve("1")
        await scene.serving("1")
        scene.serve("1", files="mended")
        await scene.until(lambda: len(scene.channel.said) == 2)
        assert scene.opener.opened == ["1", "1"]

    play(act)


class Panic(BaseException):
    """Error like a panic of the tokenizer, which is written in Rust."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("model of toy/2 has changed: it is not served"), None),
        (OSError("no\nmemory"), "toy/2 is not served: OSError: no memory"),
        (Panic("at a text"), "toy/2 is not served: Panic: at a text"),
    ],
)
def test_what_cannot_be_opened_is_refused_and_the_one_in_use_stays(
    error: BaseException, reason: str | None
) -> None:
    async def act(scene: Scene) -> None:
        scene.opener.errors["2"] = error
        scene.serve("1")
        await scene.serving("1")
        scene.serve("2")
        await scene.until(lambda: scene.batcher.refused is not None)
        assert scene.batcher.refused == ("2", reason or str(error))
        assert scene.channel.said[-1] == {"refused": "2", "reason": reason or str(error)}
        assert scene.batcher.version.number == "1"
        scene.serve("3")
        await scene.serving("3")
        assert scene.batcher.refused is None

    play(act)


def test_a_version_that_is_no_longer_wanted_is_dropped() -> None:
    async def act(scene: Scene) -> None:
        scene.serve("1")
        await scene.serving("1")
        scene.opener.let["2"] = Future()
        scene.serve("2")
        await scene.until(lambda: "2" in scene.opener.opened)
        scene.serve("1")
        await scene.until(lambda: scene.worker.wanted == spec("1"))
        scene.opener.let["2"].set_result(None)
        await scene.until(lambda: len(scene.channel.said) == 2)
        assert [said["serving"] for said in scene.channel.said] == ["1", "1"]
        assert scene.batcher.previous is None

    play(act)


def test_what_was_opened_from_the_beginning_answers_though_another_is_wanted() -> None:
    opened: Future[Any] = Future()

    async def act(scene: Scene) -> None:
        scene.serve("2")
        await scene.until(lambda: scene.worker.wanted == spec("2"))
        opened.set_result((Fake("1"), TUNING))
        await scene.serving("2")
        assert [said["serving"] for said in scene.channel.said] == ["1", "2"]

    play(act, spec("1"), opened)


def test_a_version_refused_before_a_restart_is_still_told() -> None:
    async def act(scene: Scene) -> None:
        scene.tell(refused="4", reason="it is broken")
        await scene.until(lambda: scene.batcher.refused == ("4", "it is broken"))
        await scene.batcher.swap(Toy(3))  # type: ignore[arg-type]  # which is served meanwhile
        assert scene.batcher.refused == ("4", "it is broken")
        await scene.batcher.swap(Toy(4))  # type: ignore[arg-type]
        assert scene.batcher.refused is None

    play(act)


def test_the_tuning_of_before_is_used_again_for_a_swap_and_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make_version(tmp_path / "1")
    here = Spec("1", str(tmp_path / "1"), files)
    measured: list[int] = []

    def measure(opened: Any, cores: int) -> tuple[Tuning, Any]:
        measured.append(cores)
        return TUNING, opened(1)

    monkeypatch.setattr("pipeline.serving.tuning.measure", measure)
    first = Opener("toy", 2, None)
    version, tuning = first(here, known=False)
    assert (tuning, measured) == (TUNING, [2])
    assert first(here, known=False)[1] == TUNING  # a swap
    assert Opener("toy", 2, first.stored)(here, known=True)[1] == TUNING  # a restart
    assert measured == [2]
    version.model_bytes *= 2
    larger = to_json(TUNING, version, 2)
    assert Opener("toy", 2, larger)(here, known=False)[1] == TUNING  # a swap to another size
    assert measured == [2]
    assert Opener("toy", 2, larger, hurry=True)(here, known=True)[1] == TUNING
    assert measured == [2]
    Opener("toy", 2, larger)(here, known=True)  # but a new start with it has the time
    Opener("toy", 4, first.stored)(here, known=True)
    assert measured == [2, 2, 4]


def test_a_version_that_has_served_is_not_tried_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Spec("1", str(tmp_path / "1"), make_version(tmp_path / "1", weight=float("nan")))
    monkeypatch.setattr(
        "pipeline.serving.tuning.measure", lambda opened, cores: (TUNING, opened(1))
    )
    assert Opener("toy", 1, None)(here, known=True)[1] == TUNING
    with pytest.raises(UserError, match="not finite"):
        Opener("toy", 1, None)(here, known=False)
