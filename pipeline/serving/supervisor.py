"""Main process of the server: it listens, follows the champion and keeps a worker running.

This process owns the listening socket, and a worker inherits it: while a worker is restarted,
connections wait. The state file names the version that was served last, so that after a restart of
everything a worker does not wait for MLflow.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.config import check_name
from pipeline.core.errors import UserError
from pipeline.core.files import write_json
from pipeline.serving.listening import is_loopback, listen
from pipeline.serving.logs import Log
from pipeline.serving.settings import KEYS, Limits, api_keys
from pipeline.serving.spec import Champion, Look, Spec, as_json, spec_of
from pipeline.serving.tuning import cores

WORKER = (sys.executable, "-m", "pipeline.serving.worker")
PATIENCE = 1.5  # seconds without MLflow after which the last version counts as the champion
TRIES = 3  # crashes of a worker while it loads a version, after which the version is refused
GRACE = 5.0  # seconds after a request's deadline for a worker to exit
LONGEST_PAUSE = 5.0  # seconds before a worker that exits at once is restarted
BEAT = 1.0  # seconds between heartbeats
MISSED = 15  # heartbeats in a row without an answer, after which the worker is killed
STARTS = 45  # additional heartbeats that a worker may miss while it starts
log = Log()


@dataclass(frozen=True)
class ServerOptions:
    """Options of a server."""

    recipe: str
    tracking: str
    state: Path
    """File of the version that was served last."""
    feedback: Path
    """Folder of feedback."""
    host: str = "127.0.0.1"
    port: int = 8000
    every: float = 2.0
    """Seconds between checks of the alias."""
    cores: int = 0
    """Number of cores to use; 0 for all that this process may use."""
    limits: Limits = field(default_factory=Limits)
    hosts: Sequence[str] = ()
    """Host names besides localhost that a proxy on this machine may pass on."""
    worker: Sequence[str] = WORKER
    """Command that starts a worker."""


def serve(options: ServerOptions) -> None:
    """Serve a recipe's champion until SIGTERM or ctrl-c.

    Raises UserError if the server cannot start.
    """
    check_name(options.recipe)
    if not api_keys() and not is_loopback(options.host):
        raise UserError(
            f"{options.host} can be reached from elsewhere: set {KEYS} to one or more keys, with"
            " commas between them"
        )
    with listen(options.host, options.port) as listener:
        asyncio.run(Supervisor(options, listener).run())


class Supervisor:
    """Supervisor of a worker: it restarts the worker and sends it the version to serve.

    Its methods run on the event loop's thread.
    """

    def __init__(self, options: ServerOptions, listener: socket.socket) -> None:
        self.options, self.listener = options, listener
        self.served, self.previous, self.tuning = _read_state(options.state)
        """Version that a worker served last, the one before, and the tuning."""
        self.answering = False  # True once the current worker serves a version
        self.began = False  # True once any worker has served a version
        self.known = {spec.number: spec for spec in (self.previous, self.served) if spec}
        """Versions sent to workers, by number."""
        self.wanted: Spec | None = None  # the champion, if it is known
        self.pending: Spec | None = None  # version that the worker is loading
        self.tries = 0  # workers that have exited while loading it
        self.early = 0  # workers in a row that exited before they served a version
        self.tried: dict[str, object] = {}  # state of a version's files when it was sent
        self.refused: dict[str, tuple[str, object]] = {}  # reason, and state of the files
        self.confirmed = False
        self.problem = ""
        self.ending = asyncio.Event()
        self.failure: UserError | None = None
        self.channel: asyncio.StreamWriter | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.missed = 0
        """Number of heartbeats that the current worker has not answered."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)

        def report(look: Look) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self.on_look, look)

        options = self.options
        copies = options.state.with_suffix("")
        champion = Champion(
            options.recipe, options.tracking, copies, options.every, report, self._in_use
        )
        loop.call_later(PATIENCE, self._without_mlflow)
        keeping = asyncio.create_task(self._keep(champion))
        watching = asyncio.create_task(self._watch())
        ended = asyncio.create_task(self.ending.wait())
        await asyncio.wait({keeping, ended}, return_when=asyncio.FIRST_COMPLETED)
        self.ending.set()
        watching.cancel()
        champion.stopped.set()
        await self._stop(keeping)
        if self.failure:
            raise self.failure

    def end(self) -> None:
        """Begin to stop; on a second call, kill the worker."""
        if self.ending.is_set() and self.process and self.process.returncode is None:
            self.process.kill()
        self.ending.set()

    async def _stop(self, keeping: "asyncio.Task[None]") -> None:
        self.listener.close()
        if self.channel:
            self.channel.close()  # on this the worker exits
        try:
            await asyncio.wait_for(asyncio.shield(keeping), self.options.limits.deadline + GRACE)
        except TimeoutError:
            if self.process and self.process.returncode is None:
                self.process.kill()
            await keeping

    # the worker

    async def _keep(self, champion: Champion) -> None:
        """Start workers, one after the other, and handle their messages."""
        pause = 0.0
        while not self.ending.is_set():
            began = time.monotonic()
            try:
                reader = await self._start()
            except (OSError, ValueError) as error:  # no free process or descriptor
                if self.channel:
                    self.channel.close()
                if not self.ending.is_set():
                    log(event="worker not started", reason=str(error))
                await self._pause(LONGEST_PAUSE)
                continue
            if self.ending.is_set() and self.channel:
                self.channel.close()
            if not champion.is_alive() and not champion.stopped.is_set():
                champion.start()  # after the worker, whose start is not to wait for MLflow's import
            with contextlib.suppress(ConnectionError, ValueError):  # killed in the middle of a line
                async for line in reader:
                    self._receive(json.loads(line))
            assert self.process and self.channel
            code = await self.process.wait()
            self.channel.close()
            answered, self.answering = self.answering, False
            if self.ending.is_set():
                return
            log(event="worker ended", code=code)
            self._blame(answered)
            quick = time.monotonic() - began < 1.0
            pause = min(LONGEST_PAUSE, 2 * pause or 0.1) if quick else 0.0
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the server ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ending.wait(), seconds)

    async def _watch(self) -> None:
        """Kill a worker that hangs; it is restarted like any other.

        Heartbeats are counted, not seconds, since this process may have been suspended meanwhile.
        """
        while True:
            await asyncio.sleep(BEAT)
            if self.process is None or self.process.returncode is not None:
                continue
            self.missed += 1
            if self.missed > MISSED:
                log(event="worker hangs", missed=self.missed)
                self.process.kill()
            else:
                self._send({"beat": True})

    async def _start(self) -> asyncio.StreamReader:
        """Start a worker with the version that was served last; return the reader of its
        messages."""
        options = self.options
        own, other = socket.socketpair()
        arguments = {
            "listen": self.listener.fileno(),
            "channel": other.fileno(),
            "recipe": options.recipe,
            "limits": asdict(options.limits),
            "hosts": list(options.hosts),
            "cores": options.cores or cores(),
            "feedback": str(options.feedback),
            "serve": None if self._is_refused(self.served) else as_json(self.served),
            "tuning": self.tuning,
            "hurry": self.began,
        }
        reader, self.channel = await asyncio.open_connection(sock=own, limit=2**22)
        self.missed = -STARTS
        with other:
            self.process = await asyncio.create_subprocess_exec(
                *options.worker,
                json.dumps(arguments),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(self.listener.fileno(), other.fileno()),
                start_new_session=True,  # ctrl-c must reach only this process
                env={"TOKENIZERS_PARALLELISM": "false", "MALLOC_ARENA_MAX": "2"} | dict(os.environ),
            )
        if self.confirmed:
            self._send({"confirmed": True})
        if self.wanted and (refused := self.refused.get(self.wanted.number)):
            self._send({"refused": self.wanted.number, "reason": refused[0]})
        if self.pending:
            self._send({"serve": as_json(self.pending)})
        elif self.wanted:
            self._offer(self.wanted)
        return reader

    def _send(self, message: dict[str, Any]) -> None:
        if self.channel and not self.channel.is_closing():
            self.channel.write(json.dumps(message).encode() + b"\n")

    def _receive(self, message: dict[str, Any]) -> None:
        if "beat" in message:
            self.missed = 0
        elif "serving" in message:
            self._serving(str(message["serving"]), message.get("tuning"))
        elif "refused" in message:
            self._refuse(str(message["refused"]), str(message["reason"]))

    def _serving(self, number: str, tuning: Any) -> None:
        self.answering, self.early = True, 0
        spec = self.known[number]
        if self.pending and self.pending.number == number:
            self.pending = None
        if tuning != self.tuning or not spec.same(self.served):
            if not spec.same(self.served):
                self.previous = self.served
            self.served, self.tuning = spec, tuning
            self._write_state()
        if not self.began:
            self.began = True
            host, port = self.listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(
                f"http://{shown}:{port} serves {self.options.recipe}/{number} (ctrl-c ends it)",
                flush=True,
            )
        self._settle()

    def _refuse(self, number: str, reason: str) -> None:
        """Note that a version was refused; while none is in use, request the previous one."""
        self.refused[number] = (reason, self.tried.pop(number, None) or self.known[number].state())
        log(event="version refused", version=f"{self.options.recipe}/{number}", reason=reason)
        if self.pending and self.pending.number == number:
            self.pending = None
        if not self.answering and self.previous and not self._is_refused(self.previous):
            self._request(self.previous)
        self._settle()

    def _blame(self, answered: bool) -> None:
        """Refuse a version if workers exit again and again while they load it.

        This is the pending version, or the one that was served last if the worker exited before it
        served that and there is another to serve instead.
        """
        blamed = self.pending
        if not answered and self.served and not self._is_refused(self.served):
            self.early += 1
            if self.previous is None or self._is_refused(self.previous):
                return
            blamed, tries = self.served, self.early
        else:
            self.tries += 1
            tries = self.tries
        if blamed and tries >= TRIES:
            name = f"{self.options.recipe}/{blamed.number}"
            self._refuse(blamed.number, f"{name} is not served: the worker exits while loading it")

    def _is_refused(self, spec: Spec | None) -> bool:
        return spec is not None and spec.number in self.refused

    def _in_use(self) -> set[str]:
        """Return the numbers of the versions whose files are needed. Thread-safe."""
        needed = (self.served, self.previous, self.wanted, self.pending)
        return {spec.number for spec in needed if spec}

    # the champion

    def on_look(self, look: Look) -> None:
        """Handle the result of a check of the alias."""
        if look.spec is None and not self.served and not self.pending:
            self._fail(look.problem)
            return
        if look.problem != self.problem:
            self.problem = look.problem
            log(
                event="champion not known" if look.problem else "champion known",
                reason=look.problem,
            )
        if look.spec is None:
            self._confirm()
            return
        if self.wanted and self.wanted.number != look.spec.number:
            self._request(look.spec)  # the alias has moved
        self.wanted = look.spec
        self._offer(look.spec)
        self._settle()

    def _offer(self, spec: Spec) -> None:
        """Request a version unless it is in use or pending, or was refused with the same files."""
        if spec.same(self.pending) or (spec.same(self.served) and self._is_stable()):
            return
        refused = self.refused.get(spec.number)
        if refused is None or refused[1] != spec.state():
            self._request(spec)

    def _is_stable(self) -> bool:
        """True if the worker serves the version served last, or will, and no other is pending."""
        if self.served is None or self.pending:
            return False
        return self.answering or not self._is_refused(self.served)

    def _request(self, spec: Spec) -> None:
        """Send the worker a version to serve."""
        self.refused.pop(spec.number, None)
        self.known[spec.number], self.tried[spec.number] = spec, spec.state()
        self.pending, self.tries = spec, 0
        self._send({"serve": as_json(spec)})

    def _settle(self) -> None:
        """Confirm the worker's version once it is the champion, or the champion is refused."""
        if self.wanted is None or self.pending:
            return
        refused = self.refused.get(self.wanted.number)
        if refused and not self.began and not self._is_stable():
            self._fail(refused[0])
        if refused or (self.answering and self.wanted.same(self.served)):
            self._confirm()

    def _confirm(self) -> None:
        if not self.confirmed:
            self.confirmed = True
            self._send({"confirmed": True})

    def _without_mlflow(self) -> None:
        if self.served and self.wanted is None:
            self._confirm()

    def _fail(self, problem: str) -> None:
        self.failure = UserError(problem)
        self.ending.set()

    def _write_state(self) -> None:
        content = {
            "served": as_json(self.served),
            "previous": as_json(self.previous),
            "tuning": self.tuning,
        }
        try:
            write_json(self.options.state, content)
        except OSError as error:
            log(event="state not written", reason=str(error))


def _read_state(path: Path) -> tuple[Spec | None, Spec | None, Any]:
    """Read the version served last, the one before, and the tuning; None if the file is invalid."""
    try:
        content = json.loads(path.read_bytes())
        return spec_of(content["served"]), spec_of(content["previous"]), content["tuning"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None, None
