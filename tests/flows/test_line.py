"""The whole pipeline on a toy recipe, through DVC and through Prefect."""

import json
import shutil
import sys
import time
from copy import copy
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from pipeline.core.config import read_recipe
from pipeline.core.workspace import ORDER
from tests.conftest import Workspace, make_rows, write_params

ALL = [f"{stage}@toy" for stage in ORDER]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Workspace:
    """Workspace in which the pipeline has run once."""
    made = Workspace(tmp_path_factory.mktemp("line") / "work", tiny_base)
    assert made.repro() == ALL
    return made


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_second_repro_runs_nothing(ran: Workspace) -> None:
    assert ran.repro() == []


def test_only_files_that_dvc_knows_are_written(ran: Workspace) -> None:
    """Every file below data/toy is in dvc.lock, alone or in a folder."""
    stages = YAML(typ="safe").load(ran.folder / "dvc.lock")["stages"]
    known = {out["path"] for stage in stages.values() for out in stage["outs"]}
    for path in (ran.folder / "data" / "toy").rglob("*"):
        name = path.relative_to(ran.folder).as_posix()
        if path.is_file() and not name.startswith("data/toy/gate/"):
            assert any(name == k or name.startswith(f"{k}/") for k in known), name


def test_a_readme_a_test_or_a_linter_pin_reruns_nothing(ran: Workspace) -> None:
    for name in ("README.md", "constraints-dev.txt", "tests/test_new.py"):
        path = ran.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.read_text() + "\n" if path.exists() else "ruff==0\n")
    assert ran.repro("--dry") == []


OTHERS = {"names": "ner", "words": "translation"}  # more recipes and their tasks


