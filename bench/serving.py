"""Benchmark of `bertline serve` against `mlflow models serve`, with load from locust.

    python bench/serving.py
    python bench/serving.py --recipe banking77 --home .bertline/results/banking77
    python bench/serving.py --rounds 1 --seconds 5 --out /tmp/bench    # a quick look

Both servers serve the same version of the registry in `--home` and get the same requests: a POST to
/invocations with one text of the recipe's validation rows. Each runs alone on the machine with the
load tool, on all cores. Writes serving-RECIPE.json and .md. bench/README.md defines the numbers.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from report import RESULTS, ROOT, machine_text, others_text, table, write
from serving_answers import compare, model_rates
from serving_load import WARM, Load, Server, Tool, requests_of, shown, summary

from pipeline.core.records import Machine
from pipeline.registry.versions import Registry
from pipeline.stages.artifacts import kept_rows, texts_of
from pipeline.stages.benchmark.machine import this_machine

CLIENTS = 32
SHORTEST = 5.0  # seconds of a load
FASTER = 3.0  # bar: times the requests per second of MLflow
HALF_P99 = 60.0  # bar: milliseconds at half of the saturation
CALM = 2.0  # bar: seconds from the end of an overload to normal responses
OVERLOAD = 5.0  # times the saturation
KEPT = 1.1  # bar: p99 in the overload, as a multiple of p99 at saturation
STEP = 1.2  # factor between two rising loads
MOST_REFUSED = 0.001  # share of refused requests up to which a load counts as answered
NEAR = 0.9  # share of the highest rate of answers from which a server counts as saturated
SATURATED = 0.2  # share of unanswered requests above which rates stop rising
WINDOW = 0.5  # seconds in which responses are checked after an overload
PERIOD = 0.5  # mean seconds between two requests of one client at a fixed rate


def side_by_side(
    tool: Tool, servers: Sequence[Server], rounds: int, seconds: float
) -> dict[str, list[Load]]:
    """Measure both servers in turns with the same number of clients."""
    found: dict[str, list[Load]] = {server.name: [] for server in servers}
    for number in range(rounds):
        for server in servers if number % 2 == 0 else reversed(servers):
            with server.running():
                tool.run(server, 3, CLIENTS)  # warm up
                found[server.name].append(tool.run(server, seconds, CLIENTS))
    return found


def more_clients(tool: Tool, server: Server, seconds: float, p99: float) -> list[Load]:
    """Increase the number of clients until p99 exceeds the given one or requests are refused."""
    clients, found = CLIENTS, []
    while True:
        load = tool.run(server, seconds, clients)
        found.append(load)
        if load.p99 > p99 or load.refused > MOST_REFUSED:
            return found
        clients = round(clients * STEP)


def sweep(tool: Tool, server: Server, seconds: float, first: float) -> list[Load]:
    """Increase the rate of requests until the server leaves too many unanswered."""
    rate, found = first, []
    while True:
        load = tool.run(server, seconds, clients_for(rate), rate)
        found.append(load)
        if load.refused > SATURATED or load.answered < (1 - SATURATED) * rate:
            return found
        rate *= STEP


def clients_for(rate: float) -> int:
    return max(CLIENTS, round(rate * PERIOD))


def at_equal_p99(loads: Sequence[Load], p99: float) -> float:
    """Return the most answers per second without refusals and with p99 up to the given one."""
    fit = [x for x in loads if x.p99 <= p99 and x.refused <= MOST_REFUSED and x.failed == 0]
    return max((load.answered for load in fit), default=0.0)


def at_saturation(loads: Sequence[Load]) -> tuple[float, float]:
    """Return the most answers per second, and the median p99 of all loads that came near it.

    The p99 of the best load alone would be that of the machine's best moment.
    """
    most = max(load.answered for load in loads)
    return most, median(load.p99 for load in loads if load.answered >= NEAR * most)


def overload(tool: Tool, server: Server, saturation: float, seconds: float) -> dict[str, Any]:
    """Send half of the saturation all the time, and in between for `seconds` an overload."""
    around, half = 10.0, saturation / 2
    rate = saturation * OVERLOAD - half
    calm, calm_out = tool.start(server, seconds + 3 * around, clients_for(half), half)
    time.sleep(around)
    storm, storm_out = tool.start(server, seconds, clients_for(rate), rate)
    storm.wait()
    calm.wait()
    steady = json.loads(calm_out.read_text())
    stormy = json.loads(storm_out.read_text())
    requests = np.concatenate([requests_of(steady), requests_of(stormy)])
    begin, end = (float(time) for time in np.quantile(requests_of(stormy)[:, 0], [0, 1]))
    before = summary(requests, begin - around + WARM + 2, begin - 0.5, clients_for(half), half)
    during = summary(requests, begin + WARM, end, clients_for(rate), saturation * OVERLOAD)
    until = seconds_until_calm(requests_of(steady), end, around, before.p99)
    spent = (steady["cpu"] + stormy["cpu"]) / (seconds + 3 * around)
    sent = len(requests_of(stormy)) / (end - begin) + half
    print(f"  before {shown(before)}\n  during {shown(during)}", flush=True)
    return {
        "before": asdict(before),
        "during": asdict(during),
        "tool": round(spent, 3),
        "sent": round(sent, 1),
        "seconds_until_calm": until,
    }


def seconds_until_calm(requests: Any, end: float, seconds: float, usual: float) -> float:
    """Return the seconds from the end of an overload to the end of the last half second with a
    refused request, or with a median latency above `usual`."""
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
    args = parser.parse_args()
    if args.rounds < 1 or min(args.seconds, args.storm) < SHORTEST:
        parser.error(f"--rounds must be 1 or more, --seconds and --storm {SHORTEST:.0f}")
    with TemporaryDirectory(prefix="bench-") as folder:
        content = measure(args, Path(folder))
    write(args.out, f"serving-{args.recipe}", content, markdown(content))
    return 0


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Measure both servers. Returns the content of serving-RECIPE.json."""
    home = args.home.resolve()
    tracking = f"sqlite:///{home / 'mlflow.db'}"
    registry = Registry(tracking)
    number = registry.champion(args.recipe)
    if number is None:
        raise SystemExit(f"error: {home} has no champion of {args.recipe}: bertline run it there")
    files = registry.folder(args.recipe, number)
    texts = texts_of(kept_rows(home / "data" / args.recipe / "validate", "validation"))
    rows = [{"text": text, "second": second} if second else text for text, second in texts]
    tool = Tool(folder, [json.dumps({"inputs": [row]}) for row in rows])
    model_serve = ["mlflow", "models", "serve", "-m", str(files), "--env-manager", "local"]
    own_serve = ["flows.cli", "serve", args.recipe]
    mlflow = Server("mlflow models serve", model_serve, "/ping", folder / "mlflow", tracking)
    own = Server("bertline serve", own_serve, "/readyz", folder / "own", tracking)

    busy = others()
    print(f"{args.recipe}/{number}, {len(texts)} texts: the model alone", flush=True)
    limit = model_rates(files, texts)
    print("the answers of both", flush=True)
    same = compare([mlflow, own], rows)
    print(f"{CLIENTS} clients", flush=True)
    rounds = side_by_side(tool, [mlflow, own], args.rounds, args.seconds)
    found = at_other_loads(tool, own, rounds[own.name], rounds[mlflow.name], args)
    machine = this_machine()
    machine.versions.update({name: version(name) for name in ("mlflow", "uvicorn", "locust")})
    return {
        "recipe": args.recipe,
        "version": number,
        "clients": CLIENTS,
        "alone": limit,
        "answers": same,
        "rounds": {name: [asdict(load) for load in loads] for name, loads in rounds.items()},
        **found,
        "met": met(found, median(load.answered for load in rounds[mlflow.name]), same),
        "others_share": round(max(busy, others()), 3),
        "machine": machine.model_dump(),
    }


