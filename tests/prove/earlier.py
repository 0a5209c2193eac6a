"""A folder that the code of an earlier commit has made and lived in, and what that code said of it.

Whoever upgrades has such a folder. That commit's code builds it, in processes of its own: nothing
of today's is loaded for it, but the toy base and the means to call a command. `upgrade` then puts
today's code in the place of the old, in the same folder, for MLflow keeps the paths of its files.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Workspace, copy_code

EARLIER = "607636c56bd9ec7872dbeed489d461f231b2232c"
CODE = ("pipeline", "flows", "dvc.yaml", "constraints.txt", ".dvcignore", ".gitignore", "README.md")
DATA = ("data/behaviour", "data/labels")
MODULE = "flows.cli"  # the earlier command, as `python -m` names it
TASKS = (  # besides classification, which `toy` has
    "masked_words",
    "multilabel",
    "ner",
    "pair",
    "pair_score",
    "pretraining",
    "question_answering",
    "ranking",
    "regression",
    "retrieval",
    "translation",
)
RECIPES = ("toy", *TASKS)
VERSIONS = ("toy/1", "toy/2", "toy/3", "toy/4")
PREVIOUS, REJECTED, CHAMPION, SCHEDULED = VERSIONS
UPGRADE: tuple[tuple[str, ...], ...] = (("migrate",),)
"""Arguments of the commands that bring what the earlier code wrote to today's form."""

SUITE = """
about: A test that every version passes, and two of which it fails one at least.
tests:
  - {name: spaces, kind: invariance, texts: [a goal of the team], change: {spaces: 2}}
  - {name: right, kind: minimum functionality, texts: {sport: [goal match league coach team]}}
  - {name: wrong, kind: minimum functionality, texts: {money: [goal match league coach team]}}
"""
GUARDED = {
    "worst_class": 1.0,
    "slices": 1.0,
    "calibration": 1.0,
    "flips": 1.0,
    "behaviour": 0.9,
    "quarantined_percent": 10,
    "megabytes": 100,
}
"""Guardrails of `toy`: all but latency, each within its limit."""

MAKE = """
import json, sys
from pathlib import Path
from random import Random

from dvc.repo import Repo
from flows.cli import main
from pipeline import __main__ as door
from pipeline import tasks
from pipeline.config import read_recipes
from pipeline.stages import ORDER, benchmark
from tests.conftest import make_rows, toy_block, write_csv, write_params
from tests.pipeline.tasks.test_contract import Here, block_of
from tests.pipeline.tasks.toys import TOYS

ROWS, SHOWN = 120, 4
TWICE = 3  # rows of toy, for the gate to see that some are set aside

def recipe(name):
    source = Path(f"data/raw/{name}.csv")
    rows = make_rows(300) if name == "toy" else TOYS[name](ROWS, Random(3))
    write_csv(source, rows + rows[-TWICE:] if name == "toy" else rows)
    if name != "toy":
        block, task = block_of(name, "base", source), tasks.get(name)
    else:
        block, task = toy_block("base", str(source)), tasks.get("classification")
        block["finetune"].update({"epochs": 1, "learning_rate": 1e-4})
        block["benchmark"].update({"batches": [1], "seconds": 0.01})
        block["benchmark"].update({"largest_drop": 1.0, "largest_flips": 1.0})
        block["gate"]["floors"] = {"accuracy": 0.1}
        block["gate"]["rails"].update(json.loads(sys.argv[2]))
        block["evaluate"]["behaviour"] = ["data/behaviour/toy.yaml"]
        block["retrain"]["fewest_new_rows"] = 1
    block["gate"]["fewest_rows"] = 5
    columns = ("text", "second") if task.two_texts else ("text",)
    return block, [row[column] for row in rows[-SHOWN:] for column in columns]

def run(stages):
    for name in blocks:
        for stage in stages:
            door.run(stage, name)
    with Repo() as repo, repo.lock:  # as `dvc commit -f`, which reads dvc.yaml for each stage
        named = [f"{stage}@{name}" for name in blocks for stage in stages]
        ran = [stage for stage in repo.index.stages if stage.name in named]
        for stage in ran:
            stage.save()
            stage.commit()
        ran[0].dvcfile.dump_stages(ran, update_pipeline=False)

wanted = sys.argv[3:]
assert wanted == ["toy"] or sorted(wanted) == sorted(TOYS.keys() - {"classification"})
made = {name: recipe(name) for name in wanted}
blocks = {name: block for name, (block, _) in made.items()}
params = Path("params.yaml")
write_params(params, (read_recipes() if params.exists() else {}) | blocks)
# a process of its own for each runtime takes seconds, as in the test of the tasks
benchmark.ProcessPoolExecutor = Here
run(ORDER[:-1])
run(ORDER[-1:])
assert [main(["promote", name]) for name in blocks] == [0] * len(blocks)
Path(sys.argv[1]).write_text(json.dumps({name: texts for name, (_, texts) in made.items()}))
"""
"""The first version of each recipe that is named, by the stages' own door, in one process: it loads
PyTorch once, and reads dvc.yaml twice. It writes down some texts of each."""

