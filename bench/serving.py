"""How a champion answers: `bertline serve` beside `mlflow models serve`, asked by locust.

    python bench/serving.py
    python bench/serving.py --recipe banking77 --home .bertline/results/banking77
    python bench/serving.py --rounds 1 --seconds 5 --out /tmp/bench    # a quick look

Both servers get the same version of the registry in `--home`, one text a POST to /invocations, in
the same bodies, drawn from the recipe's validation rows; each is alone on the machine with the load
tool, on all its cores. Writes serving-RECIPE.json and .md. What is counted: bench/README.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from report import RESULTS, ROOT, machine_text, others_text, table, write
from serving_answers import alone, compare, free_port, is_ready

from pipeline.adapters.mlflow import Registry
from pipeline.kept import kept_rows, texts_of
from pipeline.records import Machine
from pipeline.stages.benchmark import this_machine

CLIENTS = 32
WARM = 2.0  # seconds at the beginning of a load that are not counted
SHORTEST = 5.0  # seconds of a load
FASTER = 3.0  # times the requests per second of MLflow
HALF_P99 = 60.0  # milliseconds, at half of the saturation
CALM = 2.0  # seconds after an overload until the server is itself again
OVERLOAD = 5.0  # times the saturation
KEPT = 1.1  # times p99 at saturation which those who are answered then may take
STEP = 1.2  # from one load to the next, where it rises
MOST_REFUSED = 0.001  # share of a load that counts as answered
NEAR = 0.9  # of the most answers per second, from which on a server is saturated
SATURATED = 0.2  # share of a load that is not answered
WINDOW = 0.5  # seconds, of looking whether the server is itself again
PERIOD = 0.5  # seconds between two requests of one client, where the load is a rate


@dataclass(frozen=True)
class Load:
    """What came of asking for some seconds."""

    clients: int
    offered: float | None
    """Requests per second that were meant to be sent; None: as fast as answers came."""
    answered: float
    """Answers with 200 per second."""
    p50: float
    """Milliseconds, of those; and so is p99."""
    p99: float
    refused: float
    """Share of 429."""
    failed: int
    """Every other status, and broken connections."""
    tool: float
    """Processors that the load tool kept busy."""


class Server:
    """One of the two, as a process group that is started and ended."""

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
        # `mlflow models serve` looks for uvicorn there
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
    """Locust, in a process of its own for each load."""

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

    def ask(self, server: Server, seconds: float, clients: int, rate: float = 0.0) -> Load:
        """As fast as `clients` are answered, or at a rate."""
        process, out = self.start(server, seconds, clients, rate)
        process.wait()
        told = json.loads(out.read_text())
        requests = _array(told)
        begun = requests[:, 0].min() + WARM
        load = summary(requests, begun, begun + seconds - 0.5, clients, rate or None)
        spent = round(told["cpu"] / (seconds + WARM), 3)
        load = Load(**asdict(load) | {"tool": spent})
        print(f"  {server.name}: {shown(load)}", flush=True)
        return load


def _array(told: dict[str, Any]) -> Any:
    """(requests, 3): when it was sent, milliseconds, status."""
    return np.array(told["requests"], dtype=np.float64).reshape(-1, 3)


def summary(
    requests: Any, begin: float, end: float, clients: int, offered: float | None = None
) -> Load:
    """Of the requests that were sent between two times."""
    sent = requests[(requests[:, 0] >= begin) & (requests[:, 0] < end)]
    good, refused = sent[sent[:, 2] == 200], (sent[:, 2] == 429).sum()
    # where nothing was answered, it took the whole of that time at least
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


def side_by_side(
    tool: Tool, servers: Sequence[Server], rounds: int, seconds: float
) -> dict[str, list[Load]]:
    """The same clients for both, in turns."""
    found: dict[str, list[Load]] = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            with server.running():
                tool.ask(server, 3, CLIENTS)  # it warms up
                found[server.name].append(tool.ask(server, seconds, CLIENTS))
    return found


def more_clients(tool: Tool, server: Server, seconds: float, p99: float) -> list[Load]:
    """More and more clients, until p99 is above another's or somebody is refused."""
    clients, found = CLIENTS, []
    while True:
        load = tool.ask(server, seconds, clients)
        found.append(load)
        if load.p99 > p99 or load.refused > MOST_REFUSED:
            return found
        clients = round(clients * STEP)


def sweep(tool: Tool, server: Server, seconds: float, first: float) -> list[Load]:
    """Rising rates, until the server answers no more of them."""
    rate, found = first, []
    while True:
        load = tool.ask(server, seconds, clients_for(rate), rate)
        found.append(load)
        if load.refused > SATURATED or load.answered < (1 - SATURATED) * rate:
            return found
        rate *= STEP


