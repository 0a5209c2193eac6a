"""End-to-end test of `bertline serve`: its two processes, over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.core.files import write_json
from pipeline.registry.tags import FILES_TAG
from pipeline.registry.versions import Registry
from tests.conftest import ROOT
from tests.pipeline.serving.toys import make_version

PATIENCE = 30.0  # seconds


def until(holds: Callable[[], Any]) -> Any:
    """Call until the result is truthy, and return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come about")


class Server:
    """Server that runs in the current folder, and its worker."""

    def __init__(self, *more: str, tracking: str) -> None:
        command = [sys.executable, "-m", "flows.cli", "serve", "toy", "--port", "0", *more]
        with Path("log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--every", "0.05", "--cores", "1"],
                env=os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": tracking},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def begin(self) -> "Server":
        """Wait until the server prints its address."""
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.startswith("http://127.0.0.1:"), Path("log").read_text()
        self.address = line.split()[0]
        return self

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            self.address + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, None

    def ready(self) -> Any:
        status, told = self.ask("/readyz")
        return told if status == 200 else None

    def waits(self) -> bool:
        with urllib.request.urlopen(self.address + "/metrics", timeout=PATIENCE) as response:
            return b"bertline_queue_rows 0.0" not in response.read()

    def answers_by(self) -> str:
        status, answer = self.ask("/predict", {"text": "goal match"})
        assert status == 200, answer
        return str(answer["version"])

    @property
    def worker(self) -> psutil.Process:
        (child,) = until(lambda: psutil.Process(self.process.pid).children())
        return child

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)


@pytest.fixture
def registry(tracking: str, tmp_path: Path) -> Registry:
    """Versions 1 to 3, of which 1 is the champion."""
    registry = Registry(tracking)
    registry.client.create_registered_model("toy")
    for number in "123":
        folder = tmp_path / "store" / number
        files = make_version(folder, weight=float(number))
        registry.client.create_model_version("toy", folder.as_uri())
        registry.client.set_model_version_tag("toy", number, FILES_TAG, json.dumps(files))
    registry.move("toy", "1")
    return registry


@pytest.fixture
def start(tracking: str) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def begin(*more: str, tracking: str = tracking) -> Server:
        started.append(Server(*more, tracking=tracking))
        return started[-1]

    yield begin
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
        server.process.wait(PATIENCE)
        assert server.process.stdout
        server.process.stdout.close()


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_the_champion_answers_whatever_breaks_or_ends(
    registry: Registry, start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start().begin()
    assert until(server.ready)["version"] == "toy/1"
    assert server.answers_by() == "toy/1"

    registry.move("toy", "2")  # another champion takes over
    until(lambda: server.answers_by() == "toy/2")

    model = tmp_path / "store" / "3" / "artifacts" / "model.onnx"  # a damaged one does not
    sound = model.read_bytes()
    model.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    registry.move("toy", "3")
    refused = until(lambda: server.ready()["refused"])
    assert refused == {"3": "artifacts/model.onnx of toy/3 has changed: it is not served"}
    assert server.answers_by() == "toy/2"

    model.write_bytes(sound)  # until somebody mends it
    until(lambda: server.answers_by() == "toy/3")
    assert server.ready()["previous"] == "toy/2"

    server.worker.kill()  # the worker is replaced
    until(server.ready)
    assert server.answers_by() == "toy/3"

    worker = server.worker
    server.process.kill()  # and does not outlive who started it
    until(lambda: is_gone(worker))

    state = Path(".bertline/serving/toy.json")
    kept = json.loads(state.read_bytes())
    kept["tuning"]["rows_per_second"] = 12345.5  # so that four batches may wait
    write_json(state, kept)
    again = start(tracking="http://127.0.0.1:9").begin()  # MLflow is not needed to go on
    assert until(again.ready)["version"] == "toy/3"
    assert json.loads(state.read_bytes()) == kept  # nor is anything measured again

    worker = again.worker
    batch = {"rows": [{"text": "goal match striker league coach"}] * 1000}
    with ThreadPoolExecutor(4) as pool:  # what is under way is answered before it ends
        asked = [pool.submit(again.ask, "/predict/batch", batch) for _ in range(4)]
        until(lambda: again.waits() or any(each.done() for each in asked))
        assert again.end() == 0
        assert [each.result()[0] for each in asked] == [200] * 4
    assert is_gone(worker)
    assert again.ask("/healthz") == (0, None)