SEND_BACK = """
import sys
from pathlib import Path

import pandas as pd

from pipeline.serving.feedback import Store
from tests.conftest import make_rows

rows = pd.read_parquet("data/toy/ingest/rows.parquet")
learned = rows[rows["split"] == "train"].iloc[0]
other = next(label for label in sorted(set(rows["label"])) if label != learned["label"])
store = Store(Path("data/feedback"), "toy")

def send(text, label, consent, score):
    return store.add(sys.argv[2], "a request", text, "", label, consent, "film", score)

ids = [learned["id"]]
for place, row in enumerate(make_rows(5, seed=99)):
    ids.append(send(row["text"], row["label"], True, 0.5 + place / 100))
send("said without consent", "sport", False, 0.9)
send(learned["text"], other, True, 0.2)
Path(sys.argv[1]).write_text("\\n".join(ids[:2]) + "\\n")
"""
"""Feedback sent to the server, one record against a row's label, and ids of two texts to forget."""

ASK = """
import contextlib, io, json, runpy, sys, traceback

told = []
for arguments in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["bertline", *arguments]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_module(sys.orig_argv[-1], run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code or 0
        except Exception:  # as the interpreter ends: a stack trace and 1, then the next command
            traceback.print_exc()
            code = 1
    told.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
json.dump(told, sys.stdout)
"""
"""The command, called again and again in one process, as `python -m` calls it."""


@dataclass(frozen=True)
class Said:
    """Result of a command."""

    code: int
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """Lines of standard output, parsed as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]


class Lived(Workspace):
    """A workspace that another commit's code has made: `tree` is its checkout, tests and all."""

    def __init__(self, folder: Path, base: Path, tree: Path) -> None:
        self.folder, self.tree = folder, tree
        self.variables = {"PREFECT_HOME": str(folder.parent / "prefect")}
        self.bertline = (sys.executable, "-m", MODULE)
        for name in (*CODE, *DATA):
            _copy(tree / name, folder / name)
        shutil.copytree(base, folder / "base")
        (folder / "data" / "behaviour" / "toy.yaml").write_text(SUITE)
        self.call("git", "init", "-q")
        self.call("git", "config", "user.email", "toy@example.org")
        self.call("git", "config", "user.name", "toy")
        self.call(*self.dvc, "init", "-q")

    def script(self, text: str, *arguments: str) -> None:
        """Run a script that finds the earlier tests beside the code of this folder."""
        path = os.pathsep.join([str(self.folder), str(self.tree)])
        before, self.variables = self.variables, self.variables | {"PYTHONPATH": path}
        self.call(sys.executable, "-c", text, *arguments)
        self.variables = before

    def commit(self, why: str) -> None:
        self.call("git", "add", "-A")
        self.call("git", "commit", "-qm", why)

    def change(self, **sections: Mapping[str, Any]) -> None:
        """Set values of the recipe `toy`, by section."""
        from ruamel.yaml import YAML

        path, yaml = self.folder / "params.yaml", YAML()
        content = yaml.load(path)
        for name, values in sections.items():
            content["recipes"]["toy"][name].update(values)
        yaml.dump(content, path)

    def ask(self, questions: Mapping[str, Sequence[str]]) -> dict[str, Said]:
        """Run each command and return its result; cached answers are not used."""
        shutil.rmtree(self.folder / ".bertline" / "answers", ignore_errors=True)
        given = json.dumps(list(questions.values()))
        done = self.call(sys.executable, "-c", ASK, self.bertline[-1], input=given)
        told = [Said(**each) for each in json.loads(done.stdout)]
        return dict(zip(questions, told, strict=True))

    def head(self) -> str:
        return self.call("git", "rev-parse", "HEAD").stdout.strip()


@dataclass(frozen=True)
class Earlier:
    """A folder as the earlier code left it."""

    work: Lived
    commit: str
    """The folder's last of the earlier code."""
    questions: dict[str, list[str]]
    """Arguments of the command, by a name."""
    said: dict[str, Said]
    """Results of the earlier code, under the names of the commands."""
    key: str
    """Checkpoint folder of the killed training."""
    step: int
    """Step of its last complete checkpoint."""


def build(folder: Path, base: Path) -> Earlier:
    """Build the folder, and ask its own code. Skips where the commit is not in this clone."""
    work = Lived(folder / "work", base, checkout(folder / "tree"))
    timed, ids = _Timed(), folder / "ids.txt"
    texts = _made(work, "toy")
    timed(PREVIOUS)
    _second(work)
    _third(work)
    timed(f"{REJECTED} and {CHAMPION}")
    work.script(SEND_BACK, str(ids), CHAMPION)
    work.call(*work.bertline, "labels", "toy", "--most", "2")
    _fourth(work)
    timed(f"feedback, labels and {SCHEDULED}")
    texts |= _made(work, *TASKS)  # last: DVC is the slower the more recipes there are
    timed("a version of each other task")
    key, step = _killed(work)
    work.commit("as the earlier code left it")
    timed("a killed training")
    questions = _questions(texts, ids)
    said = work.ask(questions)
    assert not [name for name in questions if "Traceback" in said[name].err]
    timed(f"{len(questions)} questions")
    assert len(json.loads(said[f"judge {CHAMPION} --json"].out)["rails"]) == len(GUARDED)
    return Earlier(work, work.head(), questions, said, key, step)


