"""HTTP connections: refusals, timeouts and senders of incomplete requests."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from pipeline.serving.protocol import Protocol
from pipeline.serving.settings import Limits
from pipeline.tasks.base import Answer
from pipeline.tasks.base.encoding import Texts
from tests.pipeline.serving.web import Site, Toy, plain

KEY = "a-secret-key"
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b'Content-Length: 12\r\n\r\n{"text":"a"}'
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ASK = {"text": "a"}


class Slow:
    """Version that waits for an event before it answers."""

    def __init__(self) -> None:
        self.may, self.at_it = threading.Event(), threading.Event()

    def __call__(self, texts: Texts) -> Answer:
        self.at_it.set()
        assert self.may.wait(20)
        return plain(texts)


class Server:
    """Running server on a free port."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            site.app,
            http=Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            timeout_keep_alive=60,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.site.loop)
        self.site.loop.run_until_complete(self.server.serve([self.socket]))

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()
        self.site.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.socket.getsockname(), timeout=20)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(Site(Toy(1), limits=Limits(bytes=1000, slow_header=0.2, slow_body=0.2)))
    yield server
    server.stop()


def answered(connection: socket.socket) -> tuple[int, Any]:
    """Read status and body of a response; (0, None) if the connection closes without one."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(1)
        if not part:
            return 0, None
        head += part
    assert b"x-request-id: " in head.lower()
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (WHOLE, 200),
        (CHUNKED + b'c\r\n{"text":"a"}\r\n0\r\n\r\n', 200),
        (CHUNKED + b'c\r\n{"text":"a"}\r\n0\r\nHost: evil.example\r\n\r\n', 200),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (HEAD + b'Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 12\r\n\r\n{"text":"a"}', 400),  # noqa: E501
        (CHUNKED + b"no length\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: loc", 408),
        (HEAD + b'Content-Length: 100\r\n\r\n{"text', 408),
        (CHUNKED + b'7\r\n{"text"\r\n', 408),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n" + b" " * 1_000_000, 413),
        (HEAD + b"Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n", 413),
        (CHUNKED + b"f4240\r\n" + b" " * 1_000_000 + b"\r\n", 413),
        (b"GET /" + b"a" * 70_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 70_000, 431),
        (b"\r\n\r\n", 0),
        (b"", 0),
    ],
)  # fmt: skip
def test_every_sender_gets_one_answer_or_none(server: Server, sent: bytes, status: int) -> None:
    with server.connect() as connection:
        connection.sendall(sent)
        found, body = answered(connection)
    assert found == status
    if status >= 400:
        assert list(body) == ["error"]
        assert "\n" not in body["error"]


def test_a_connection_is_used_again_after_a_refusal(server: Server) -> None:
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(HEAD + b'Content-Length: 10\r\n\r\n{"text":1}')
            assert answered(connection)[0] == 422
            connection.sendall(HEAD + b"Content-Length: 2000\r\n\r\n" + b" " * 2000)
            assert answered(connection)[0] == 413
            connection.sendall(WHOLE)
            assert answered(connection)[0] == 200


@pytest.mark.parametrize(
    "sent",
    [
        WHOLE,
        CHUNKED + b'c\r\n{"text":"a"}\r\n0\r\n\r\n',
        HEAD + b'Content-Length: 12\r\nX-Request-ID: r-1\r\n\r\n{"text":"a"}',
    ],
)
def test_what_is_too_much_is_refused_before_the_application_sees_it(
    server: Server, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    guard, told = server.site.app, told_so_far(server)
    before = guard.app

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await before(scope, receive, send)

    monkeypatch.setattr(guard, "app", app)
    with server.connect() as connection:
        connection.sendall(WHOLE)
        assert answered(connection)[0] == 200
        monkeypatch.setattr(server.site.batcher, "_ahead", 10**7)
        connection.sendall(sent * 2)
        for _ in range(2):
            status, body = answered(connection)
            assert status == 429
            assert body["error"].startswith("too many requests")
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answered(connection)[0] == 200
        connection.sendall(HEAD + b"Host: evil.example\r\n\r\n")
        assert answered(connection)[0] == 400
        monkeypatch.undo()
        connection.sendall(WHOLE)
        assert answered(connection)[0] == 200
    assert seen == ["/predict", "/readyz"]
    until(lambda: len(server.site.lines()) == told + 6)
    lines = server.site.lines()[told:]
    assert [line["status"] for line in lines] == [200, 429, 429, 200, 400, 200]
    assert (lines[1]["id"] == "r-1") == (b"r-1" in sent)


def test_who_wants_no_other_answer_is_let_go_with_the_refusal(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.site.batcher, "_ahead", 10**7)
    with server.connect() as connection:
        connection.sendall(WHOLE.replace(b"Host", b"Connection: close\r\nHost"))
        assert answered(connection)[0] == 429
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "header", [b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\n"]
)
def test_behind_a_refusal_that_ends_the_connection_nothing_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch, header: bytes
) -> None:
    if header.startswith(b"Upgrade"):
        header += b"Connection: Upgrade\r\n"
    body = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    monkeypatch.setattr(server.site.batcher, "_ahead", 10**7)
    told = told_so_far(server)
    with server.connect() as connection:
        connection.sendall(HEAD + header + b"Content-Length: %d\r\n\r\n" % len(body))
        assert answered(connection)[0] == 429
        with contextlib.suppress(OSError):
            connection.sendall(body)
            assert connection.recv(1) == b""
    until(lambda: len(server.site.lines()) > told)
    assert [line["path"] for line in server.site.lines()[told:]] == ["/predict"]


def test_behind_an_upgrade_nothing_is_asked(server: Server) -> None:
    told = told_so_far(server)
    with server.connect() as connection:
        connection.sendall(
            b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
            b"Content-Length: 50\r\n\r\n"
        )
        assert answered(connection)[0] == 200
        with contextlib.suppress(OSError):
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(1) == b""
    until(lambda: len(server.site.lines()) > told)
    assert [line["path"] for line in server.site.lines()[told:]] == ["/healthz"]


def test_a_refusal_reaches_who_closes_after_a_long_body(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.site.batcher, "_ahead", 10**7)
    with server.connect() as connection:
        connection.sendall(HEAD + b"Connection: close\r\nContent-Length: 4000000\r\n\r\n")
        for _ in range(40):
            connection.sendall(b" " * 100_000)
        assert answered(connection)[0] == 429
        assert connection.recv(1) == b""


def test_nonsense_behind_a_request_does_not_take_its_answer_away(server: Server) -> None:
    slow = Slow()
    server.site.batcher.version = Toy(2, says=slow)  # type: ignore[assignment]
    with server.connect() as connection:
        connection.sendall(WHOLE)
        assert slow.at_it.wait(20)
        connection.sendall(b"nonsense\r\n\r\n")
        slow.may.set()
        assert answered(connection)[0] == 200
        assert connection.recv(1) == b""


def test_who_has_no_key_does_not_make_others_wait(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.site.app, "keys", [b"a digest"])
    monkeypatch.setattr(server.site.batcher, "_ahead", 10**7)
    before = server.site.batcher._refused
    with server.connect() as connection:
        connection.sendall(WHOLE)
        assert answered(connection)[0] == 401
    assert server.site.batcher._refused == before


def test_after_a_refused_body_the_connection_may_be_idle(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.site.batcher, "_ahead", 10**7)
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 12\r\n\r\n")
        assert answered(connection)[0] == 429
        connection.sendall(b'{"text":"a"}')
        time.sleep(0.3)  # longer than a header may take
        monkeypatch.undo()
        connection.sendall(WHOLE)
        assert answered(connection)[0] == 200


def test_who_goes_on_sending_a_refused_body_is_hung_up_on(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 99999999\r\n\r\n ")
        assert answered(connection)[0] == 413
        assert connection.recv(1) == b""


@pytest.mark.parametrize(("sent", "status"), [(b"GET / HTTP/1.1\r\nHost: loc", 408), (b"\r\n", 0)])
def test_a_second_request_may_take_no_longer(server: Server, sent: bytes, status: int) -> None:
    with server.connect() as connection:
        connection.sendall(WHOLE)
        assert answered(connection)[0] == 200
        connection.sendall(sent)
        assert answered(connection)[0] == status


def test_headers_that_never_end_are_not_kept(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(CHUNKED + b'c\r\n{"text":"a"}\r\n0\r\n')
        with pytest.raises(OSError):  # it hangs up while they come
            for _ in range(1000):
                connection.sendall(b"X: " + b"y" * 10_000 + b"\r\n")
            raise AssertionError("ten megabytes of trailers were taken")


def test_requests_may_follow_each_other_at_once(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(WHOLE * 3)
        assert [answered(connection)[0] for _ in range(3)] == [200] * 3


def test_who_does_not_read_its_answer_is_hung_up_on(server: Server) -> None:
    server.site.batcher.version = Toy(2, says=lambda _: Answer("long " * 4_000_000, 1.0))  # type: ignore[assignment]
    told = told_so_far(server)
    with server.connect() as connection:
        connection.sendall(WHOLE)
        until(lambda: len(server.site.lines()) > told)
        until(lambda: not server.server.server_state.connections)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def told_so_far(server: Server) -> int:
    """Count the log lines once all earlier requests have written theirs."""
    until(lambda: not server.server.server_state.tasks)
    return len(server.site.lines())


def test_who_leaves_costs_no_answer(server: Server) -> None:
    slow, told = Slow(), told_so_far(server)
    version = Toy(2, says=slow)
    server.site.batcher.version = version  # type: ignore[assignment]
    with server.connect() as stays:
        stays.sendall(WHOLE)
        assert slow.at_it.wait(20)
        with server.connect() as leaves:
            leaves.sendall(WHOLE.replace(b'"a"', b'"b"'))
            until(lambda: server.site.batcher.waiting == 1)
        until(lambda: server.site.batcher.waiting == 0)
        slow.may.set()
        assert answered(stays)[0] == 200
    assert version.asked == [("a", "")]
    until(lambda: len(server.site.lines()) == told + 2)
    assert [line["status"] for line in server.site.lines()[told:]] == [499, 200]
