"""The process that answers: `python -m pipeline.serving.worker`, started by `bertline serve`.

It has a listening socket and a channel to the process that started it, over which it is told, a
JSON line each, which version to serve; it ends when the channel does. It imports neither MLflow nor
pandas, and opens the version that was served last while the rest is imported.
"""

import asyncio
import contextlib
import gc
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from pathlib import Path
from time import monotonic
from typing import Any

from pipeline.core.errors import UserError
from pipeline.serving import tuning as measured
from pipeline.serving.batching import Batcher
from pipeline.serving.settings import Limits, Settings, api_keys
from pipeline.serving.spec import Spec, spec_of
from pipeline.serving.tuning import Tuning
from pipeline.serving.version import Version, open_version, try_out

Opened = Future[tuple[Version, Tuning]]
SWITCH = 0.001  # seconds that a thread may keep the event loop waiting: 0.005 is Python's own
OPENS = 120.0  # seconds after which the opening of a version hangs
HOLDS = 5.0  # seconds for which connections wait for the version that was served last
KEEP_ALIVE = 75  # seconds for which a connection may be idle


class Opener:
    """Opens versions, in whatever thread."""

    def __init__(self, recipe: str, cores: int, kept: Any, *, hurry: bool = False) -> None:
        self.recipe, self.cores, self.kept, self.hurry = recipe, cores, kept, hurry

    def __call__(self, spec: Spec, *, known: bool) -> tuple[Version, Tuning]:
        """A version that may be served, and how. One that is `known` has served before, and is not
        tried out again. Raises UserError."""
        tuning = measured.again(self.kept, None, self.cores)
        version = self._open(spec, spec.files, tuning.threads if tuning else 1)
        if not known:
            try_out(version)
        if known and not self.hurry and not measured.again(self.kept, version, self.cores):
            tuning = None  # it was of another size, and nobody is being answered yet
        if tuning is None:
            tuning, version = measured.measure(
                lambda threads: (
                    version if threads == version.threads else self._open(spec, None, threads)
                ),
                self.cores,
            )
            self.kept = measured.kept(tuning, version, self.cores)
        return version, tuning

    def _open(self, spec: Spec, files: dict[str, str] | None, threads: int) -> Version:
        return open_version(self.recipe, spec.number, Path(spec.folder), files, threads)


