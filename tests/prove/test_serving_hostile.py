"""Whatever is sent to a server, by a fuzzer or by hand, it says in one line what is wrong."""

import gzip
import json
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.registry.versions import Registry
from tests.prove.serving import Service, register

pytestmark = pytest.mark.prove
FUZZED = 10_000  # requests at least
PASSES = 60  # of every hostile request that is not slow, beside each other
GROWTH = 24e6  # bytes
LONGEST = 300  # characters of what is told
PATIENCE = 40.0  # seconds for an answer
DRIP = 0.4  # seconds between two bytes of a slow sender
Parts = Callable[[], Iterator[bytes]]


def post(
    body: bytes,
    path: str = "/predict",
    *more: str,
    kind: str | None = "application/json",
    length: int | str | None = None,
) -> bytes:
    """A request as it goes over the wire."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *more]
    lines += [f"Content-Type: {kind}"] if kind else []
    lines += [f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def get(path: str = "/readyz", *more: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join(
        [f"{method} {path} HTTP/{version}", "Host: localhost", *more, "", ""]
    ).encode("latin-1")


def chunked(body: bytes, path: str = "/predict") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body


def invocations(content: object) -> bytes:
    return post(json.dumps(content).encode(), "/invocations")


def feedback(**changed: object) -> bytes:
    sound = {"text": "a goal", "label": "sport", "consent": True}
    return post(json.dumps(sound | changed).encode(), "/feedback")


MEGABYTE = b"x" * 2**20
HOSTILE: dict[str, bytes] = {
    # no JSON
    "no body": post(b""),
    "words": post(b"hello"),
    "a string without its end": post(b'{"text": "a'),
    "something after the end": post(b'{"text": "a"} {"text": "b"}'),
    "a comma too many": post(b'{"text": "a",}'),
    "100,000 brackets": post(b"[" * 100_000),
    "50,000 objects inside each other": post(b'{"text":' * 50_000 + b"1" + b"}" * 50_000),
    "200,000 brackets in a row": post(b'{"rows":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
    # bad encodings
    "bytes of no encoding": post(b'{"text": "\xff\xfe\x80"}'),
    "UTF-16": post('{"text": "a"}'.encode("utf-16")),
    "Latin-1": post('{"text": "déjà"}'.encode("latin-1")),
    "an overlong slash": post(b'{"text": "\xc0\xaf"}'),
    "half a character": post(b'{"text": "\xf0\x9f\x98"}'),
    "a surrogate in bytes": post(b'{"text": "\xed\xa0\x80"}'),
    "a lone surrogate, escaped": post(b'{"text": "a \\ud83d b"}'),
    "a surrogate among rows": post(b'{"rows": [{"text": "\\udc00"}]}', "/predict/batch"),
    "a control character": post(b'{"text": "a\x01b"}'),
    "gzip": post(gzip.compress(b'{"text": "a"}'), "/predict", "Content-Encoding: gzip"),
    # wrong types
    "a number for a body": post(b"1"),
    "null for a body": post(b"null"),
    "a list for a body": post(b'["a"]'),
    "no text": post(b"{}"),
    "a text that is a number": post(b'{"text": 1}'),
    "a text that is null": post(b'{"text": null}'),
    "a text that is true": post(b'{"text": true}'),
    "a text that is a list": post(b'{"text": ["a"]}'),
    "a text that is an object": post(b'{"text": {"text": "a"}}'),
    "a number of 100,000 digits": post(b'{"text": ' + b"9" * 100_000 + b"}"),
    "an infinite number": post(b'{"text": 1e999}'),
    "no number at all": post(b'{"text": NaN}'),
    "rows that are an object": post(b'{"rows": {"text": "a"}}', "/predict/batch"),
    "one bad row among good ones": post(
        json.dumps({"rows": [{"text": "a"}] * 50 + [{"text": 3}]}).encode(), "/predict/batch"
    ),
    "rows of null": post(b'{"rows": [null, null]}', "/predict/batch"),
    # MLflow's forms, bent
    "inputs that are an object of numbers": invocations({"inputs": {"a": 1}}),
    "instances of null": invocations({"instances": None}),
    "two forms at once": invocations({"inputs": ["a"], "instances": ["b"]}),
    "a frame whose rows are longer than its header": invocations(
        {"dataframe_split": {"columns": ["text"], "data": [["a", "b", "c"]]}}
    ),
    "a frame without data": invocations({"dataframe_split": {"columns": ["text"]}}),
    "records that are lists": invocations({"dataframe_records": [["a"]]}),
    "no form at all": invocations({"texts": ["a"]}),
    "inputs of lists in lists": invocations({"inputs": [[[["a"]]]]}),
    # feedback
    "a label that there is not": feedback(label="no such class"),
    "a label that is a number": feedback(label=3),
    "consent that is a word": feedback(consent="maybe"),
    "an id of a megabyte": feedback(id="x" * 2**20),
    "a version that is a path": feedback(version="../../etc/passwd"),
    # huge
    "a text of a million characters": post(json.dumps({"text": "a " * 500_000}).encode()),
    "100,000 rows": post(
        json.dumps({"rows": [{"text": "a"}] * 100_000}).encode(), "/predict/batch"
    ),
    "20 megabytes": post(b'{"text": "' + MEGABYTE * 20 + b'"}'),
    "a terabyte, as is said": post(b'{"text": "a', length=2**40),
    "a length of 40 digits": post(b"{}", length="9" * 40),
    "20 megabytes in chunks": chunked((b"100000\r\n" + MEGABYTE + b"\r\n") * 20 + b"0\r\n\r\n"),
    "a path of a megabyte": get("/" + "a" * 2**20),
    "a query of a megabyte": get("/readyz?" + "a=1&" * 2**18),
    "a header of a megabyte": get("/readyz", "X-A: " + "a" * 2**20),
    "50,000 headers": get("/readyz", *(f"X-{number}: a" for number in range(50_000))),
    "a cookie of a megabyte": post(b"{}", "/predict", "Cookie: a=" + "b" * 2**20),
    # wrong kinds of body
    "no content type": post(b'{"text": "a"}', kind=None),
    "plain text": post(b'{"text": "a"}', kind="text/plain"),
    "XML": post(b"<text>a</text>", kind="application/xml"),
    "a form": post(b"text=a", kind="application/x-www-form-urlencoded"),
    "a form in parts": post(b"--b\r\n\r\na\r\n--b--", kind="multipart/form-data; boundary=b"),
    "CSV": post(b"text\na\n", "/invocations", kind="text/csv"),
    # broken HTTP
    "a negative length": post(b"{}", length=-1),
    "a length in words": post(b"{}", length="two"),
    "two lengths": post(b"{}", "/predict", "Content-Length: 7"),
    "a length and chunks": chunked(b"0\r\n\r\n").replace(b"Host", b"Content-Length: 5\r\nHost"),
    "a chunk without a size": chunked(b'zz\r\n{"text": "a"}\r\n0\r\n\r\n'),
    "a chunk longer than its size": chunked(b'3\r\n{"text": "a"}\r\n0\r\n\r\n'),
    "a chunk of a negative size": chunked(b"-5\r\nhello\r\n0\r\n\r\n"),
    "a chunk of 2^64 bytes": chunked(b"FFFFFFFFFFFFFFFFF\r\n{}"),
    "an unknown transfer encoding": post(
        b"{}", "/predict", "Transfer-Encoding: rot13"
    ),
    "no HTTP": b"\x00\x01\x02\x03 hello\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x00" * 160 + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/9.9": get(version="9.9"),
    "a NUL in a header": get("/readyz", "X-A: a\0b"),
    "a space before a colon": get("/readyz", "X-A : b"),
    "a header without a name": get("/readyz", ": b"),
    "a name that is not one": get("/readyz", "X(A): b"),
    # routes
    "a method that there is not": get("/predict", method="BREW"),
    "GET of what is posted": get("/predict"),
    "DELETE": get("/predict", method="DELETE"),
    "TRACE": get("/predict", method="TRACE"),
    "a path that there is not": get("/admin"),
    "a way out of the folder": get("/../../../../etc/passwd"),
    "a way out, encoded": get("/%2e%2e/%2e%2e/etc/passwd"),
    "a NUL in a path": get("/predict%00.html"),
    "bytes of no encoding in a path": get("/\xff\xfe"),
    "an upgrade to a websocket": get(
        "/predict", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
}  # fmt: skip


def slowly(content: bytes, at_once: int) -> Parts:
    """Some bytes at once, then one after the other, and never the last."""

    def parts() -> Iterator[bytes]:
        yield content[:at_once]
        for place in range(at_once, len(content) - 1):
            time.sleep(DRIP)
            yield content[place : place + 1]

    return parts


def endless(begin: bytes, more: bytes) -> Parts:
    def parts() -> Iterator[bytes]:
        yield begin
        while True:
            time.sleep(DRIP)
            yield more

    return parts


SLOW: dict[str, Parts] = {
    "a body that comes byte by byte": slowly(post(b'{"text": "' + b"a" * 200 + b'"}'), 110),
    "a body that stops": slowly(post(b'{"text": "a'.ljust(4000), length=9000), 4000),
    "a header that comes byte by byte": slowly(get("/readyz", "X-A: " + "a" * 200), 30),
    "a header that stops": slowly(get("/readyz", "X-A: a"), 30),
    "a first line that comes byte by byte": slowly(get("/" + "a" * 200), 1),
    "chunks of one byte without end": endless(chunked(b""), b"1\r\na\r\n"),
    "headers without end": endless(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n", b"X-A: a\r\n"),
}


def exchange(port: int, parts: Iterator[bytes]) -> bytes:
    """Received bytes, until the connection is closed or the response is complete."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        try:
            for part in parts:
                for start in range(0, len(part), 65536):
                    if select.select([connection], [], [], 0)[0]:
                        break
                    connection.sendall(part[start : start + 65536])
                if select.select([connection], [], [], 0)[0]:
                    break
        except OSError:  # it has heard enough
            pass
        return _read(connection)


