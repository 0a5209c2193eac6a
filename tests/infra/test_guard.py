"""Access control of the guard without a server; tests/prove/test_servers.py tests real ones."""

import asyncio
from base64 import b64encode
from typing import Any

import pytest

from infra.guard import Guard, Receive, Scope, Send

HOST, ORIGIN = ("host", "127.0.0.1:5000"), ("origin", "http://127.0.0.1:5000")
KNOWN = ("authorization", "Basic " + b64encode("me:päss:word".encode()).decode())


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"data"})
    else:
        await send({"type": f"{scope['type']} reached"})


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> Guard:
    monkeypatch.setenv("BERTLINE_HOSTS", "127.0.0.1:5000,localhost:5000")
    return Guard(inner, "/health", lambda name, password: (name, password) == ("me", "päss:word"))


def told(guard: Guard, *headers: tuple[str, str], path: str = "/", kind: str = "http") -> list[Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {"type": kind, "path": path, "headers": raw, "method": "GET"}
    asyncio.run(guard(scope, receive, send))
    return sent


def status(guard: Guard, *headers: tuple[str, str], path: str = "/") -> int:
    return int(told(guard, *headers, path=path)[0]["status"])


def test_only_health_answers_a_stranger(guard: Guard) -> None:
    assert status(guard, HOST, path="/health") == 200
    assert status(guard, HOST, KNOWN) == 200
    for path in ("/", "/health/", "/healthy", "//health", "/static-files/x.js"):
        assert status(guard, HOST, path=path) == 401


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Basic",
        "Basic !",
        "Basic /w==",
        "Bearer " + KNOWN[1][6:],
        "Basic bWU6",
        "Basic é",
        KNOWN[1][6:],
    ],
)
def test_what_is_no_password_opens_nothing(guard: Guard, value: str) -> None:
    assert status(guard, HOST, ("authorization", value)) == 401


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("host", "evil.example"),),
        (("host", "127.0.0.1"),),
        (("host", "127.0.0.1:5000.evil.example"),),
        (HOST, ("host", "evil.example")),
        (HOST, ("origin", "null")),
        (HOST, ("origin", "http://localhost:5001")),
        (HOST, ORIGIN, ("origin", "http://evil.example")),
    ],
)
def test_a_foreign_host_or_origin_is_refused(
    guard: Guard, headers: tuple[tuple[str, str], ...]
) -> None:
    for path in ("/", "/health"):
        assert status(guard, *headers, KNOWN, path=path) == 403
    [closed] = told(guard, *headers, KNOWN, kind="websocket")
    assert closed["type"] == "websocket.close"


def test_our_own_pages_pass_and_may_send_nothing_elsewhere(guard: Guard) -> None:
    start, body = told(guard, HOST, ORIGIN, KNOWN)
    assert (start["status"], body["body"]) == (200, b"data")
    assert dict(start["headers"])[b"content-security-policy"].startswith(b"connect-src 'self';")
    assert told(guard, HOST, ORIGIN, kind="websocket") == [{"type": "websocket reached"}]
    assert told(guard, kind="lifespan") == [{"type": "lifespan reached"}]
