"""Comparison of two servers' answers, and the speed of the model alone, for bench/serving.py."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Protocol

import psutil
from report import ROOT

from pipeline.tasks.base.encoding import Texts

SECONDS = 3.0  # of each way to run the model


class Served(Protocol):
    """Interface of a server under test."""

    url: str

    def running(self) -> Any:
        """Return a context manager that starts the server and stops it at the end."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_ready(url: str) -> bool:
    try:
        with _open(url) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def compare(servers: Sequence[Served], rows: Sequence[Any]) -> dict[str, Any]:
    """Compare the answers of the servers to every row, sent one at a time.

    int8 activations are scaled by the whole batch, so scores would depend on a text's neighbours.
    """
    answers = []
    for server in servers:
        with server.running():
            answers.append([_answer(server.url, row) for row in rows])
    labels, largest = 0, 0.0
    for first, second in zip(*answers, strict=True):
        if first.keys() != second.keys():
            raise SystemExit(f"error: columns differ: {sorted(first)} and {sorted(second)}")
        labels += first["label"] != second["label"]
        scores = [name for name, value in first.items() if isinstance(value, float)]
        largest = max([largest, *(abs(first[name] - second[name]) for name in scores)])
    return {"texts": len(rows), "labels_differ": labels, "max_difference": largest}


def _answer(url: str, row: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{url}/invocations",
        json.dumps({"inputs": [row]}).encode(),
        {"Content-Type": "application/json"},
    )
    with _open(request) as answer:
        [prediction] = json.load(answer)["predictions"]
    return dict(prediction)


def _open(request: Any) -> Any:
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30)


def model_rates(files: Path, texts: Sequence[Texts]) -> list[dict[str, Any]]:
    """Return the rows per second of the model without a server, each setting in a separate process:
    one batch at a time on all cores, and as many batches at once as cores, one core each."""
    cores = psutil.cpu_count() or 1
    ways = [(1, cores, batch) for batch in (1, 8, 32)]
    ways += [(cores, 1, batch) for batch in (1, 8)] if cores > 1 else []
    found = []
    for runners, threads, batch in ways:
        command = [sys.executable, __file__, str(files), *map(str, (runners, threads, batch))]
        done = subprocess.run(
            command,
            input=json.dumps(list(texts)),
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        rate = round(float(done.stdout), 1)
        print(f"  {runners} × {threads} threads, batch {batch}: {rate} rows/s", flush=True)
        found.append(
            {"runners": runners, "threads": threads, "batch": batch, "rows_per_second": rate}
        )
    return found


def _rows_per_second(files: Path, runners: int, threads: int, batch: int) -> float:
    """Measure in this process; the texts come from standard input."""
    from pipeline.serving.version import open_version

    version = open_version("bench", "1", files, None, threads)
    texts = [(text, second) for text, second in json.load(sys.stdin)]
    version.answer(texts[:batch], batch)

    def work(first: int) -> int:
        endless = islice(cycle(texts), first * len(texts) // runners, None)
        end, rows = time.perf_counter() + SECONDS, 0
        while time.perf_counter() < end:
            rows += len(version.answer(list(islice(endless, batch)), batch))
        return rows

    began = time.perf_counter()
    with ThreadPoolExecutor(runners) as pool:
        rows = sum(pool.map(work, range(runners)))
    return rows / (time.perf_counter() - began)


if __name__ == "__main__":
    print(_rows_per_second(Path(sys.argv[1]), *map(int, sys.argv[2:])))