def _read(connection: socket.socket) -> bytes:
    received = b""
    try:
        while not _whole(received) and (part := connection.recv(65536)):
            received += part
    except ConnectionResetError:
        pass
    return received


def _whole(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: *(\d+)", head, re.I)
    return bool(found and length) and len(body) >= int(length[1]) if length else False


def told(received: bytes) -> tuple[int, str]:
    """A status and a text."""
    head, _, body = received.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    if b"transfer-encoding: chunked" in head.lower():
        body = body.partition(b"\r\n")[2].partition(b"\r\n0\r\n")[0]
    return int(status[1]) if status else 0, body.decode(errors="replace")


def wrong(received: bytes) -> str:
    """Fault in the response to a hostile request; "" if there is none."""
    status, text = told(received)
    if not 400 <= status < 500:
        return f"status {status}: {text[:200]!r}"
    if not text.strip() or "\n" in text.strip() or len(text) > LONGEST:
        return f"status {status}, not in one line: {text[:400]!r}"
    if text.startswith("{") and [*json.loads(text)] != ["error"]:
        return f"status {status}, no error: {text[:200]!r}"
    return ""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("hostile")
    registry = Registry(f"sqlite:///{folder / 'mlflow.db'}")
    registry.move("toy", register(registry, folder / "v1", 1))
    with Service(folder / "serving", registry.tracking) as service:
        yield service


def test_fifty_hostile_requests_get_one_line_each(service: Service) -> None:
    assert len(HOSTILE) + len(SLOW) >= 50
    worker = service.worker().pid
    found = {name: wrong(exchange(service.port, iter([sent]))) for name, sent in HOSTILE.items()}
    assert {name: why for name, why in found.items() if why} == {}
    with ThreadPoolExecutor(len(SLOW)) as pool:
        answers = pool.map(lambda parts: exchange(service.port, parts()), SLOW.values())
        found = {name: wrong(received) for name, received in zip(SLOW, answers, strict=True)}
        assert service.serves("1"), "while others are slow"
    assert {name: why for name, why in found.items() if why} == {}
    assert service.worker().pid == worker
    assert service.serves("1")
    assert "Traceback" not in service.log()


def test_thousands_of_hostile_requests_leave_memory_as_it_was(service: Service) -> None:
    def everything() -> None:
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(
                lambda sent: told(exchange(service.port, iter([sent])))[0], HOSTILE.values()
            )
            assert all(400 <= status < 500 for status in found)

    for _ in range(5):
        everything()
    before = service.memory()
    for _ in range(PASSES):
        everything()
    grown = service.memory() - before
    print(f"{PASSES * len(HOSTILE)} requests; resident memory grew by {grown / 1e6:.1f} MB")
    assert grown < GROWTH
    assert service.serves("1")


def test_slow_senders_keep_nobody_waiting(service: Service) -> None:
    """Two hundred connections that send nothing more."""
    begun = post(b'{"text": "a', length=1000)
    slow = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(200)]
    try:
        for place, connection in enumerate(slow):
            connection.sendall(begun if place % 2 else begun[:40])
        assert all(service.serves("1") for _ in range(20))
        deadline = time.monotonic() + PATIENCE
        for connection in slow:
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            assert wrong(_read(connection)) == ""
    finally:
        for connection in slow:
            connection.close()


def test_a_fuzzer_that_reads_the_description_finds_no_server_error(
    service: Service, tmp_path: Path
) -> None:
    """Many short runs: the longer one is, the larger what it makes up, and the slower."""
    sent, seed = 0, 0
    while sent < FUZZED:
        seed += 1
        phases = "examples,coverage,fuzzing" if seed == 1 else "fuzzing"
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"]
        command += ["--checks", "not_a_server_error", "--phases", phases, "--seed", str(seed)]
        command += ["--max-examples", "60", "--no-shrink", "--continue-on-failure"]
        command += ["--suppress-health-check", "all", "--request-timeout", "30"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        generated = re.search(r"(\d+) generated, \1 passed", done.stdout)
        assert generated, done.stdout
        sent += int(generated[1])
    print(f"{sent} requests, {seed} seeds")
    assert service.serves("1")
    assert "Traceback" not in service.log()
