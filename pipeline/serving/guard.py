"""Who may ask, and how: keys, hosts, bytes and time. What is refused costs little, and one line.

`Guard` stands in front of the application; protocol.py in front of both.
"""

import asyncio
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import perf_counter
from typing import Any, TypeVar

from starlette.responses import Response

from pipeline.core.errors import UserError
from pipeline.serving.batching import Gone
from pipeline.serving.listening import is_loopback
from pipeline.serving.logs import Log, broken
from pipeline.serving.metrics import Metrics
from pipeline.serving.schemas import REQUEST_ID
from pipeline.serving.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
T = TypeVar("T")

SANE_ID = re.compile(REQUEST_ID.encode())
LOCAL = {b"localhost", b"127.0.0.1", b"[::1]"}
LEFT = 499  # as nginx calls a client that did not wait
PORT = re.compile(rb":\d+$")
SAFE = {"GET", "HEAD", "OPTIONS"}
CHALLENGE = {"www-authenticate": "Bearer"}
CLOSE = {"connection": "close"}


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A request that is not carried out: its status, and what is wrong in one line."""

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.status, self.headers = status, headers or {}
        self.line = str(UserError(line))  # which is one, whatever it quotes


FAILED = Refusal(500, "it failed here: the server's log says where")


class Caller:
    """Whoever is at the other end of a connection."""

    __slots__ = ("left", "task")

    def __init__(self) -> None:
        self.left = False
        self.task: asyncio.Task[Any] | None = None

    def gone(self) -> bool:
        return self.left

    def leave(self) -> None:
        """The connection is lost: what waits for an answer to it waits no more."""
        self.left = True
        if self.task:
            self.task.cancel()

    async def waits(self, answer: Awaitable[T]) -> T:
        """What is awaited. Raises Gone as soon as the caller leaves, without a task of its own."""
        self.task = task = asyncio.current_task()
        try:
            return await answer
        except asyncio.CancelledError:
            if not self.left or task is None:
                raise
            task.uncancel()
            raise Gone from None
        finally:
            self.task = None


class Exchange:
    """One request and what becomes of it: what its line in the log says."""

    __slots__ = ("caller", "characters", "id", "rows", "send", "started", "status", "version")

    def __init__(self, identity: str, caller: Caller, send: Send) -> None:
        self.id, self.caller, self.send = identity, caller, send
        self.started = perf_counter()
        self.status = self.rows = self.characters = 0
        self.version = ""

    async def __call__(self, message: Message) -> None:
        """Send a message with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = (b"x-request-id", self.id.encode()), (b"x-content-type-options", b"nosniff")
            message["headers"] = [*message["headers"], *own]
        await self.send(message)