@pytest.fixture(scope="module")
def three(ran: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Workspace with recipes of three tasks, in which DVC takes all stages for fresh."""
    made = copy(ran)
    made.folder = tmp_path_factory.mktemp("three") / "work"
    shutil.copytree(ran.folder, made.folder)
    params = made.folder / "params.yaml"
    toy = read_recipe("toy", params)
    write_params(params, {"toy": toy, **{name: toy | {"task": t} for name, t in OTHERS.items()}})
    stages = YAML(typ="safe").load(made.folder / "dvc.yaml")["stages"]
    for name in OTHERS:
        for stage in stages.values():
            for kind in ("outs", "metrics", "plots"):
                for out in stage["do"].get(kind, ()):
                    path = next(iter(out)) if isinstance(out, dict) else out
                    file = made.folder / path.replace("${key}", name)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_text("made up")
    made.call(*made.dvc, "commit", "-f", *(f"{s}@{name}" for name in OTHERS for s in ORDER))
    assert stale(made) == {"toy": set(), "names": set(), "words": set()}
    return made


def stale(ran: Workspace) -> dict[str, set[str]]:
    """Return the stages of each recipe that DVC would run again."""
    found: dict[str, set[str]] = {"toy": set(), **{name: set() for name in OTHERS}}
    for target in json.loads(ran.call(*ran.dvc, "status", "--json").stdout):
        stage, _, recipe = target.partition("@")
        found[recipe].add(stage)
    return found


@pytest.mark.parametrize(
    ("name", "recipes", "stages"),
    [
        ("pipeline/tasks/translation/bleu_chrf.py", {"words"}, set(ORDER)),
        ("pipeline/tasks/translation/beam_search.py", {"words"}, set(ORDER)),
        ("pipeline/tasks/ner/baselines.py", {"names"}, set(ORDER)),
        ("pipeline/tasks/ner/bio.py", {"names"}, set(ORDER)),
        ("pipeline/sources/tables.py", None, {"ingest", "publish"}),
        ("pipeline/stages/validate/stage.py", None, {"validate", "publish"}),
        ("pipeline/stages/finetune/trainer.py", None, {"finetune", "publish"}),
        ("pipeline/metrics/scoring.py", None, {"finetune", "evaluate", "benchmark", "publish"}),
        ("pipeline/stages/evaluate/suites/topic.yaml", None, {"evaluate", "publish"}),
        ("pipeline/serving/worker.py", None, set()),
        ("data/behaviour/README.md", None, {"evaluate"}),
        ("data/labels/README.md", None, {"ingest"}),
        ("constraints.txt", None, set(ORDER)),
    ],
)
def test_an_edit_makes_those_stages_stale_that_use_the_file(
    three: Workspace, name: str, recipes: set[str] | None, stages: set[str]
) -> None:
    """`recipes` None stands for all; publish depends on all that the lineage key hashes."""
    path = three.folder / name
    before = path.read_text()
    path.write_text(before + "\n# an edit\n")
    try:
        expected = {r: stages if recipes is None or r in recipes else set() for r in stale(three)}
        assert stale(three) == expected
    finally:
        path.write_text(before)


def test_the_flow_promotes_answers_explains_and_rolls_back(ran: Workspace) -> None:
    first = ran.call(*ran.bertline, "run", "toy")
    assert first.stderr.count("fresh: nothing to do") == len(ORDER)
    assert "verdict on toy/1: promote: no champion yet" in first.stdout
    assert "300 rows read, 300 kept" in first.stdout
    assert "TF-IDF" in first.stdout

    second = ran.call(*ran.bertline, "run", "toy")
    assert second.stderr.count("fresh: nothing to do") == len(ORDER)
    assert "toy/1 is the champion already" in second.stderr

    # ten more rows: the pipeline runs again, and the gate judges the second version
    source = ran.folder / "data" / "raw" / "toy.csv"
    with source.open("a") as file:
        for row in make_rows(310)[300:]:
            file.write(f"{row['text']},{row['label']}\n")
    third = ran.call(*ran.bertline, "run", "toy")
    assert "verdict on toy/2: " in third.stdout
    assert "310 rows read" in third.stdout

    code = (
        "import sys; from flows.cli.main import main\n"
        "assert main(['predict', 'toy', 'goal match striker', 'bank shares profit']) == 0\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    answer = ran.call(ran.bertline[0], "-c", code).stdout
    assert [line.split("\t")[0] for line in answer.splitlines()] == ["sport", "money"]
    told = ran.call(*ran.bertline, "explain", "toy/1").stdout
    assert "promote toy/1: no champion yet" in told
    assert "finetune.learning_rate: 0.01" in told
    assert "files served, each as it was registered" in told
    none = ran.call(*ran.bertline, "rollback", "toy", code=2)
    assert "has no predecessor" in none.stderr

    # an override needs a reason; a manual change in MLflow is recorded
    silent = ran.call(*ran.bertline, "promote", "toy/2", "--override", code=2)
    assert "give a reason" in silent.stderr
    reason = ("--override", "--reason", "a trial")
    forced = ran.call(*ran.bertline, "promote", "toy/2", *reason)
    assert "toy/2 is the champion by override" in forced.stdout
    move = "import sys; from pipeline.registry.versions import Registry as R; "
    move += "R('sqlite:///mlflow.db').move('toy', '1')"
    ran.call(ran.bertline[0], "-c", move)
    history = ran.call(*ran.bertline, "history", "toy").stdout.splitlines()
    assert history[0] == "toy: toy/1 is in use"
    assert [line.split()[0] for line in history if "trial" in line] == ["toy/2"]
    assert any("toy/1  in use" in line and "by hand" in line for line in history)
    assert (ran.folder / "data" / "toy" / "gate" / "history.png").exists()
    report = (ran.folder / "data" / "toy" / "report" / "report.html").read_text()
    assert "rows were read from" in report
    kept = (ran.folder / "mlartifacts").rglob("report.html")
    assert report in [path.read_text() for path in kept]

    # the embedded MLflow is deleted: everything is written again from the records
    (ran.folder / "mlflow.db").unlink()
    fourth = ran.call(*ran.bertline, "run", "toy")
    assert "this MLflow does not have the version yet" in fourth.stderr
    assert "verdict on toy/1: promote: no champion yet" in fourth.stdout


def test_experiments_rerun_what_a_learning_rate_changes(ran: Workspace) -> None:
    ran.call("git", "add", "-A")
    ran.call("git", "commit", "-qm", "ran")
    done = ran.call(*ran.dvc, "exp", "run", "-S", "recipes.toy.finetune.learning_rate=5e-3")
    lines = done.stdout.splitlines()
    names = [line.split("'")[1] for line in lines if line.startswith("Running stage")]
    assert names == [f"{s}@toy" for s in ORDER[ORDER.index("finetune") :]]
    shown = ran.call(*ran.dvc, "exp", "show", "--json").stdout
    assert "5e-03" in shown or "0.005" in shown
    params = json.loads(ran.call(*ran.dvc, "params", "diff", "--json").stdout)
    change = params["params.yaml"]["recipes.toy.finetune.learning_rate"]
    assert (change["old"], change["new"]) == (0.01, 0.005)
    metrics = json.loads(ran.call(*ran.dvc, "metrics", "diff", "--json").stdout)
    assert any("fit.json" in name or "scores.json" in name for name in metrics)
    plots = ran.call(*ran.dvc, "plots", "diff", "-o", "dvc_plots").stdout
    assert "index.html" in plots
    ran.call("git", "checkout", "-q", "--", ".")
    ran.call(*ran.dvc, "checkout", "-q", code=None)


def test_a_mistake_in_the_data_ends_the_flow_in_one_line(workspace: Workspace) -> None:
    source = workspace.folder / "data" / "raw" / "toy.csv"
    source.write_text(source.read_text() + "a text without a label,\n")
    done = workspace.call(*workspace.bertline, "run", "toy", code=2)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert errors[-1].startswith("error: validate of toy: data/raw/toy.csv, line 302: no label")
    assert "Traceback" not in done.stdout + done.stderr
    assert not (workspace.folder / "data" / "toy" / "tokenize").exists()


def test_a_second_line_is_refused_or_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from flows.line import only_line
    from pipeline.core.errors import UserError

    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    with only_line(wait=True):
        with pytest.raises(UserError, match="another line is running"), only_line(wait=False):
            pass

        def second() -> None:
            with only_line(wait=True, tell=told.append):
                told.append("in")

        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.3)
        assert told == ["another line is running in this folder: waiting for its end"]
    waiting.join(5)
    assert told[-1] == "in"


def test_a_time_limit_ends_the_work_itself(tmp_path: Path) -> None:
    from flows.steps import _group

    mark = tmp_path / "pid"
    inner = f"import os, time; open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    started = time.monotonic()
    with _group([sys.executable, "-c", outer], timeout=2) as (process, expired):
        process.wait()
    assert expired.is_set()
    assert time.monotonic() - started < 20
    psutil.wait_procs([p for p in psutil.process_iter() if p.pid == int(mark.read_text())], 5)
    assert not psutil.pid_exists(int(mark.read_text()))