def at_other_loads(
    tool: Tool, own: Server, ours: Sequence[Load], theirs: Sequence[Load], args: argparse.Namespace
) -> dict[str, Any]:
    """Measure bertline with more clients, rising rates, half of its saturation and an overload.

    `ours` and `theirs` are the rounds of bertline and MLflow with the same number of clients.
    """
    p99 = median(load.p99 for load in theirs)
    with own.running():
        tool.run(own, 3, CLIENTS)
        print(f"more clients, up to a p99 of {p99:.0f} ms", flush=True)
        short = max(args.seconds / 2, SHORTEST)
        crowds = more_clients(tool, own, short, p99)
        print("rising rate", flush=True)
        loads = sweep(tool, own, short, median(load.answered for load in ours) / 2)
        equal = at_equal_p99([*loads, *crowds], p99)
        saturation, usual = at_saturation([*ours, *crowds, *loads])
        print("half of its saturation", flush=True)
        half = tool.run(own, args.seconds, clients_for(saturation / 2), saturation / 2)
        print(f"{OVERLOAD:.0f} times its saturation", flush=True)
        storm = overload(tool, own, saturation, args.storm)
    ratio = round(equal / median(load.answered for load in theirs), 3)
    return {
        "equal_p99": {"p99": p99, "answered": equal, "ratio": ratio},
        "more_clients": [asdict(load) for load in crowds],
        "rising_rate": [asdict(load) for load in loads],
        "saturation": {"answered": saturation, "p99": usual},
        "half": asdict(half),
        "overload": storm,
    }


def met(found: dict[str, Any], theirs: float, same: dict[str, Any]) -> dict[str, bool]:
    """Return True for each bar that is met; `theirs` are MLflow's requests per second."""
    storm = found["overload"]
    return {
        "faster": found["equal_p99"]["answered"] >= FASTER * theirs,
        "half": found["half"]["p99"] <= HALF_P99,
        "kept": storm["during"]["p99"] <= KEPT * found["saturation"]["p99"],
        "calm": storm["seconds_until_calm"] <= CALM,
        "same": same["labels_differ"] == 0 and same["max_difference"] <= 1e-6,
    }


def others() -> float:
    """Return the processor share of other programs, while no process of ours runs."""
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
  scores by {same["max_difference"]:.1e} at most.

Bars: {bars}. {others_text([content["others_share"]])}

{machine_text(Machine.model_validate(content["machine"]))}
"""


if __name__ == "__main__":
    sys.exit(main())
