"""Results of the gallery's recipes on real data, for docs/RESULTS.md.

    python bench/results.py                                # all that have no result yet
    python bench/results.py imdb mrpc --data ~/datasets    # a folder for each data set
    python bench/results.py imdb --rows 400                # a quick test; nothing is stored

Each recipe runs as `bertline add` writes it, from ingest to benchmark by `dvc repro`, in a copy of
this repository under .bertline/results. A run that was stopped is resumed, its training from the
last checkpoint. The result is stored in bench/results/gallery/NAME.json, numbers alone, until the
recipe's values change or the file is deleted; results_page.py writes docs/RESULTS.md from these
files.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from line import copy_repository, environment
from report import ROOT
from results_page import KEPT, write_page

from flows.cli.recipes import Ready, check_there, names, ready
from pipeline.core.config import PARAMS_FILE, parse
from pipeline.core.errors import UserError
from pipeline.core.files import write_json, write_text
from pipeline.core.old_names import without_added
from pipeline.core.records import Benchmark, Fit, Intake, Lengths, Scores, Split, Validation
from pipeline.core.workspace import ORDER
from pipeline.sources import Row, read_rows

WORK = ROOT / ".bertline" / "results"
DATASETS = ROOT.parent / "shared" / "datasets"
STAGES = ORDER[: ORDER.index("benchmark") + 1]
Choice = Callable[[Split | None, list[Row]], list[Row]]
CHATTER = ("To track", "\t", "To enable", "Use `dvc", "Updating lock")  # DVC's hints
EVERY = 5.0  # seconds between two writes of a stage's running time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes of the gallery (all)")
    parser.add_argument("--data", type=Path, default=DATASETS, help="holds a folder a data set")
    parser.add_argument("--rows", type=int, help="of each source, for a test; nothing is stored")
    args = parser.parse_args()
    failed = False
    for name in args.names or names():
        try:
            if args.rows:
                look(ready(name), args.data, args.rows)
            else:
                finish(ready(name), args.data)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed = True
    return 2 if failed else 0


def look(recipe: Ready, data: Path, rows: int) -> None:
    """Run a recipe on a few rows; print the result and do not store it."""
    with TemporaryDirectory(prefix="bench-") as folder:
        home = Path(folder)
        block = sampled(recipe, data, home, lambda _, found: found[:rows])
        block["validate"].update({"min_rows": 1, "max_quarantine_percent": 90})
        block["validate"]["rules"]["unknown_label"] = "quarantine"
        block["finetune"]["epochs"] = 1
        block["evaluate"]["behaviour"] = []
        block["benchmark"]["seconds"] = 0.1
        run(home, recipe.name, block)
        print(json.dumps(collected(home, recipe, block), indent=2), flush=True)


def finish(recipe: Ready, data: Path) -> None:
    """Run a recipe unless it has a result for its current values, and write the page."""
    result, block = KEPT / f"{recipe.name}.json", recipe.placed()
    folder = data / recipe.folder
    if result.exists() and json.loads(result.read_text())["digest"] == digest(block):
        print(f"{recipe.name}: has a result; delete {result} to run it again", flush=True)
    else:
        home = prepared(WORK / recipe.name, recipe, folder)
        if before := pretrained_by(block):
            link(home, before, data)
        run(home, recipe.name, block)
        write_json(result, collected(home, recipe, block))
        print(f"{recipe.name}: {result}", flush=True)
    write_page()


def digest(block: Mapping[str, Any]) -> str:
    """Hash a recipe's values and those of the recipe whose weights it starts from, as hex.

    Keys that were added later count only if they change something.
    """
    if before := pretrained_by(block):
        block = {**block, before: without_added(ready(before).placed())}
    block = without_added(block)
    return hashlib.sha256(json.dumps(block, sort_keys=True, default=str).encode()).hexdigest()


# running


def prepared(home: Path, recipe: Ready, folder: Path) -> Path:
    """Copy this repository to `home`, with a link to the recipe's data. Returns `home`."""
    check_there(recipe, recipe.placed(str(folder)))
    copy_repository(home)
    place = home / "data" / "raw" / recipe.folder
    if folder.is_dir() and not place.is_symlink():
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(folder.resolve())
    return home


