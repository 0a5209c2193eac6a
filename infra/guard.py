"""ASGI middleware that checks host, origin and credentials of every request to a server.

MLflow and Prefect each check some of this on some routes; the guard covers all routes.
"""

import base64
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketClose

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Verify = Callable[[str, str], bool]  # of a user name and a password

# a page may send data only to its own server: both UIs send usage data to their makers
POLICY = b"connect-src 'self'; frame-ancestors 'self'"


class Guard:
    """Middleware that refuses other hosts and origins, and requires a user name and password.

    BERTLINE_HOSTS lists the allowed hosts, as `127.0.0.1:5000,localhost:5000`. Only the path
    `health` needs no password. For a WebSocket the server itself checks credentials, in the first
    message: a browser cannot send headers with it.
    """

    def __init__(self, app: App, health: str, verify: Verify) -> None:
        self.app, self.health, self.verify = app, health, verify
        self.hosts = set(os.environ["BERTLINE_HOSTS"].split(","))
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY)]
            await send(message)

        app = self.app if scope["type"] == "lifespan" else await self._checked(scope)
        await app(scope, receive, send_with_policy)

    async def _checked(self, scope: Scope) -> App:
        """Return the server if the request may reach it, else the response that refuses it."""
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        allowed = len(hosts) == 1 and hosts[0] in self.hosts and self.origins.issuperset(origins)
        if scope["type"] == "websocket":
            return self.app if allowed else WebSocketClose(1008)
        if not allowed:
            return PlainTextResponse("foreign host or origin", 403)
        if scope["path"] != self.health and not await self._authenticated(headers):
            challenge = {"WWW-Authenticate": 'Basic realm="bertline"'}
            return PlainTextResponse("authentication required", 401, challenge)
        return self.app

    async def _authenticated(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        try:
            name, _, password = base64.b64decode(token).decode().partition(":")
        except ValueError:  # not ASCII, base64 or UTF-8
            return False
        return scheme.lower() == "basic" and await run_in_threadpool(self.verify, name, password)
