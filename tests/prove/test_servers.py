"""MLflow and Prefect as `make servers` starts them: shut to strangers, and nothing is lost."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT, Workspace

POSTGRES = shutil.which("postgres") or next(
    Path("/usr/lib/postgresql").glob("*/bin/postgres"), None
)
pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL is not installed"),
]
NAMES = ("postgres", "mlflow", "prefect")
HEALTH = {"mlflow": "/health", "prefect": "/api/health"}
STRANGER = "http://evil.example"
SOCKETS = (
    "/api/events/in",
    "/api/events/out",
    "/api/logs/out",
    "/api/task_runs/subscriptions/scheduled",
)


class Box:
    """A folder of servers on free ports."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ports = dict(zip(("mlflow", "prefect"), _free_ports(2), strict=True))
        self.said = ""

    def call(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "infra.servers", "--state", str(self.home), *arguments],
            cwd=ROOT,
            env={k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_"))},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout + done.stderr
        self.said += done.stdout + done.stderr
        return done.stdout + done.stderr

    def up(self) -> str:
        return self.call("up", *(f"--{name}-port={port}" for name, port in self.ports.items()))

    def pids(self) -> dict[str, int]:
        noted = json.loads((self.home / "running.json").read_text())
        return {name: noted[name]["pid"] for name in NAMES}

    def environment(self) -> dict[str, str]:
        lines = (self.home / "env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def credentials(self, name: str) -> str:
        known = self.environment()
        if name == "prefect":
            return known["PREFECT_API_AUTH_STRING"]
        return f"{known['MLFLOW_TRACKING_USERNAME']}:{known['MLFLOW_TRACKING_PASSWORD']}"

    def ask(
        self, name: str, path: str, method: str = "GET", *, known: bool = False, **headers: str
    ) -> tuple[int, bytes]:
        """A status and a body."""
        if known:
            headers["Authorization"] = (
                "Basic " + b64encode(self.credentials(name).encode()).decode()
            )
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.ports[name]}{path}", method=method, headers=headers
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def secrets(self) -> set[str]:
        return {path.read_text() for path in (self.home / "secrets").iterdir()}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Not pytest's own, which the user postgres may not enter."""
    made = Path(tempfile.mkdtemp(prefix="bertline-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def box(folder: Path) -> Iterator[Box]:
    box = Box(folder / "servers")
    try:
        box.up()
        yield box
    finally:
        box.call("down")


def routes(box: Box) -> list[tuple[str, str, str]]:
    """(server, method, path) of every route that either server has."""
    from mlflow.server import app as flask_app
    from mlflow.server.fastapi_app import app as fastapi_app

    found = []
    for rule in flask_app.url_map.iter_rules():
        found += [("mlflow", method, str(rule)) for method in rule.methods or ()]
    for path, methods in fastapi_app.openapi()["paths"].items():
        found += [("mlflow", method.upper(), path) for method in methods]
    found += [("mlflow", "GET", "/signup"), ("mlflow", "POST", "/api/2.0/mlflow/users/create")]
    pages = ("/", "/v2/", "/ui-settings", "/docs", "/redoc", "/openapi.json", "/api/docs")
    found += [("prefect", "GET", page) for page in (*pages, "/assets/x.js", "/v2/index.html")]
    described = json.loads(box.ask("prefect", "/openapi.json", known=True)[1])
    for path, methods in described["paths"].items():
        found += [("prefect", method.upper(), f"/api{path}") for method in methods]
    return [(name, method, re.sub(r"[<{][^>}]*[>}]", "1", path)) for name, method, path in found]


def test_nothing_but_health_answers_without_credentials(box: Box) -> None:
    swept = routes(box)
    assert len([r for r in swept if r[0] == "mlflow"]) > 300
    assert len([r for r in swept if r[0] == "prefect"]) > 150
    open_to_all = []
    for name, method, path in swept:
        for headers in (
            {},
            {"Authorization": "Basic " + b64encode(b"admin:password1234").decode()},
        ):
            status, body = box.ask(name, path, method, **headers)
            if status != 401 or body not in (b"", b"authentication required"):
                open_to_all.append((name, method, path))
    health = {("mlflow", HEALTH["mlflow"]), ("prefect", HEALTH["prefect"])}
    assert {(name, path) for name, _, path in open_to_all} == health
    for name, path in HEALTH.items():
        assert box.ask(name, path)[1] in (b"OK", b"true")
    assert box.ask("mlflow", "/health/../version")[0] == 401
    assert box.ask("mlflow", "/version", known=True)[0] == 200
    assert box.ask("prefect", "/api/admin/version", known=True)[0] == 200


def test_a_foreign_host_or_origin_is_refused_with_the_right_password_too(box: Box) -> None:
    for name, method, path in routes(box)[::5]:
        port = box.ports[name]
        for headers in (
            {"Host": "evil.example"},
            {"Host": f"127.0.0.1.evil.example:{port}"},
            {"Host": "127.0.0.1"},
            {"Origin": STRANGER},
            {"Origin": "null"},
            {"Origin": "http://localhost:1"},
        ):
            assert box.ask(name, path, method, known=True, **headers)[0] == 403, (
                name,
                path,
                headers,
            )
    for name, path in (("mlflow", "/version"), ("prefect", "/api/admin/version")):
        ours = {
            "Host": f"localhost:{box.ports[name]}",
            "Origin": f"http://127.0.0.1:{box.ports[name]}",
        }
        assert box.ask(name, path, known=True, **ours)[0] == 200


def test_a_change_in_prefect_needs_its_csrf_token(box: Box) -> None:
    json_ = {"Content-Type": "application/json"}
    status, body = box.ask("prefect", "/api/flows/filter", "POST", known=True, **json_)
    assert (status, json.loads(body)) == (403, {"detail": "Missing CSRF token."})


@pytest.mark.parametrize("path", SOCKETS)
def test_a_websocket_asks_who_is_there(box: Box, path: str) -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.typing import Subprotocol

    address = f"ws://127.0.0.1:{box.ports['prefect']}{path}"
    prefect = [Subprotocol("prefect")]

    async def greet(token: str | None) -> str:
        async with connect(address, subprotocols=prefect, proxy=None) as there:
            await there.send(json.dumps({"type": "auth", "token": token}))
            return str(json.loads(await there.recv())["type"])

    for token in (None, "", "bertline:wrong"):
        with pytest.raises(ConnectionClosed):
            asyncio.run(greet(token))
    assert asyncio.run(greet(box.credentials("prefect"))) == "auth_success"

    async def refused(host: str = "127.0.0.1", **how: object) -> int:
        to = {"host": "127.0.0.1", "port": box.ports["prefect"], "proxy": None}
        with pytest.raises(InvalidStatus) as raised:
            async with connect(address.replace("127.0.0.1", host), **to, **how):  # type: ignore[arg-type]
                pass
        return raised.value.response.status_code

    assert asyncio.run(refused()) == 403, "it does not speak Prefect's protocol"
    assert asyncio.run(refused(subprotocols=prefect, origin=STRANGER)) == 403
    assert asyncio.run(refused("evil.example", subprotocols=prefect)) == 403


def test_secrets_are_for_their_owners_eyes_and_stand_nowhere_else(box: Box) -> None:
    assert len(box.secrets()) == 6
    assert all(len(secret) == 48 for secret in box.secrets())
    for path in box.home.rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        copied = path.is_relative_to(box.home / "prefect" / "ui")  # of the package's own files
        if not copied and not path.is_socket():
            assert mode & 0o077 == 0, f"{path}: {mode:o}"
    assert stat.S_IMODE((box.home / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((box.home / "env").stat().st_mode) == 0o600
    holders = {"secrets", "env"}
    texts = {str(p): p.read_text() for p in box.home.iterdir() if p.is_file() and p.name != "env"}
    texts |= {str(p): p.read_text() for p in (box.home / "logs").iterdir()}
    assert len(texts) >= 5 and holders <= {p.name for p in box.home.iterdir()}
    texts["ps"] = subprocess.run(
        ["ps", "-eo", "args", "-ww"], capture_output=True, text=True
    ).stdout
    assert str(box.ports["mlflow"]) in texts["ps"]
    texts["said"] = box.said
    for where, text in texts.items():
        assert not any(secret in text for secret in box.secrets()), where
    lines = box.environment()
    assert not any("@" in lines[name] for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"))


def test_starting_twice_is_harmless_and_down_stops_only_these(box: Box) -> None:
    before = box.pids()
    secrets = box.secrets()
    box.up()
    assert box.pids() == before
    taken = box.call("up", f"--mlflow-port={box.ports['mlflow'] + 1}", code=2)
    assert taken.startswith(f"error: mlflow runs on port {box.ports['mlflow']}")

    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        box.call("down")
        assert not any(psutil.pid_exists(pid) for pid in before.values())
        assert "not running" in box.call("status", code=1)
        box.call("down")
        # a pid that was given to another process since
        noted = json.loads((box.home / "running.json").read_text())
        noted["mlflow"]["pid"] = bystander.pid
        (box.home / "running.json").write_text(json.dumps(noted))
        box.call("down")
        assert bystander.poll() is None
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", box.ports["prefect"]))
            other.listen()
            assert "is in use: give another --prefect-port" in box.call("up", code=2)
        box.up()
    finally:
        bystander.kill()
        bystander.wait()
    assert box.secrets() == secrets
    assert box.call("status").count(" healthy") == 3


def test_the_line_uses_both_and_nothing_is_lost_by_kill_nor_by_moving(
    box: Box, folder: Path, tmp_path: Path, tiny_base: Path
) -> None:
    work = Workspace(tmp_path / "work", tiny_base)
    work.variables = box.environment()
    ran = work.call(*work.bertline, "run", "toy")
    assert "verdict on toy/1: promote" in ran.stdout
    assert not (work.folder / "mlflow.db").exists()
    assert not any(secret in ran.stdout + ran.stderr for secret in box.secrets())
    assert "toy/1" in work.call(*work.bertline, "history", "toy").stdout
    assert "toy/1, in use" in work.call(*work.bertline, "explain", "toy@champion").stdout
    work.call(*work.bertline, "fsck")
    assert len(box.environment()) == 6
    answers = work.call(*work.bertline, "predict", "toy", "a goal in the match").stdout
    assert answers.startswith("sport")

    # what goes in MLflow goes through the server
    block = _recipe(work)
    block["finetune"]["learning_rate"] = 5e-3
    work.write_recipe(block)
    work.call(*work.bertline, "run", "toy", code=None)
    work.call(*work.bertline, "rollback", "toy", code=None)
    said = work.call(*work.bertline, "gc", "--keep", "0", "--yes").stdout
    assert "nothing has been deleted" not in said
    ids = tmp_path / "ids.txt"
    ids.write_text(_an_id(work) + "\n")
    forgotten = work.call(*work.bertline, "forget", "toy", "--ids", str(ids), "--yes").stdout
    assert "data/raw/toy.csv" in forgotten
    assert "toy/1" in work.call(*work.bertline, "history", "toy").stdout

    for pid in box.pids().values():
        os.kill(pid, signal.SIGKILL)
    box.up()
    assert work.call(*work.bertline, "predict", "toy", "a goal in the match").stdout == answers

    saved = folder / "backup"
    box.call("backup", str(saved))
    assert stat.S_IMODE(saved.stat().st_mode) == 0o700
    assert "exists already" in box.call("backup", str(saved), code=2)
    assert "holds servers already" in box.call("restore", str(saved), code=2)
    moved = Box(folder / ("a-folder-of-a-long-name-" * 5) / "servers")
    assert len(str(moved.home)) > 107, "too long for a socket"
    moved.call("restore", str(saved))
    box.call("down")
    try:
        moved.up()
        work.variables = moved.environment()
        assert moved.credentials("mlflow") == box.credentials("mlflow")
        assert work.call(*work.bertline, "predict", "toy", "a goal in the match").stdout == answers
        flows = work.call(sys.executable, "-m", "prefect", "flow", "ls").stdout
        assert "line" in flows
    finally:
        moved.call("down")
    box.up()


def _recipe(work: Workspace) -> dict[str, dict[str, object]]:
    from pipeline.core.config import read_recipe

    return json.loads(json.dumps(read_recipe("toy", work.folder / "params.yaml")))


def _an_id(work: Workspace) -> str:
    import pandas as pd

    return str(pd.read_parquet(work.folder / "data" / "toy" / "ingest" / "rows.parquet")["id"][0])


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
