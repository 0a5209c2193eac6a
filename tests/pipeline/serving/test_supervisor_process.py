"""The supervisor as a process, with a fake worker."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.core.errors import UserError
from pipeline.serving import supervisor
from pipeline.serving.supervisor import TRIES, ServerOptions, Supervisor, serve
from tests.pipeline.serving.toys import Registry

WORKER = """
import json, os, socket, sys
given = json.loads(sys.argv[1])
with open("workers", "a") as file:
    print(os.getpid(), file=file, flush=True)
channel = socket.socket(fileno=given["channel"]).makefile("rw")
serve = given["serve"]
while True:
    if serve:
        if serve["number"] == "deadly" or len(open("workers").readlines()) <= ENDS:
            os._exit(1)
        print(json.dumps({"serving": serve["number"], "tuning": None}), file=channel, flush=True)
    line = channel.readline()
    if not line:
        break
    message = json.loads(line)
    serve = message.get("serve")
    if "beat" in message and len(open("workers").readlines()) > HANG:
        print(line, end="", file=channel, flush=True)
"""


def pretending(service: ServerOptions, ends: int = 0, hang: int = 0) -> ServerOptions:
    """Options with a fake worker: the first `ends` exit, the first `hang` do not answer."""
    script = WORKER.replace("ENDS", str(ends)).replace("HANG", str(hang))
    command = (sys.executable, "-S", "-c", script)
    return replace(service, port=0, every=0.02, worker=command)


def workers_gone(tmp_path: Path) -> int:
    """Count the workers that were started; none may still run."""
    numbers = [int(line) for line in (tmp_path / "workers").read_text().splitlines()]
    assert not any(psutil.pid_exists(number) for number in numbers)
    return len(numbers)


def ended_by(number: signal.Signals, ready: Callable[[], bool]) -> threading.Thread:
    """Send this process a signal once `ready` returns True."""

    def send() -> None:
        end = time.monotonic() + 20
        while not ready() and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


@pytest.fixture
def worked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: ServerOptions, registry: Registry
) -> ServerOptions:
    monkeypatch.chdir(tmp_path)
    return service


def test_without_a_champion_its_worker_is_ended_and_the_reason_told(
    worked_in: ServerOptions, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"^toy: has no champion yet: bertline run toy$"):
        serve(pretending(worked_in))
    assert workers_gone(tmp_path) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_worker(
    worked_in: ServerOptions, registry: Registry, tmp_path: Path, number: signal.Signals
) -> None:
    registry.add(tmp_path / "1", "1")
    sender = ended_by(number, worked_in.state.exists)
    serve(pretending(worked_in))
    sender.join()
    assert workers_gone(tmp_path) == 1


def test_a_port_that_a_killed_service_still_holds_is_waited_for(
    worked_in: ServerOptions, registry: Registry, tmp_path: Path
) -> None:
    registry.add(tmp_path / "1", "1")
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    timer = threading.Timer(0.2, taken.close)
    timer.start()
    sender = ended_by(signal.SIGTERM, worked_in.state.exists)
    serve(replace(pretending(worked_in), port=port))
    for thread in (timer, sender):
        thread.join()
    assert workers_gone(tmp_path) == 1


def test_a_worker_that_ends_is_started_again(
    worked_in: ServerOptions, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.add(tmp_path / "1", "1")
    sender = ended_by(signal.SIGTERM, worked_in.state.exists)
    serve(pretending(worked_in, ends=2))
    sender.join()
    assert workers_gone(tmp_path) == 3
    told = capsys.readouterr()
    assert "serves toy/1" in told.out
    assert told.err.count("worker ended") == 2


def test_a_worker_that_hangs_is_ended_and_started_again(
    worked_in: ServerOptions,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(supervisor, "BEAT", 0.05)
    monkeypatch.setattr(supervisor, "STARTS", 45)
    registry.add(tmp_path / "1", "1")
    beats = 0

    class Counted(Supervisor):
        def _receive(self, message: dict[str, Any]) -> None:
            nonlocal beats
            beats += "beat" in message
            super()._receive(message)

    monkeypatch.setattr(supervisor, "Supervisor", Counted)
    sender = ended_by(signal.SIGTERM, lambda: beats > 2 * supervisor.MISSED)
    serve(pretending(worked_in, hang=1))
    sender.join()
    assert workers_gone(tmp_path) == 2  # the one that hung, and one that was left alone
    told = capsys.readouterr().err
    assert (told.count("worker hangs"), told.count("worker ended")) == (1, 1)


def test_a_first_version_that_ends_every_worker_is_told(
    worked_in: ServerOptions, registry: Registry, tmp_path: Path
) -> None:
    registry.add(tmp_path / "deadly", "deadly")
    with pytest.raises(
        UserError, match=r"^toy/deadly is not served: the worker exits while loading"
    ):
        serve(pretending(worked_in))
    assert workers_gone(tmp_path) == TRIES