def upgrade(work: Lived) -> None:
    """Put today's code in the place of the earlier, on top of the folder's history."""
    for name in CODE:
        path = work.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    copy_code(work.folder)
    work.bertline = Workspace.bertline
    for command in UPGRADE:
        work.call(*work.bertline, *command)
    work.call("git", "add", "-A")
    work.call("git", "commit", "-q", "--allow-empty", "-m", "today's code")


def checkout(folder: Path) -> Path:
    """The earlier commit's files, from this project's own history."""
    folder.mkdir(parents=True)
    archive = folder.with_suffix(".tar")
    done = subprocess.run(
        ["git", "archive", "--output", str(archive), EARLIER],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"commit {EARLIER[:7]} is not in this clone: {done.stderr.strip()[:200]}")
    shutil.unpack_archive(archive, folder, filter="data")
    return folder


def _made(work: Lived, *recipes: str) -> dict[str, list[str]]:
    """Make and promote the first version of recipes: some texts of each, to ask it about."""
    texts = work.folder.with_name("texts.json")
    work.script(MAKE, str(texts), json.dumps(GUARDED), *recipes)
    work.commit(f"a version of {', '.join(recipes)}")
    found: dict[str, list[str]] = json.loads(texts.read_text())
    return found


def _second(work: Lived) -> None:
    """A version that is too bad."""
    work.change(finetune={"epochs": 1, "learning_rate": 1e-5}, gate={"floors": {"accuracy": 0.9}})
    told = work.call(*work.bertline, "run", "toy").stdout
    assert f"verdict on {REJECTED}: reject: " in told, told
    work.commit(REJECTED)


def _third(work: Lived) -> None:
    """A version that is better, and that a person has to agree to."""
    work.change(
        finetune={"epochs": 4, "learning_rate": 1e-2},
        gate={"floors": {"accuracy": 0.1}, "approve": True},
    )
    told = work.call(*work.bertline, "run", "toy").stdout
    assert f"bertline promote {CHAMPION} --reason TEXT" in told, told
    work.call(*work.bertline, "promote", CHAMPION, "--reason", "looked at and agreed to")
    work.commit(CHAMPION)


def _fourth(work: Lived) -> None:
    """A version that a scheduled run made, put into use against the gate, and taken out again."""
    work.change(finetune={"seed": 5})
    work.commit("another seed, and labels")
    told = work.call(*work.bertline, "retrain", "toy").stdout
    assert f"{SCHEDULED}: " in told, told
    work.call(*work.bertline, "promote", SCHEDULED, "--override", "--reason", "a trial")
    work.call(*work.bertline, "rollback", "toy", "--reason", "the trial is over")


def _killed(work: Lived) -> tuple[str, int]:
    """Kill a training once it has a whole checkpoint: its key, and that checkpoint's step."""
    work.change(finetune={"epochs": 12, "learning_rate": 1e-3, "patience": 12})
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "finetune", "toy"],
        cwd=work.folder,
        env=work.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    sealed = work.folder / ".bertline" / "state" / "toy"
    try:
        _until(lambda: list(sealed.glob("*/checkpoint-*/whole.json")), process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = max(sealed.glob("*/checkpoint-*/whole.json"), key=_step)
    return last.parent.parent.name, _step(last)


def _step(sealed: Path) -> int:
    return int(sealed.parent.name.partition("-")[2])


def _until(true: Callable[[], object], process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 300
    while not true():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)


def _questions(texts: Mapping[str, Sequence[str]], ids: Path) -> dict[str, list[str]]:
    """Commands to run, in this order: none changes the result of a later one."""
    asked = {f"predict {name}": ["predict", name, *texts[name], "--json"] for name in RECIPES}
    for plain in ("report toy", "check toy", "fsck", "gc", "gc --keep 0", "labels toy --dry-run"):
        asked[plain] = plain.split()
    asked["forget toy"] = ["forget", "toy", "--ids", str(ids), "--dry-run"]
    named = (*VERSIONS, "toy@champion", *TASKS)
    for plain in (
        *(f"explain {version}" for version in named),
        *(f"history {name}" for name in RECIPES),
        *(f"judge {version}" for version in named),
        *(f"judge {version} --json" for version in named),
    ):
        asked[plain] = plain.split()
    return asked


class _Timed:
    """Tells how long each part of the building took."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, what: str) -> None:
        now = time.monotonic()
        print(f"{now - self.last:5.0f} s  {what}", flush=True)
        self.last = now


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
