"""The process that is started: it listens, follows the champion, and keeps a worker answering.

The listening socket is this process's own, and a worker inherits it: while a worker is started
again, connections wait. What was served last is kept in a file, so that after a restart of all a
worker need not wait for MLflow.
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
from pipeline.serving.listening import is_loopback, opened
from pipeline.serving.settings import KEYS, Limits, api_keys
from pipeline.serving.spec import Champion, Look, Spec, as_json, spec_of
from pipeline.serving.tuning import cores

WORKER = (sys.executable, "-m", "pipeline.serving.worker")
PATIENCE = 1.5  # seconds after which a kept version counts as the champion though MLflow is silent
TRIES = 3  # of a version at whose opening a worker ends
GRACE = 5.0  # seconds beyond a request's deadline for a worker to end
LONGEST_PAUSE = 5.0  # seconds before a worker that ends at once is started again
BEAT = 1.0  # seconds between two questions whether the worker still answers
MISSED = 15  # of them in a row, after which it is ended
STARTS = 45  # that a worker may miss besides while it starts


@dataclass(frozen=True)
class ServerOptions:
    """What is served, and where."""

    recipe: str
    tracking: str
    state: Path
    """The file of what was served last."""
    feedback: Path
    """The folder where feedback is kept."""
    host: str = "127.0.0.1"
    port: int = 8000
    every: float = 2.0
    """Seconds between two looks at the alias."""
    cores: int = 0
    """0: all that this process may use."""
    limits: Limits = field(default_factory=Limits)
    hosts: Sequence[str] = ()
    """Names besides localhost by which a proxy on this machine may ask."""
    worker: Sequence[str] = WORKER
    """The command that answers."""


def serve(service: ServerOptions) -> None:
    """Serve a recipe's champion until SIGTERM or ctrl-c.

    Raises UserError where it cannot be begun.
    """
    check_name(service.recipe)
    if not api_keys() and not is_loopback(service.host):
        raise UserError(
            f"{service.host} can be reached from elsewhere: set {KEYS} to one or more keys, with"
            " commas between them"
        )
    with opened(service.host, service.port) as listening:
        asyncio.run(Supervisor(service, listening).run())


class Supervisor:
    """Keeps a worker alive and tells it which version to serve. One event loop's thread."""

    def __init__(self, service: ServerOptions, listening: socket.socket) -> None:
        self.service, self.listening = service, listening
        self.served, self.previous, self.tuning = _remembered(service.state)
        """As a worker said it last, also before a restart."""
        self.answering = False  # whether the worker there is now has said so
        self.began = False  # whether any has
        self.known = {spec.number: spec for spec in (self.previous, self.served) if spec}
        """Every version that a worker was told of, by its number."""
        self.wanted: Spec | None = None  # the champion, as far as it is known
        self.asked: Spec | None = None  # the version that the worker is trying out
        self.tries = 0  # of which workers have ended
        self.early = 0  # workers in a row that ended before they served anything
        self.tried: dict[str, object] = {}  # state of a version's files when it was asked for
        self.refused: dict[str, tuple[str, object]] = {}  # number: why, and its files' state then
        self.confirmed = False
        self.problem = ""
        self.ending = asyncio.Event()
        self.failure: UserError | None = None
        self.channel: asyncio.StreamWriter | None = None
        self.process: asyncio.subprocess.Process | None = None
        self.missed = 0
        """Questions that the worker there is now has not answered."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)

        def tell(look: Look) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self.heard, look)

        service = self.service
        copies = service.state.with_suffix("")
        champion = Champion(
            service.recipe, service.tracking, copies, service.every, tell, self._in_hand
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
        """Asked for a second time, whatever is under way is given up."""
        if self.ending.is_set() and self.process and self.process.returncode is None:
            self.process.kill()
        self.ending.set()

    async def _stop(self, keeping: "asyncio.Task[None]") -> None:
        self.listening.close()
        if self.channel:
            self.channel.close()  # the worker ends when it sees this
        try:
            await asyncio.wait_for(asyncio.shield(keeping), self.service.limits.deadline + GRACE)
        except TimeoutError:
            if self.process and self.process.returncode is None:
                self.process.kill()
            await keeping

    # the worker

    async def _keep(self, champion: Champion) -> None:
        pause = 0.0
        while not self.ending.is_set():
            began = time.monotonic()
            try:
                reader = await self._start()
            except (OSError, ValueError) as error:  # no process is to be had, or no descriptor
                if self.channel:
                    self.channel.close()
                if not self.ending.is_set():
                    log("worker not started", reason=str(error))
                await self._rest(LONGEST_PAUSE)
                continue
            if self.ending.is_set() and self.channel:
                self.channel.close()
            if not champion.is_alive() and not champion.stopped.is_set():
                champion.start()  # importing MLflow takes the time of this process, not a worker's
            with contextlib.suppress(ConnectionError, ValueError):  # it was ended in mid-sentence
                async for line in reader:
                    self._worker_said(json.loads(line))
            assert self.process and self.channel
            code = await self.process.wait()
            self.channel.close()
            answered, self.answering = self.answering, False
            if self.ending.is_set():
                return
            log("worker ended", code=code)
            self._blame(answered)
            quick = time.monotonic() - began < 1.0
            pause = min(LONGEST_PAUSE, 2 * pause or 0.1) if quick else 0.0
            await self._rest(pause)

    async def _rest(self, seconds: float) -> None:
        """Wait, unless it is to end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ending.wait(), seconds)

    async def _watch(self) -> None:
        """End a worker that hangs; it is started again as any that ended.

        Questions are counted and not seconds, for this process may have been stopped meanwhile.
        """
        while True:
            await asyncio.sleep(BEAT)
            if self.process is None or self.process.returncode is not None:
                continue
            self.missed += 1
            if self.missed > MISSED:
                log("worker hangs", missed=self.missed)
                self.process.kill()
            else:
                self._say({"beat": True})

    async def _start(self) -> asyncio.StreamReader:
        service = self.service
        own, other = socket.socketpair()
        given = {
            "listen": self.listening.fileno(),
            "channel": other.fileno(),
            "recipe": service.recipe,
            "limits": asdict(service.limits),
            "hosts": list(service.hosts),
            "cores": service.cores or cores(),
            "feedback": str(service.feedback),
            "serve": None if self._is_refused(self.served) else as_json(self.served),
            "tuning": self.tuning,
            "hurry": self.began,
        }
        reader, self.channel = await asyncio.open_connection(sock=own, limit=2**22)
        self.missed = -STARTS
        with other:
            self.process = await asyncio.create_subprocess_exec(
                *service.worker,
                json.dumps(given),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(self.listening.fileno(), other.fileno()),
                start_new_session=True,  # ctrl-c is for this process, which ends the worker
                env={"TOKENIZERS_PARALLELISM": "false", "MALLOC_ARENA_MAX": "2"} | dict(os.environ),
            )
        if self.confirmed:
            self._say({"confirmed": True})
        if self.wanted and self._is_refused(self.wanted):
            self._say_refused(self.wanted.number)
        if self.asked:
            self._say({"serve": as_json(self.asked)})
        elif self.wanted:
            self._offer(self.wanted)
        return reader

    def _say(self, message: dict[str, Any]) -> None:
        if self.channel and not self.channel.is_closing():
            self.channel.write(json.dumps(message).encode() + b"\n")

    def _worker_said(self, message: dict[str, Any]) -> None:
        if "beat" in message:
            self.missed = 0
        elif "serving" in message:
            self._serving(str(message["serving"]), message.get("tuning"))
        elif "refused" in message:
            self._refuse(str(message["refused"]), str(message["reason"]))

    def _serving(self, number: str, tuning: Any) -> None:
        self.answering, self.early = True, 0
        spec = self.known[number]
        if self.asked and self.asked.number == number:
            self.asked = None
        if tuning != self.tuning or not spec.same(self.served):
            if not spec.same(self.served):
                self.previous = self.served
            self.served, self.tuning = spec, tuning
            self._remember()
        if not self.began:
            self.began = True
            host, port = self.listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(
                f"http://{shown}:{port} answers by {self.service.recipe}/{number} (ctrl-c ends it)",
                flush=True,
            )
        self._settle()

    def _refuse(self, number: str, reason: str) -> None:
        """A version was not let in."""
        self.refused[number] = (reason, self.tried.pop(number, None) or self.known[number].state())
        log("version refused", version=f"{self.service.recipe}/{number}", reason=reason)
        if self.asked and self.asked.number == number:
            self.asked = None
        if not self.answering and self.previous and not self._is_refused(self.previous):
            self._ask(self.previous)
        self._settle()

    def _blame(self, answered: bool) -> None:
        """A version at whose opening a worker ends again and again is refused: the one that was
        asked for, or the one that was served last, where that is opened first and there is another.
        """
        blamed = self.asked
        if not answered and self.served and not self._is_refused(self.served):
            self.early += 1
            if self.previous is None or self._is_refused(self.previous):
                return
            blamed, tries = self.served, self.early
        else:
            self.tries += 1
            tries = self.tries
        if blamed and tries >= TRIES:
            name = f"{self.service.recipe}/{blamed.number}"
            self._refuse(blamed.number, f"{name} is not served: the worker ends when it opens it")

    def _is_refused(self, spec: Spec | None) -> bool:
        return spec is not None and spec.number in self.refused

    def _in_hand(self) -> set[str]:
        """Numbers of the versions whose files are needed. From any thread."""
        needed = (self.served, self.previous, self.wanted, self.asked)
        return {spec.number for spec in needed if spec}

    # the champion

    def heard(self, look: Look) -> None:
        """The alias was looked at."""
        if look.spec is None and not self.served and not self.asked:
            self._fail(look.problem)
            return
        if look.problem != self.problem:
            self.problem = look.problem
            log("champion not known" if look.problem else "champion known", reason=look.problem)
        if look.spec is None:
            self._confirm()
            return
        if self.wanted and self.wanted.number != look.spec.number:
            self._ask(look.spec)  # the alias has moved
        self.wanted = look.spec
        self._offer(look.spec)
        self._settle()

    def _offer(self, spec: Spec) -> None:
        """Have a version served, where it is not yet and was not refused as it is."""
        if spec.same(self.asked) or (spec.same(self.served) and self._stands()):
            return
        refused = self.refused.get(spec.number)
        if refused is None or refused[1] != spec.state():
            self._ask(spec)

    def _stands(self) -> bool:
        """Whether the worker serves what was served last, or is about to, and nothing else."""
        if self.served is None or self.asked:
            return False
        return self.answering or not self._is_refused(self.served)

    def _ask(self, spec: Spec) -> None:
        self.refused.pop(spec.number, None)
        self.known[spec.number], self.tried[spec.number] = spec, spec.state()
        self.asked, self.tries = spec, 0
        self._say({"serve": as_json(spec)})

    def _settle(self) -> None:
        """Confirm the worker's version once it is the champion, or the champion is refused."""
        if self.wanted is None or self.asked:
            return
        refused = self.refused.get(self.wanted.number)
        if refused and not self.began and not self._stands():
            self._fail(refused[0])
        if refused or (self.answering and self.wanted.same(self.served)):
            self._confirm()

    def _confirm(self) -> None:
        if not self.confirmed:
            self.confirmed = True
            self._say({"confirmed": True})

    def _without_mlflow(self) -> None:
        if self.served and self.wanted is None:
            self._confirm()

    def _say_refused(self, number: str) -> None:
        self._say({"refused": number, "reason": self.refused[number][0]})

    def _fail(self, problem: str) -> None:
        self.failure = UserError(problem)
        self.ending.set()

    def _remember(self) -> None:
        content = {
            "served": as_json(self.served),
            "previous": as_json(self.previous),
            "tuning": self.tuning,
        }
        try:
            write_json(self.service.state, content)
        except OSError as error:
            log("state not kept", reason=str(error))


def _remembered(path: Path) -> tuple[Spec | None, Spec | None, Any]:
    """What was served last, the version before it, and the tuning; nothing where a file is none."""
    try:
        content = json.loads(path.read_bytes())
        return spec_of(content["served"]), spec_of(content["previous"]), content["tuning"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, None, None


def log(event: str, **fields: object) -> None:
    from pipeline.serving.logs import Log

    Log()(event=event, **fields)
