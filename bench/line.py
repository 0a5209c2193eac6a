"""Benchmark of the overhead of `bertline run` over its stages alone.

    python bench/line.py
    python bench/line.py --rounds 3

The same result is computed in two ways, each in a fresh copy of this repository (its files, without
those that git ignores), with its own empty MLflow, DVC cache and Prefect folder:

- the line: `bertline run RECIPE`, every stage a Prefect task that calls DVC;
- the stages: `python -m pipeline STAGE RECIPE` one after the other.

The line's time is from Prefect's "Beginning flow run" to the end of its task `publish`, measured by
the arrival of these log lines. It includes DVC's status, every `dvc repro` and Prefect's tasks, but
not the start of Prefect's temporary server, the gate and the summary; these are in the time of the
whole command, which is reported too. The stages' time is the sum over their processes, from start
to exit. The bar: the line takes at most 1.15 times as long as its stages. Writes line.json and
line.md.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from report import RESULTS, ROOT, Others, machine_text, others_text, table, write

from pipeline.core.records import Machine
from pipeline.core.workspace import ORDER
from pipeline.stages.benchmark.machine import this_machine

BAR = 1.15
BEGAN = "Beginning flow run"
FINISHED = re.compile(r"Task run '(\w+)' - Finished in state Completed")
HEAVY = "torch, transformers, datasets, mlflow, onnxruntime, great_expectations, prefect, dvc.repo"


@dataclass(frozen=True)
class LineTimes:
    whole: float
    """Seconds of the whole command."""
    stages: dict[str, float]
    """Seconds of each stage, from the end of the one before; the first includes DVC's status."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--recipe", default="news", help="a block of params.yaml (news)")
    parser.add_argument("--rounds", type=int, default=1, help="times that each way is taken (1)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be 1 or more")
    with TemporaryDirectory(prefix="bench-") as folder:
        content = compare(args.recipe, args.rounds, Path(folder))
    write(args.out, "line", content, markdown(content))
    return 0


def compare(recipe: str, rounds: int, home: Path) -> dict[str, Any]:
    """Measure both ways in turns. Returns the content of line.json."""
    tree = home / "tree"
    copy_repository(tree)
    print("loading the libraries once, so that both ways read them from a warm cache", flush=True)
    subprocess.run([sys.executable, "-c", f"import {HEAVY}"], check=True, capture_output=True)
    found = []
    lock = home / "dvc.lock"
    for number in range(1, rounds + 1):
        # `publish` reads the lineage from a dvc.lock, which only the line writes
        ways = ("line", "stages") if number % 2 else ("stages", "line")
        shares = {}
        for way in ways:
            print(f"round {number} of {rounds}: the {way} of {recipe}", flush=True)
            folder = home / way
            shutil.copytree(tree, folder)
            others = Others()
            if way == "line":
                line = run_line(folder, recipe)
                shutil.copyfile(folder / "dvc.lock", lock)
            else:
                shutil.copyfile(lock, folder / "dvc.lock")
                stages = run_stages(folder, recipe)
            shares[way] = others.share()
            print(f"  others' share of the processors {shares[way]:.0%}", flush=True)
            shutil.rmtree(folder)
        found.append(_round(line, stages, shares))
        print(f"round {number} of {rounds}: ratio {found[-1]['ratio']:.3f}", flush=True)
    ratio = median(each["ratio"] for each in found)
    return {
        "recipe": recipe,
        "bar": BAR,
        "ratio": ratio,
        "met": ratio <= BAR,
        "rounds": found,
        "machine": this_machine().model_dump(),
    }


def copy_repository(into: Path) -> None:
    """Copy all files that git does not ignore, but dvc.lock, to a new repository."""
    command = ["git", "ls-files", "-coz", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in sorted({*listed.split("\0")} - {"", "dvc.lock"}):
        if (ROOT / name).is_file():
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, into / name)
    subprocess.run(["git", "init", "-q"], cwd=into, check=True)  # DVC needs a git repository


