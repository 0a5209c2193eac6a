"""Process that answers requests: `python -m pipeline.serving.worker`, started by `bertline serve`.

It inherits a listening socket and a channel, over which the supervisor sends the version to serve
as JSON lines; it exits when the channel is closed. It imports neither MLflow nor pandas, and loads
the version that was served last while it imports the rest.
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
from pipeline.serving import tuning as tunings
from pipeline.serving.batching import Batcher
from pipeline.serving.settings import Limits, Settings, api_keys
from pipeline.serving.spec import Spec, spec_of
from pipeline.serving.tuning import Tuning
from pipeline.serving.version import Version, open_version, try_out

Opened = Future[tuple[Version, Tuning]]
SWITCH = 0.001  # seconds for which a thread may block the event loop; Python's default is 0.005
OPENS = 120.0  # seconds after which the loading of a version counts as hung
HOLDS = 5.0  # seconds for which connections wait for the version that was served last
KEEP_ALIVE = 75  # seconds for which a connection may be idle


class Opener:
    """Loader of versions, for any thread. `stored` is the last tuning, as JSON."""

    def __init__(self, recipe: str, cores: int, stored: Any, *, hurry: bool = False) -> None:
        self.recipe, self.cores, self.stored, self.hurry = recipe, cores, stored, hurry

    def __call__(self, spec: Spec, *, known: bool) -> tuple[Version, Tuning]:
        """Load a version and return it with its tuning.

        A `known` version has been served before and is not tried out again. Raises UserError.
        """
        tuning = tunings.from_json(self.stored, None, self.cores)
        version = self._open(spec, spec.files, tuning.threads if tuning else 1)
        if not known:
            try_out(version)
        if known and not self.hurry and not tunings.from_json(self.stored, version, self.cores):
            tuning = None  # of a model of another size, and there is time: no requests yet
        if tuning is None:
            tuning, version = tunings.measure(
                lambda threads: (
                    version if threads == version.threads else self._open(spec, None, threads)
                ),
                self.cores,
            )
            self.stored = tunings.to_json(tuning, version, self.cores)
        return version, tuning

    def _open(self, spec: Spec, files: dict[str, str] | None, threads: int) -> Version:
        return open_version(self.recipe, spec.number, Path(spec.folder), files, threads)


class Worker:
    """Handler of the supervisor's messages, on the event loop's thread."""

    def __init__(
        self,
        batcher: Batcher,
        opener: Opener,
        writer: asyncio.StreamWriter,
        log: Callable[..., None],
        patience: float,
    ) -> None:
        """`patience` is the number of seconds after which a batch counts as hung."""
        self.batcher, self.opener, self.writer, self.log = batcher, opener, writer, log
        self.patience = patience
        self.specs: dict[str, Spec] = {}  # of loaded versions, by number
        self.wanted: Spec | None = None
        self.requested = asyncio.Event()
        self.started = asyncio.Event()
        """Set once the version loaded at the start is in use or has failed."""
        self.opening: float | None = None  # start time of the current loading
        self.frozen = False

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Handle messages until the channel is closed."""
        async for line in reader:
            message = json.loads(line)
            if "serve" in message:
                self.wanted = spec_of(message["serve"])
                self.requested.set()
            elif "refused" in message:
                self.batcher.refuse(message["refused"], message["reason"])
            elif "confirmed" in message:
                self.batcher.confirmed = True
            elif "beat" in message and not self._hangs():
                self._send({"beat": True})

    def _hangs(self) -> bool:
        """True if a batch or the loading of a version takes too long."""
        opening = monotonic() - self.opening if self.opening else 0.0
        return self.batcher.busy_for() >= self.patience or opening >= OPENS

    async def run(self, first: Spec | None = None, opened: Opened | None = None) -> None:
        """Serve the version loaded at the start, if there is one, then each requested one."""
        if first and opened:
            await self._serve(first, asyncio.wrap_future(opened))
        self.started.set()
        while True:
            await self.requested.wait()
            self.requested.clear()
            spec = self.wanted
            assert spec
            loaded = (self.batcher.version, self.batcher.previous)
            known = next((v for v in loaded if v and spec.same(self.specs.get(v.number))), None)
            if known:
                await self._put_in_use(spec, known)
            else:
                await self._serve(spec, asyncio.to_thread(self.opener, spec, known=False))

    async def _serve(self, spec: Spec, opening: Any) -> None:
        """Put a version in use once it is loaded, unless another is wanted by then."""
        self.opening = monotonic()
        try:
            version, tuning = await opening
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # a panic of the tokenizer is not an Exception
            reason = str(error)
            if not isinstance(error, UserError):
                name = f"{self.opener.recipe}/{spec.number}"
                reason = str(UserError(f"{name} is not served: {type(error).__name__}: {error}"))
            self.batcher.refuse(spec.number, reason)
            self._send({"refused": spec.number, "reason": reason})
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
        self._send({"serving": spec.number, "tuning": self.opener.stored})
        if not self.frozen:
            self.frozen = True
            gc.collect()
            gc.freeze()  # imported modules stay: later collections skip them

    def _send(self, message: dict[str, Any]) -> None:
        if not self.writer.is_closing():
            self.writer.write(json.dumps(message).encode() + b"\n")


async def answer(
    arguments: dict[str, Any], opener: Opener, first: tuple[Spec, Opened] | None
) -> None:
    """Answer requests until the channel is closed; `first` is the version being loaded."""
    import uvicorn

    from pipeline.serving.app import create_app
    from pipeline.serving.feedback import Store
    from pipeline.serving.logs import LOGGING, Log
    from pipeline.serving.protocol import Protocol

    recipe, limits = arguments["recipe"], Limits(**arguments["limits"])
    batcher = Batcher(tunings.default_tuning(arguments["cores"]))
    settings = Settings(recipe, limits, api_keys(), frozenset(arguments["hosts"]))
    app = create_app(batcher, settings, Store(Path(arguments["feedback"]), recipe))
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
    channel = socket.socket(fileno=arguments["channel"])
    reader, writer = await asyncio.open_connection(sock=channel, limit=2**22)
    worker = Worker(batcher, opener, writer, Log(), 2 * limits.deadline)

    async def until_end(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            server.should_exit = True

    tasks = [
        asyncio.create_task(until_end(work))
        for work in (worker.listen(reader), worker.run(*first or ()))
    ]
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(worker.started.wait(), HOLDS)
    await server.serve([socket.socket(fileno=arguments["listen"])])
    batcher.close()
    for task in tasks:
        task.cancel()


def main() -> None:
    arguments = json.loads(sys.argv[1])
    sys.setswitchinterval(SWITCH)
    for descriptor in (arguments["listen"], arguments["channel"]):
        os.set_inheritable(descriptor, False)
    opener = Opener(
        arguments["recipe"], arguments["cores"], arguments["tuning"], hurry=arguments["hurry"]
    )
    spec = spec_of(arguments["serve"])
    first = (spec, _in_thread(lambda: opener(spec, known=True))) if spec else None
    import uvloop

    uvloop.run(answer(arguments, opener, first))
    sys.stderr.flush()
    os._exit(0)  # a thread that hangs in a model must not keep the process alive


def _in_thread(function: Callable[[], tuple[Version, Tuning]]) -> Opened:
    """Call a function in a new thread at once, before the event loop exists."""
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