class Guard:
    """Lets through what comes from our own pages or from no page, to our own host, with a key.

    `open_paths` answer without a key; `routes` are the paths that log and metrics know by name;
    `work` says, by path, who raises a Refusal where a request could not be answered now: so what is
    too much costs nothing but this.
    """

    def __init__(
        self,
        app: App,
        settings: Settings,
        metrics: Metrics,
        log: Log,
        routes: frozenset[str],
        open_paths: frozenset[str],
        work: Mapping[str, Callable[[], None]],
    ) -> None:
        self.app, self.settings, self.metrics, self.log = app, settings, metrics, log
        self.routes, self.open_paths, self.work = routes, open_paths, work
        self.hosts = LOCAL | {name.lower().encode() for name in settings.hosts}
        self.keys = [hashlib.sha256(key.encode()).digest() for key in settings.keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        caller = scope.get("extensions", {}).get("bertline.caller") or Caller()
        exchange = scope["exchange"] = Exchange(_identity(headers), caller, send)
        try:
            self._admit(scope, headers)
            await self.app(scope, receive, exchange)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, exchange)
        except Exception as error:  # has been answered
            self.log(level="error", id=exchange.id, error=broken(error))
        self._tell(scope, exchange)

    def turns_away(self, scope: Scope, caller: Caller) -> tuple[Refusal, str] | None:
        """Why a request of which no more than the header is here gets no answer now, and its id,
        when it is told so at once; None where it has to be looked at."""
        if scope["method"] != "POST" or scope["path"] not in self.work:
            return None
        headers = dict(scope["headers"])
        exchange = Exchange(_identity(headers), caller, _nothing)
        try:
            self._admit(scope, headers)
        except Refusal as refusal:
            exchange.status = refusal.status
            self._tell(scope, exchange)
            return refusal, exchange.id
        return None

    def _admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").lower()
        if sum(name == b"host" for name, _ in scope["headers"]) != 1:
            raise Refusal(400, "the header Host has to stand there once")
        address, _ = scope.get("server") or ("", None)
        if is_loopback(address) and PORT.sub(b"", host) not in self.hosts:
            raise Refusal(403, "the Host header names another host than localhost: --allow-host")
        origin = headers.get(b"origin", b"://" + host).lower()
        if scope["method"] not in SAFE and origin.partition(b"://")[2] != host:
            raise Refusal(403, "pages of another origin may not ask here")
        if self.keys and scope["path"] not in self.open_paths and not self._knows(headers):
            raise Refusal(401, "send an API key, as Bearer or X-API-Key", CHALLENGE)
        if scope["method"] == "POST" and scope["path"] in self.work:
            self.work[scope["path"]]()

    def _knows(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = [headers.get(b"x-api-key", b""), token if scheme.lower() == b"bearer" else b""]
        digests = [hashlib.sha256(key.strip()).digest() for key in given if key.strip()]
        # each with each, so that the time taken tells nothing
        return sum(hmac.compare_digest(one, key) for one in digests for key in self.keys) > 0

    def _tell(self, scope: Scope, exchange: Exchange) -> None:
        path = scope["path"] if scope["path"] in self.routes else "other"
        seconds = perf_counter() - exchange.started
        self.metrics.answered(path, exchange.status, seconds)
        self.log(
            id=exchange.id,
            method=scope["method"],
            path=path,
            status=exchange.status,
            ms=round(seconds * 1000, 2),
            rows=exchange.rows,
            characters=exchange.characters,
            version=exchange.version,
        )


def _identity(headers: Mapping[bytes, bytes]) -> str:
    """A request's id: its own, where it is a sane one."""
    wanted = headers.get(b"x-request-id", b"")
    return wanted.decode() if SANE_ID.match(wanted) else secrets.token_hex(8)


async def _nothing(_: Message) -> None:
    """Send nothing: what has been said was said otherwise."""


def refused(refusal: Refusal) -> Response:
    """A refusal as JSON."""
    body = json.dumps({"error": refusal.line}).encode()
    return Response(body, refusal.status, refusal.headers, "application/json")


async def body_of(scope: Scope, receive: Receive, most: int, seconds: float) -> bytes:
    """A request's whole body of JSON.

    Raises Refusal for what is no JSON by its header (415), is longer than `most` bytes (413) or
    not here within so many seconds (408), and Gone.
    """
    headers = dict(scope["headers"])
    if not _JSON.match(headers.get(b"content-type", b"")):
        raise Refusal(415, "send JSON: Content-Type: application/json")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(415, "send the body without a Content-Encoding")
    if b"upgrade" in headers:  # then its body is not read as one
        raise Refusal(400, "there is no other protocol here: leave out the header Upgrade")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > most:
        raise Refusal(413, f"a body of {int(length):,} bytes: send at most {most:,}")
    parts, size = [], 0
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                part = message.get("body", b"")
                size += len(part)
                if size > most:
                    raise Refusal(413, f"the body is longer than {most:,} bytes")
                parts.append(part)
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise Refusal(408, f"the body was not here within {seconds:g} s", CLOSE) from None


_JSON = re.compile(rb'application/json\s*(;\s*charset\s*=\s*"?utf-8"?\s*)?$', re.IGNORECASE)