def run_line(folder: Path, recipe: str) -> LineTimes:
    """Run `bertline run`, timed by the lines that Prefect logs."""
    started = time.perf_counter()
    last = None
    stages: dict[str, float] = {}
    tail: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", recipe],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        for text in process.stdout or ():
            now = time.perf_counter()
            tail.append(text)
            if BEGAN in text:
                last = now
                print(f"  server up after {now - started:.1f} s", flush=True)
            elif last and (found := FINISHED.search(text)) and found[1] in ORDER:
                stages[found[1]] = now - last
                last = now
                print(f"  {found[1]} {stages[found[1]]:.1f} s", flush=True)
    whole = time.perf_counter() - started
    if process.returncode != 0 or list(stages) != list(ORDER):
        raise SystemExit(f"error: bertline run {recipe} failed:\n{''.join(tail)}")
    print(f"  whole command {whole:.1f} s", flush=True)
    return LineTimes(whole, stages)


def run_stages(folder: Path, recipe: str) -> dict[str, float]:
    """Run every stage in its own process, without Prefect and DVC. Returns the seconds of each."""
    seconds = {}
    for stage in ORDER:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", stage, recipe],
            cwd=folder,
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds[stage] = time.perf_counter() - started
        if done.returncode != 0:
            raise SystemExit(f"error: {stage} of {recipe} failed:\n{done.stdout[-2000:]}")
        print(f"  {stage} {seconds[stage]:.1f} s", flush=True)
    return seconds


def environment(folder: Path) -> dict[str, str]:
    """Return an environment without servers, shared caches and settings of the user."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_"))}
    own = folder / ".bertline" / "bench"  # ignored by git and DVC
    (own / "prefect").mkdir(parents=True, exist_ok=True)  # Prefect does not create parent folders
    return kept | {
        "PREFECT_HOME": str(own / "prefect"),
        "PREFECT_LOGGING_LEVEL": "INFO",
        "DVC_GLOBAL_CONFIG_DIR": str(own / "dvc"),
        "DVC_SYSTEM_CONFIG_DIR": str(own / "dvc"),
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def markdown(content: dict[str, Any]) -> str:
    rounds = content["rounds"]
    rows = [
        _row(stage, *(median(each[way][stage] for each in rounds) for way in ("own", "in_line")))
        for stage in ORDER
    ]
    own, line, whole = (
        median(each[name] for each in rounds) for name in ("stages", "line", "whole_command")
    )
    rows.append(_row("all", own, line))
    ratios = [each["ratio"] for each in rounds]
    span = f" ({min(ratios):.3f}–{max(ratios):.3f})" if len(ratios) > 1 else ""
    shares = [share for each in rounds for share in each["others_share"].values()]
    verdict = "met" if content["met"] else "not met"
    plural = "s" if len(rounds) > 1 else ""
    return f"""## What the line costs

{table(("stage", "own process, s", "in the line, s", "difference, s"), rows)}

Recipe `{content["recipe"]}`: the line takes **{content["ratio"]:.3f} ×** the time of its
stages{span}; the bar, {content["bar"]} ×, is {verdict}. Median of {len(rounds)} round{plural}.
Counted: from Prefect's "Beginning flow run" to the end of `publish`, DVC's status and its `repro`
of every stage included. Not counted: loading Prefect, the start of its temporary server with an
empty database, the gate and the summary; with these the whole command takes {whole:.1f} s,
{whole - line:.1f} s more. {others_text(shares)}

{machine_text(Machine.model_validate(content["machine"]))}
"""


def _round(line: LineTimes, stages: dict[str, float], shares: dict[str, float]) -> dict[str, Any]:
    in_line, own = sum(line.stages.values()), sum(stages.values())
    return {
        "whole_command": round(line.whole, 2),
        "line": round(in_line, 2),
        "stages": round(own, 2),
        "ratio": round(in_line / own, 4),
        "in_line": {name: round(seconds, 2) for name, seconds in line.stages.items()},
        "own": {name: round(seconds, 2) for name, seconds in stages.items()},
        "others_share": {way: round(share, 3) for way, share in shares.items()},
    }


def _row(name: str, own: float, line: float) -> tuple[str, ...]:
    return name, f"{own:.1f}", f"{line:.1f}", f"{line - own:+.1f}"


if __name__ == "__main__":
    sys.exit(main())