def clients_for(rate: float) -> int:
    return max(CLIENTS, round(rate * PERIOD))


def at_equal_p99(loads: Sequence[Load], p99: float) -> float:
    """The most answers per second at which nobody is refused and p99 is not above another's."""
    fit = [x for x in loads if x.p99 <= p99 and x.refused <= MOST_REFUSED and x.failed == 0]
    return max((load.answered for load in fit), default=0.0)


def at_saturation(loads: Sequence[Load]) -> tuple[float, float]:
    """The most answers per second, and the median p99 of the loads that came near it: the one load
    that got most was asked in the machine's best moment."""
    most = max(load.answered for load in loads)
    return most, median(load.p99 for load in loads if load.answered >= NEAR * most)


def overload(tool: Tool, server: Server, saturation: float, seconds: float) -> dict[str, Any]:
    """Half of the saturation all the time, and far beyond it for `seconds` in between."""
    around, half = 10.0, saturation / 2
    rate = saturation * OVERLOAD - half
    calm, calm_out = tool.start(server, seconds + 3 * around, clients_for(half), half)
    time.sleep(around)
    storm, storm_out = tool.start(server, seconds, clients_for(rate), rate)
    storm.wait()
    calm.wait()
    steady = json.loads(calm_out.read_text())
    stormy = json.loads(storm_out.read_text())
    requests = np.concatenate([_array(steady), _array(stormy)])
    begin, end = (float(time) for time in np.quantile(_array(stormy)[:, 0], [0, 1]))
    before = summary(requests, begin - around + WARM + 2, begin - 0.5, clients_for(half), half)
    during = summary(requests, begin + WARM, end, clients_for(rate), saturation * OVERLOAD)
    until = seconds_until_calm(_array(steady), end, around, before.p99)
    spent = (steady["cpu"] + stormy["cpu"]) / (seconds + 3 * around)
    told = {"before": asdict(before), "during": asdict(during), "tool": round(spent, 3)}
    sent = len(_array(stormy)) / (end - begin) + half
    print(f"  before {shown(before)}\n  during {shown(during)}", flush=True)
    return told | {"sent": round(sent, 1), "seconds_until_calm": until}