def pretrained_by(block: Mapping[str, Any]) -> str | None:
    """Return the recipe whose weights a block starts from, or None."""
    folder, *rest = Path(block["base"]["model"]).parts
    return rest[0] if folder == "data" else None


def link(home: Path, name: str, data: Path) -> Path:
    """Link the outputs of another recipe into a copy of this repository, and train it first if need
    be. Returns the folder of its weights."""
    recipe = ready(name)
    other = prepared(WORK / name, recipe, data / recipe.folder)
    run(other, name, recipe.placed(), STAGES[: STAGES.index("finetune") + 1])
    place = home / "data" / name
    if not place.is_symlink():
        place.symlink_to((other / "data" / name).resolve())
    return other / "data" / name / "finetune" / "model"


def run(home: Path, name: str, block: Mapping[str, Any], stages: Sequence[str] = STAGES) -> None:
    """Run the stages that are not up to date; their times go to home/.bertline/seconds.json."""
    write_json(home / PARAMS_FILE, {"recipes": {name: block}})  # JSON is YAML
    clock = Clock(home / ".bertline" / "seconds.json")
    for stage in stages:
        with subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", "--single-item", f"{stage}@{name}"],
            cwd=home,
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            last = ""
            for line in clock.watched(stage, process.stdout or ()):
                if line.strip() and not line.startswith(CHATTER):
                    print(f"  {name}: {line.rstrip()}", flush=True)
                last = line.strip() if "error" in line.lower() else last
        if process.returncode:
            raise UserError(f"{stage} of {name} failed: {last or 'see the lines above'}")
        clock.done(stage)


class Clock:
    """Running time of each stage in seconds, over all attempts since it was last finished."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seconds: dict[str, float] = {}
        self.finished: list[str] = []
        if file.exists():
            content = json.loads(file.read_text())
            self.seconds, self.finished = content["seconds"], content["finished"]

    def watched(self, stage: str, lines: Iterable[str]) -> Iterator[str]:
        """Yield the lines of a stage, and measure its time from DVC's line that it runs."""
        started: float | None = None
        noted = before = 0.0
        for line in lines:
            now = time.monotonic()
            if line.startswith("Running stage"):
                before = 0.0 if stage in self.finished else self.seconds.get(stage, 0.0)
                self.finished = [name for name in self.finished if name != stage]
                started = noted = now
            if started is not None:
                self.seconds[stage] = before + now - started
                if now - noted >= EVERY:
                    noted = now
                    self._write()
            yield line
        if started is not None:
            self.seconds[stage] = before + time.monotonic() - started
            self._write()

    def done(self, stage: str) -> None:
        self.finished = sorted({*self.finished, stage})
        self._write()

    def _write(self) -> None:
        write_json(self.file, {"seconds": self.seconds, "finished": self.finished})


def sampled(recipe: Ready, data: Path, home: Path, choose: Choice) -> dict[str, Any]:
    """Write chosen rows of each source as JSON Lines into a copy of this repository, and return the
    recipe's block for them. `choose` gets a split and its rows, ordered by a hash."""
    from pipeline.core.text import position
    from pipeline.stages.ingest.params import IngestParams

    placed = recipe.placed(str((data / recipe.folder).resolve()))
    check_there(recipe, placed)
    copy_repository(home)
    block: dict[str, Any] = json.loads(json.dumps(placed, default=str))
    params = parse(IngestParams, block["ingest"], f"recipes.{recipe.name}.ingest")
    read: dict[Split | None, list[Row]] = {}
    for part in params.parts():
        rows = read_rows(part.source, params.columns(), part.layout)
        read.setdefault(part.split, []).extend(row for row in rows if isinstance(row, Row))
    sources = {}
    for split, found in read.items():
        found.sort(key=lambda row: position(f"{Path(row.file).name} {row.number}"))
        sources[split] = f"data/raw/sample/{split or 'all'}.jsonl"
        lines = (json.dumps(dict(r.fields), ensure_ascii=False) for r in choose(split, found))
        write_text(home / sources[split], "\n".join(lines) + "\n")
    block["watch"] = "data/raw/sample"
    block["ingest"].update({"source": sources.get(None) or sources, "format": None, "header": None})
    block["ingest"]["quotes"] = True
    return block


