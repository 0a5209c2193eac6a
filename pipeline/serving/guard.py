"""Admission of requests: API keys, hosts, origins, and limits on bytes and time.

A refusal is cheap and has a message of one line. Requests pass protocol.py, then `Guard`, then the
application.
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
from pipeline.serving.logs import Log, place_of
from pipeline.serving.metrics import Metrics
from pipeline.serving.schemas import REQUEST_ID
from pipeline.serving.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
T = TypeVar("T")

VALID_ID = re.compile(REQUEST_ID.encode())
LOCAL = {b"localhost", b"127.0.0.1", b"[::1]"}
CLIENT_CLOSED = 499  # nginx's status for a client that has disconnected
PORT = re.compile(rb":\d+$")
SAFE = {"GET", "HEAD", "OPTIONS"}
CHALLENGE = {"www-authenticate": "Bearer"}
CLOSE = {"connection": "close"}


class Refusal(Exception):  # noqa: N818 - it is an answer
    """Refusal of a request: its status and a message of one line."""

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.status, self.headers = status, headers or {}
        self.line = str(UserError(line))  # one printable line, whatever it quotes


FAILED = Refusal(500, "internal error: see the server's log")


class Caller:
    """Client at the other end of a connection."""

    __slots__ = ("has_left", "task")

    def __init__(self) -> None:
        self.has_left = False
        self.task: asyncio.Task[Any] | None = None

    def gone(self) -> bool:
        return self.has_left

    def leave(self) -> None:
        """Cancel the task that waits for an answer, since the connection is lost."""
        self.has_left = True
        if self.task:
            self.task.cancel()

    async def wait_for(self, answer: Awaitable[T]) -> T:
        """Await an answer. Raises Gone as soon as the client disconnects; needs no extra task."""
        self.task = task = asyncio.current_task()
        try:
            return await answer
        except asyncio.CancelledError:
            if not self.has_left or task is None:
                raise
            task.uncancel()
            raise Gone from None
        finally:
            self.task = None


class Exchange:
    """Request and its result, as they are logged."""

    __slots__ = ("caller", "characters", "id", "rows", "send", "started", "status", "version")

    def __init__(self, request_id: str, caller: Caller, send: Send) -> None:
        self.id, self.caller, self.send = request_id, caller, send
        self.started = perf_counter()
        self.status = self.rows = self.characters = 0
        self.version = ""

    async def __call__(self, message: Message) -> None:
        """Send a message of the response, with the headers that every response has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            own = (b"x-request-id", self.id.encode()), (b"x-content-type-options", b"nosniff")
            message["headers"] = [*message["headers"], *own]
        await self.send(message)


class Guard:
    """Middleware that admits requests with a valid key to an allowed host, which come from the
    server's own pages or from no page.

    `open_paths` need no key. `routes` are the paths that logs and metrics name. `work` has, by
    path, a function that raises a Refusal if a request cannot be answered now, so that an overload
    costs nothing else.
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
        exchange = scope["exchange"] = Exchange(_request_id(headers), caller, send)
        try:
            self._admit(scope, headers)
            await self.app(scope, receive, exchange)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, exchange)
        except Exception as error:  # the application has sent a response
            self.log(level="error", id=exchange.id, error=place_of(error))
        self._record(scope, exchange)

    def refuse_early(self, scope: Scope, caller: Caller) -> tuple[Refusal, str] | None:
        """Return the refusal of a request and its id once its header has arrived; None if the
        application must handle it."""
        if scope["method"] != "POST" or scope["path"] not in self.work:
            return None
        headers = dict(scope["headers"])
        exchange = Exchange(_request_id(headers), caller, _send_nothing)
        try:
            self._admit(scope, headers)
        except Refusal as refusal:
            exchange.status = refusal.status
            self._record(scope, exchange)
            return refusal, exchange.id
        return None

    def _admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host", b"").lower()
        if sum(name == b"host" for name, _ in scope["headers"]) != 1:
            raise Refusal(400, "send the Host header exactly once")
        address, _ = scope.get("server") or ("", None)
        if is_loopback(address) and PORT.sub(b"", host) not in self.hosts:
            raise Refusal(403, "the Host header is not localhost: allow it with --allow-host")
        origin = headers.get(b"origin", b"://" + host).lower()
        if scope["method"] not in SAFE and origin.partition(b"://")[2] != host:
            raise Refusal(403, "requests from pages of another origin are refused")
        if self.keys and scope["path"] not in self.open_paths and not self._has_key(headers):
            raise Refusal(401, "send an API key, as Bearer or X-API-Key", CHALLENGE)
        if scope["method"] == "POST" and scope["path"] in self.work:
            self.work[scope["path"]]()

    def _has_key(self, headers: Mapping[bytes, bytes]) -> bool:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        sent = [headers.get(b"x-api-key", b""), token if scheme.lower() == b"bearer" else b""]
        digests = [hashlib.sha256(key.strip()).digest() for key in sent if key.strip()]
        # all pairs are compared, so that the time reveals nothing
        return sum(hmac.compare_digest(one, key) for one in digests for key in self.keys) > 0

    def _record(self, scope: Scope, exchange: Exchange) -> None:
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


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    """Return the X-Request-ID of a request if it is valid, else a new id."""
    sent = headers.get(b"x-request-id", b"")
    return sent.decode() if VALID_ID.match(sent) else secrets.token_hex(8)


async def _send_nothing(_: Message) -> None:
    """Drop a message: protocol.py sends early refusals itself."""


def refused(refusal: Refusal) -> Response:
    """Return the response of a refusal."""
    body = json.dumps({"error": refusal.line}).encode()
    return Response(body, refusal.status, refusal.headers, "application/json")


async def body_of(scope: Scope, receive: Receive, most: int, seconds: float) -> bytes:
    """Receive the whole body of a request.

    Raises Refusal if the header does not declare JSON (415), the body is longer than `most` bytes
    (413) or does not arrive within `seconds` (408), and Gone if the client disconnects.
    """
    headers = dict(scope["headers"])
    if not _JSON.match(headers.get(b"content-type", b"")):
        raise Refusal(415, "send JSON: Content-Type: application/json")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(415, "send the body without a Content-Encoding")
    if b"upgrade" in headers:  # the parser does not read the body of such a request
        raise Refusal(400, "protocol upgrades are not supported: leave out the Upgrade header")
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
        raise Refusal(408, f"the body did not arrive within {seconds:g} s", CLOSE) from None


_JSON = re.compile(rb'application/json\s*(;\s*charset\s*=\s*"?utf-8"?\s*)?$', re.IGNORECASE)
