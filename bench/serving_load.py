"""Servers and load of the serving benchmark: server processes and locust."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from report import ROOT
from serving_answers import free_port, is_ready

WARM = 2.0  # first seconds of a load, which are not counted


@dataclass(frozen=True)
class Load:
    """Result of one load."""

    clients: int
    offered: float | None
    """Requests per second to send; None: each client as fast as it gets answers."""
    answered: float
    """Answers with status 200 per second."""
    p50: float
    """Median latency of these answers in milliseconds."""
    p99: float
    """Latency of the same answers, 99th percentile, in milliseconds."""
    refused: float
    """Share of answers with status 429."""
    failed: int
    """Number of answers with any other status, and of broken connections."""
    tool: float
    """Mean number of processors that the load tool kept busy."""


class Server:
    """Server under test, as a process group."""

    def __init__(self, name: str, command: Sequence[str], ready: str, home: Path, tracking: str):
        self.name, self.command, self.ready = name, command, ready
        self.home, self.tracking = home, tracking
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        self.home.mkdir(parents=True, exist_ok=True)
        kept = {k: v for k, v in os.environ.items() if k != "BERTLINE_API_KEYS"}
        env = kept | {"MLFLOW_TRACKING_URI": self.tracking, "MLFLOW_DISABLE_TELEMETRY": "true"}
        env["PYTHONPATH"] = str(ROOT)
        # `mlflow models serve` finds uvicorn by PATH
        env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), env["PATH"]))
        command = [sys.executable, "-m", *self.command, "--port", str(self.port)]
        log = self.home / "log.txt"
        with log.open("w") as file:
            process = subprocess.Popen(
                command, cwd=self.home, env=env, stdout=file, stderr=file, start_new_session=True
            )
        try:
            limit = time.monotonic() + 120
            while not is_ready(self.url + self.ready):
                if process.poll() is not None or time.monotonic() > limit:
                    raise SystemExit(
                        f"error: {self.name} did not start:\n{log.read_text()[-2000:]}"
                    )
                time.sleep(0.2)
            yield
        finally:
            if process.poll() is None:
                group = [*psutil.Process(process.pid).children(recursive=True)]
                os.killpg(process.pid, signal.SIGTERM)
                psutil.wait_procs(group, timeout=20)
                for left in group:
                    if left.is_running():
                        left.kill()
                process.wait(timeout=20)


class Tool:
    """Load tool: a locust process for each load."""

    def __init__(self, folder: Path, bodies: Sequence[str]) -> None:
        self.folder = folder
        self.started = 0
        (folder / "bodies.json").write_text(json.dumps(bodies))

    def start(
        self, server: Server, seconds: float, clients: int, rate: float = 0.0
    ) -> tuple["subprocess.Popen[str]", Path]:
        self.started += 1
        out = self.folder / f"load-{self.started}.json"
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "bench" / "load.py")]
        command += ["--headless", "--only-summary", "--host", server.url, "--out", str(out)]
        command += ["--bodies", str(self.folder / "bodies.json"), "--rate", str(rate)]
        command += ["-u", str(clients), "-r", "10000", "-t", f"{seconds + WARM:.0f}s"]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            command, cwd=self.folder, stdout=quiet, stderr=quiet, text=True
        ), out

    def run(self, server: Server, seconds: float, clients: int, rate: float = 0.0) -> Load:
        """Send requests as fast as `clients` get answers, or at a rate per second."""
        process, out = self.start(server, seconds, clients, rate)
        process.wait()
        content = json.loads(out.read_text())
        requests = requests_of(content)
        begin = requests[:, 0].min() + WARM
        load = summary(requests, begin, begin + seconds - 0.5, clients, rate or None)
        spent = round(content["cpu"] / (seconds + WARM), 3)
        load = Load(**asdict(load) | {"tool": spent})
        print(f"  {server.name}: {shown(load)}", flush=True)
        return load


def requests_of(content: dict[str, Any]) -> Any:
    """Return an array (requests, 3) of the time of sending, milliseconds and status."""
    return np.array(content["requests"], dtype=np.float64).reshape(-1, 3)


def summary(
    requests: Any, begin: float, end: float, clients: int, offered: float | None = None
) -> Load:
    """Summarise the requests that were sent between two times."""
    sent = requests[(requests[:, 0] >= begin) & (requests[:, 0] < end)]
    good, refused = sent[sent[:, 2] == 200], (sent[:, 2] == 429).sum()
    # without any answer, the latency is at least the whole time
    p50, p99 = np.percentile(good[:, 1] if len(good) else [1000 * (end - begin)], [50, 99])
    return Load(
        clients=clients,
        offered=round(float(offered), 1) if offered else None,
        answered=round(len(good) / float(end - begin), 1),
        p50=round(float(p50), 1),
        p99=round(float(p99), 1),
        refused=round(float(refused) / max(1, len(sent)), 4),
        failed=int(len(sent) - len(good) - refused),
        tool=0.0,
    )


def shown(load: Load) -> str:
    asked = f"{load.offered:.0f}/s asked" if load.offered else f"{load.clients} clients"
    return (
        f"{asked}: {load.answered:.1f}/s answered, p50 {load.p50:.0f} ms, p99 {load.p99:.0f} ms,"
        f" {load.refused:.1%} refused, {load.failed} failed"
    )