# collecting


def collected(home: Path, recipe: Ready, block: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored result of a run: its numbers with their names."""
    folder = home / "data" / recipe.name
    intake = Intake.read(folder / "ingest" / "intake.json")
    validation = Validation.read(folder / "validate" / "validation.json")
    lengths = Lengths.read(folder / "tokenize" / "lengths.json")
    fit = Fit.read(folder / "finetune" / "fit.json")
    scores = Scores.read(folder / "evaluate" / "scores.json")
    runtimes = Benchmark.read(folder / "benchmark" / "benchmark.json")
    served = runtimes.candidate(runtimes.picked)
    leaks = ("leak", "near_duplicate")
    return {
        "recipe": recipe.name,
        "task": block["task"],
        "digest": digest(block),
        "command": f"python bench/results.py {recipe.name}",
        "published": intake.by_split,
        "kept": validation.kept_by_split,
        "leaks": sum(validation.quarantined_by_rule.get(rule, 0) for rule in leaks),
        "set_aside": validation.quarantined,
        "max_length": lengths.maximum,
        "long_text": lengths.long_text,
        "base": fit.base,
        "parameters": fit.parameters,
        "trained": fit.trained,
        "epochs": fit.epochs,
        "precision": fit.precision,
        "training_seconds": training_seconds(home),
        "validation": {"metric": fit.best_metric, "value": fit.best_value},
        "scores": {name: each.model_dump() for name, each in scores.test.scores.items()},
        "more": scores.test.more,
        "uncut": uncut(folder, block["task"], scores.labels),
        "baselines": {
            each.name: {name: score.value for name, score in each.scores.items()}
            for each in scores.baselines
        },
        "served": {
            "runtime": served.name,
            "speedup": served.speedup,
            "megabytes": served.bytes / 1e6,
            "scores": served.test,
        },
        "machine": runtimes.machine.model_dump(),
    }


def training_seconds(home: Path) -> int:
    return round(Clock(home / ".bertline" / "seconds.json").seconds["finetune"])


def uncut(folder: Path, task_name: str, classes: Sequence[str]) -> dict[str, Any]:
    """Return the scores over all published test rows whose text has an answer, on which others
    report. A copy that validation set aside has the answer of the copy that was kept."""
    import pandas as pd

    from pipeline import tasks
    from pipeline.metrics import scoring

    rows = pd.read_parquet(folder / "ingest" / "rows.parquet")
    predictions = pd.read_parquet(folder / "evaluate" / "predictions.parquet")
    test = predictions[predictions["split"] == "test"]
    answer = dict(zip(test["id"].map(_of_text), test["answer"], strict=True))
    rows = rows[(rows["split"] == "test") & (rows["label"] != "")]
    rows = rows.assign(answer=rows["id"].map(_of_text).map(answer)).dropna(subset=["answer"])
    task = tasks.get(task_name)
    tallied = scoring.tallies(
        task, rows["label"].tolist(), rows["answer"].tolist(), classes, rows["group"].tolist()
    )
    return {"rows": len(rows), "scores": scoring.metrics(task.measure, tallied)}


def _of_text(identity: str) -> str:
    """Return a row's id without the number of its copy."""
    return identity.partition("-")[0]


if __name__ == "__main__":
    sys.exit(main())