class Worker:
    """Does what it is told over the channel, on the event loop's thread."""

    def __init__(
        self,
        batcher: Batcher,
        opener: Opener,
        writer: asyncio.StreamWriter,
        log: Callable[..., None],
        patience: float,
    ) -> None:
        """`patience` are the seconds after which a batch that is still worked at hangs."""
        self.batcher, self.opener, self.writer, self.log = batcher, opener, writer, log
        self.patience = patience
        self.specs: dict[str, Spec] = {}  # of the versions that were opened
        self.wanted: Spec | None = None
        self.told = asyncio.Event()
        self.begun = asyncio.Event()
        """Set when the version that is being opened from the beginning is in use, or cannot be."""
        self.opening: float | None = None  # since when a version is being opened
        self.frozen = False

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Hear what is said, to the end."""
        async for line in reader:
            message = json.loads(line)
            if "serve" in message:
                self.wanted = spec_of(message["serve"])
                self.told.set()
            elif "refused" in message:
                self.batcher.refuse(message["refused"], message["reason"])
            elif "confirmed" in message:
                self.batcher.confirmed = True
            elif "beat" in message and not self._hangs():
                self._say({"beat": True})

    def _hangs(self) -> bool:
        """Whether a batch, or the opening of a version, takes longer than either ever does."""
        opening = monotonic() - self.opening if self.opening else 0.0
        return self.batcher.busy_for() >= self.patience or opening >= OPENS

    async def obey(self, first: Spec | None = None, opened: Opened | None = None) -> None:
        """Serve the version that is being opened from the beginning, where there is one; then what
        was asked for last, again and again."""
        if first and opened:
            await self._take(first, asyncio.wrap_future(opened))
        self.begun.set()
        while True:
            await self.told.wait()
            self.told.clear()
            spec = self.wanted
            assert spec
            here = (self.batcher.version, self.batcher.previous)
            known = next((v for v in here if v and spec.same(self.specs.get(v.number))), None)
            if known:
                await self._put_in_use(spec, known)
            else:
                await self._take(spec, asyncio.to_thread(self.opener, spec, known=False))

    async def _take(self, spec: Spec, opening: Any) -> None:
        """Wait for a version that is being opened, and serve it unless another is wanted by now."""
        self.opening = monotonic()
        try:
            version, tuning = await opening
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a tokenizer's panic is no Exception
            reason = str(error)
            if not isinstance(error, UserError):
                name = f"{self.opener.recipe}/{spec.number}"
                reason = str(UserError(f"{name} is not served: {type(error).__name__}: {error}"))
            self.batcher.refuse(spec.number, reason)
            self._say({"refused": spec.number, "reason": reason})
            return
        finally:
            self.opening = None
        if self.wanted and not spec.same(self.wanted) and self.batcher.version:
            return
        self.specs[version.number] = spec
        if self.batcher.version is None:
            self.batcher.tune(tuning)
        await self._put_in_use(spec, version)

    async def _put_in_use(self, spec: Spec, version: Version) -> None:
        last = [self.batcher.previous]
        await self.batcher.swap(version)
        before = self.batcher.previous
        asyncio.get_running_loop().run_in_executor(None, last.clear)  # freeing a model takes time
        self.log(event="version in use", version=version.name, previous=before and before.name)
        self._say({"serving": spec.number, "tuning": self.opener.kept})
        if not self.frozen:
            self.frozen = True
            gc.collect()
            gc.freeze()  # what has been imported stays: it need not be looked through again

    def _say(self, message: dict[str, Any]) -> None:
        if not self.writer.is_closing():
            self.writer.write(json.dumps(message).encode() + b"\n")


async def answer(given: dict[str, Any], opener: Opener, begun: tuple[Spec, Opened] | None) -> None:
    """Answer until the channel ends."""
    import uvicorn

    from pipeline.serving.app import create_app
    from pipeline.serving.feedback import Store
    from pipeline.serving.logs import LOGGING, Log
    from pipeline.serving.protocol import Protocol

    recipe, limits = given["recipe"], Limits(**given["limits"])
    batcher = Batcher(measured.at_first(given["cores"]))
    settings = Settings(recipe, limits, api_keys(), frozenset(given["hosts"]))
    app = create_app(batcher, settings, Store(Path(given["feedback"]), recipe))
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="off",
        log_config=LOGGING,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=round(limits.deadline) + 1,
    )
    server = uvicorn.Server(config)
    channel = socket.socket(fileno=given["channel"])
    reader, writer = await asyncio.open_connection(sock=channel, limit=2**22)
    worker = Worker(batcher, opener, writer, Log(), 2 * limits.deadline)

    async def until_end(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            server.should_exit = True

    tasks = [
        asyncio.create_task(until_end(work))
        for work in (worker.listen(reader), worker.obey(*begun or ()))
    ]
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(worker.begun.wait(), HOLDS)
    await server.serve([socket.socket(fileno=given["listen"])])
    batcher.close()
    for task in tasks:
        task.cancel()


def main() -> None:
    given = json.loads(sys.argv[1])
    sys.setswitchinterval(SWITCH)
    for descriptor in (given["listen"], given["channel"]):
        os.set_inheritable(descriptor, False)
    opener = Opener(given["recipe"], given["cores"], given["tuning"], hurry=given["hurry"])
    spec = spec_of(given["serve"])
    begun = (spec, _in_thread(lambda: opener(spec, known=True))) if spec else None
    import uvloop

    uvloop.run(answer(given, opener, begun))
    sys.stderr.flush()
    os._exit(0)  # no thread that hangs in a model keeps the process


def _in_thread(function: Callable[[], tuple[Version, Tuning]]) -> Opened:
    """Begin at once; a thread of the loop's own is not to be had yet."""
    result: Opened = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result


if __name__ == "__main__":
    main()