def seconds_until_calm(requests: Any, end: float, seconds: float, usual: float) -> float:
    """From the end of an overload to the end of the last half second in which anybody was refused,
    or half of the answers took longer than `usual`."""
    until = 0.0
    for start in np.arange(0.0, seconds - WINDOW, WINDOW):
        after = requests[:, 0] - end - start
        window = requests[(after >= 0) & (after < WINDOW)]
        if len(window) and ((window[:, 2] != 200).any() or np.median(window[:, 1]) > usual):
            until = float(start + WINDOW)
    return until


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="news", help="a block of params.yaml (news)")
    parser.add_argument("--home", type=Path, default=ROOT, help="where its line ran (here)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured (3)")
    parser.add_argument("--seconds", type=float, default=20, help="of each load (20)")
    parser.add_argument("--storm", type=float, default=60, help="seconds of the overload (60)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args()
    if given.rounds < 1 or min(given.seconds, given.storm) < SHORTEST:
        parser.error(f"--rounds must be 1 or more, --seconds and --storm {SHORTEST:.0f}")
    with TemporaryDirectory(prefix="bench-") as folder:
        content = measure(given, Path(folder))
    write(given.out, f"serving-{given.recipe}", content, markdown(content))
    return 0


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    home = given.home.resolve()
    tracking = f"sqlite:///{home / 'mlflow.db'}"
    registry = Registry(tracking)
    number = registry.champion(given.recipe)
    if number is None:
        raise SystemExit(f"error: {home} has no champion of {given.recipe}: bertline run it there")
    files = registry.folder(given.recipe, number)
    texts = texts_of(kept_rows(home / "data" / given.recipe / "validate", "validation"))
    rows = [{"text": text, "second": second} if second else text for text, second in texts]
    tool = Tool(folder, [json.dumps({"inputs": [row]}) for row in rows])
    model_serve = ["mlflow", "models", "serve", "-m", str(files), "--env-manager", "local"]
    own_serve = ["flows.cli", "serve", given.recipe]
    mlflow = Server("mlflow models serve", model_serve, "/ping", folder / "mlflow", tracking)
    own = Server("bertline serve", own_serve, "/readyz", folder / "own", tracking)

    busy = others()
    print(f"{given.recipe}/{number}, {len(texts)} texts: the model alone", flush=True)
    limit = alone(files, texts)
    print("the answers of both", flush=True)
    same = compare([mlflow, own], rows)
    print(f"{CLIENTS} clients", flush=True)
    rounds = side_by_side(tool, [mlflow, own], given.rounds, given.seconds)
    p99 = median(load.p99 for load in rounds[mlflow.name])
    theirs = median(load.answered for load in rounds[mlflow.name])
    ours = median(load.answered for load in rounds[own.name])
    with own.running():
        tool.ask(own, 3, CLIENTS)
        print(f"more clients, up to a p99 of {p99:.0f} ms", flush=True)
        short = max(given.seconds / 2, SHORTEST)
        crowds = more_clients(tool, own, short, p99)
        print("rising rate", flush=True)
        loads = sweep(tool, own, short, ours / 2)
        equal = at_equal_p99([*loads, *crowds], p99)
        saturation, usual = at_saturation([*rounds[own.name], *crowds, *loads])
        print("half of its saturation", flush=True)
        half = tool.ask(own, given.seconds, clients_for(saturation / 2), saturation / 2)
        print(f"{OVERLOAD:.0f} times its saturation", flush=True)
        storm = overload(tool, own, saturation, given.storm)
    machine = this_machine()
    machine.versions.update({name: version(name) for name in ("mlflow", "uvicorn", "locust")})
    return {
        "recipe": given.recipe,
        "version": number,
        "clients": CLIENTS,
        "alone": limit,
        "answers": same,
        "rounds": {name: [asdict(load) for load in found] for name, found in rounds.items()},
        "equal_p99": {"p99": p99, "answered": equal, "ratio": round(equal / theirs, 3)},
        "more_clients": [asdict(load) for load in crowds],
        "rising_rate": [asdict(load) for load in loads],
        "saturation": {"answered": saturation, "p99": usual},
        "half": asdict(half),
        "overload": storm,
        "met": {
            "faster": equal >= FASTER * theirs,
            "half": half.p99 <= HALF_P99,
            "kept": storm["during"]["p99"] <= KEPT * usual,
            "calm": storm["seconds_until_calm"] <= CALM,
            "same": same["labels_differ"] == 0 and same["largest_difference"] <= 1e-6,
        },
        "others_share": round(max(busy, others()), 3),
        "machine": machine.model_dump(),
    }


def others() -> float:
    """Share of the processors' time that other programs take, while nothing of ours runs."""
    return float(psutil.cpu_percent(interval=2.0)) / 100


def markdown(content: dict[str, Any]) -> str:
    lines = []
    for name, found in content["rounds"].items():
        columns = {key: median(load[key] for load in found) for key in ("answered", "p50", "p99")}
        tool = max(load["tool"] for load in found)
        share = [f"{value:.0f}" for value in columns.values()]
        lines.append((name, *share, f"{tool:.2f}"))
    header = (f"{CLIENTS} clients", "requests/s", "p50, ms", "p99, ms", "processors of the tool")
    equal, half, storm = content["equal_p99"], content["half"], content["overload"]
    before, during, same = storm["before"], storm["during"], content["answers"]
    limits = ", ".join(
        f"{each['rows_per_second']:.0f} ({each['runners']} × {each['threads']}, batch"
        f" {each['batch']})"
        for each in content["alone"]
    )
    bars = ", ".join(
        f"{name} {'met' if met else 'not met'}" for name, met in content["met"].items()
    )
    plural = "s" if len(next(iter(content["rounds"].values()))) > 1 else ""
    return f"""## Serving

{table(header, lines)}

`{content["recipe"]}/{content["version"]}`, texts of its validation rows, one a request; median of
{len(next(iter(content["rounds"].values())))} round{plural}, in turns.

- At MLflow's p99 of {equal["p99"]:.0f} ms bertline answers {equal["answered"]:.0f} requests per
  second: **{equal["ratio"]:.2f} ×**.
- It saturates at {content["saturation"]["answered"]:.0f} per second. At half of that p99 is
  {half["p99"]:.0f} ms ({half["p50"]:.0f} ms in the median).
- At {OVERLOAD:.0f} times that ({storm["sent"]:.0f} requests per second were sent) p99 of those
  answered is {during["p99"]:.0f} ms ({content["saturation"]["p99"]:.0f} ms at saturation,
  {before["p99"]:.0f} ms before), {during["answered"]:.0f} per second are answered,
  {during["refused"]:.0%} get 429, {during["failed"]} fail; {storm["seconds_until_calm"]:.1f} s
  after the end it is itself again. The tool kept {storm["tool"]:.2f} processors busy.
- The model alone, in process, answers so many rows per second (runners × threads): {limits}.
- Answers of both to {same["texts"]} texts, one at a time: {same["labels_differ"]} labels differ,
  scores by {same["largest_difference"]:.1e} at most.

Bars: {bars}. {others_text([content["others_share"]])}

{machine_text(Machine.model_validate(content["machine"]))}
"""


if __name__ == "__main__":
    sys.exit(main())
