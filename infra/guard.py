"""Who may ask a server: a request for its own address, from its own pages, with credentials.

MLflow and Prefect each check some of this on some routes. This stands in front of all of them.
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
Knows = Callable[[str, str], bool]  # of a name and a password


# a page may send nothing elsewhere (both UIs would tell their makers how they are used)
POLICY = b"connect-src 'self'; frame-ancestors 'self'"


class Guard:
    """Refuses what names another host or comes from another origin, and asks for a password.

    BERTLINE_HOSTS lists the addresses, as `127.0.0.1:5000,localhost:5000`. Only the path `health`
    answers without a password. A WebSocket is asked by the server behind, in its first message:
    a browser cannot send headers with one.
    """

    def __init__(self, app: App, health: str, knows: Knows) -> None:
        self.app, self.health, self.knows = app, health, knows
        self.hosts = set(os.environ["BERTLINE_HOSTS"].split(","))
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY)]
            await send(message)

        answer = self.app if scope["type"] == "lifespan" else await self._answer(scope)
        await answer(scope, receive, tell)

    async def _answer(self, scope: Scope) -> App:
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        ours = len(hosts) == 1 and hosts[0] in self.hosts and self.origins.issuperset(origins)
        if scope["type"] == "websocket":
            return self.app if ours else WebSocketClose(1008)
        if not ours:
            return PlainTextResponse("foreign host or origin", 403)
        if scope["path"] != self.health and not await self._is_known(headers):
            return PlainTextResponse(
                "who are you?", 401, {"WWW-Authenticate": 'Basic realm="bertline"'}
            )
        return self.app

    async def _is_known(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        try:
            name, _, password = base64.b64decode(token).decode().partition(":")
        except ValueError:  # no ASCII, no base64, no UTF-8
            return False
        return scheme.lower() == "basic" and await run_in_threadpool(self.knows, name, password)
