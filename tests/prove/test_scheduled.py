"""Nights under real servers: PostgreSQL, MLflow and Prefect, shut to strangers."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.worktree import TREES
from pipeline.core.files import sha256_of
from tests.conftest import Workspace, toy_block, write_params
from tests.prove.test_servers import POSTGRES, Box, folder

pytestmark = [
    pytest.mark.prove,
    pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL is not installed"),
    pytest.mark.timeout(5400),
]
__all__ = ["folder"]  # a fixture
RECIPES = ("toy", "other")
EPOCHS = 40  # a training of a minute
WEIGHTS = Path("data/toy/finetune/model/model.safetensors")


class Night:
    """An owner's folder, the servers, and a worker that can be killed."""

    def __init__(self, box: Box, work: Workspace) -> None:
        self.box, self.work = box, work
        self.log = work.folder.parent / "worker.log"
        # addresses where nobody answers, each with a token of its own
        self.secrets = {
            "BERTLINE_SLACK_WEBHOOK": "http://127.0.0.1:9/planted-token-slack",
            "BERTLINE_WEBHOOK": "http://127.0.0.1:9/planted-token-webhook",
            "BERTLINE_SMTP": "smtp://planted-user-smtp:planted-password-smtp@127.0.0.1:9",
            "BERTLINE_EMAIL_FROM": "planted-from@example.org",
            "BERTLINE_EMAIL_TO": "planted-to@example.org",
            **{f"BERTLINE_PLANTED_{n}": f"planted-secret-{n:02}" for n in range(14)},
        }
        self.worker: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        own = {"PREFECT_HOME": str(self.work.folder.parent / "prefect")}
        return self.work.environment() | self.box.environment() | self.secrets | own

    def call(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [*self.work.bertline, *arguments],
            cwd=self.work.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def recipes(self, schedule: str, epochs: int, *names: str) -> None:
        blocks = {name: toy_block("base", "data/raw/toy.csv") for name in RECIPES}
        for name, block in blocks.items():
            block["retrain"].update(
                {
                    "schedule": schedule if name in names else None,
                    "min_new_rows": 1,
                    "notify": ["slack", "email", "webhook"],
                }
            )
            block["finetune"].update({"epochs": epochs, "patience": epochs, "seed": 3})
        write_params(self.work.folder / "params.yaml", blocks)
        self.work.call("git", "add", "-A")
        self.work.call("git", "commit", "-qm", f"{schedule} {epochs}")

    def start(self) -> None:
        with self.log.open("ab") as file:
            self.worker = subprocess.Popen(
                [*self.work.bertline, "work"],
                cwd=self.work.folder,
                env=self.environment(),
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self) -> None:
        """The worker and what it started, at once, as when the machine loses power."""
        assert self.worker
        tree = [*psutil.Process(self.worker.pid).children(recursive=True)]
        for process in (psutil.Process(self.worker.pid), *tree):
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(tree, 10)
        self.worker.wait()
        self.worker = None

    def stop(self) -> None:
        if self.worker:
            self.worker.terminate()
            self.worker.wait(60)
            self.worker = None

    def prefect(self, script: str) -> str:
        """Output of a script that has a Prefect client as `client`."""
        head = "from prefect import get_client\nwith get_client(sync_client=True) as client:\n"
        body = "".join(f"    {line}\n" for line in script.splitlines())
        done = subprocess.run(
            [sys.executable, "-c", head + body],
            env=self.environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def trigger(self, recipe: str, times: int = 1) -> None:
        self.prefect(
            f"made = client.read_deployment_by_name('retrain/{recipe}')\n"
            f"for _ in range({times}): client.create_flow_run_from_deployment(made.id)"
        )

    def runs(self, recipe: str) -> list[dict[str, Any]]:
        """A recipe's runs that have begun or ended, oldest first."""
        told = self.prefect(
            "import json\n"
            "from prefect.client.schemas.sorting import FlowRunSort as Sort\n"
            "for run in client.read_flow_runs(sort=Sort.EXPECTED_START_TIME_ASC, limit=200):\n"
            f"  if run.parameters['recipe'] == '{recipe}' and not run.state.is_scheduled():\n"
            "    print(json.dumps([str(run.id), run.state.type, run.state.message or '',"
            " str(run.start_time), str(run.end_time)]))"
        )
        names = ("id", "state", "message", "start", "end")
        return [dict(zip(names, json.loads(line), strict=True)) for line in told.splitlines()]

    def ended(self, recipe: str, count: int) -> list[dict[str, Any]]:
        finished = [r for r in self.runs(recipe) if r["state"] in ("COMPLETED", "FAILED")]
        return finished if len(finished) >= count else []

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


@pytest.fixture(scope="module")
def night(folder: Path, tiny_base: Path) -> Iterator[Night]:
    box = Box(folder / "servers")
    box.up()
    found = Night(box, Workspace(folder / "work", tiny_base))
    try:
        yield found
    finally:
        found.stop()
        box.call("down")


def until(what: Callable[[], Any], seconds: float, night: Night) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(2)
    raise AssertionError(f"not within {seconds:.0f} s; the worker said:\n{night.tail()}")


def test_two_recipes_due_at_the_same_minute_run_one_after_the_other(night: Night) -> None:
    night.recipes("* * * * *", 4, *RECIPES)
    told = night.call("schedule")
    for recipe in RECIPES:
        assert f"retrain/{recipe}: * * * * * UTC" in told
    night.start()
    work = {}
    for recipe in RECIPES:
        first = until(lambda recipe=recipe: night.ended(recipe, 1), 600, night)[0]
        assert first["message"].startswith(f"{recipe}/1: promoted: no champion yet"), first
        assert "in use" in night.call("explain", f"{recipe}/1").splitlines()[0]
        times = night.prefect(
            "from prefect.client.schemas.filters import FlowRunFilter\n"
            f"only = FlowRunFilter(id={{'any_': ['{first['id']}']}})\n"
            "for task in client.read_task_runs(flow_run_filter=only, limit=50):\n"
            "  print(task.start_time, task.end_time, sep='|')"
        )
        spans = [line.split("|") for line in times.splitlines()]
        work[recipe] = (min(s for s, _ in spans), max(e for _, e in spans))
    (_, first_end), (second_start, _) = sorted(work.values())
    assert datetime.fromisoformat(first_end) <= datetime.fromisoformat(second_start)
    assert "another line is running in this folder: waiting for its end" in night.log.read_text()
    night.recipes("manual", 4, *RECIPES)
    night.call("schedule")
    running = ("RUNNING", "PENDING")
    until(
        lambda: not [r for n in RECIPES for r in night.runs(n) if r["state"] in running], 300, night
    )
    night.stop()


def test_of_twenty_triggers_at_once_one_runs_and_the_rest_say_why_not(night: Night) -> None:
    night.recipes("manual", 4, "toy")
    told = night.call("schedule")
    assert "retrain/other: deleted, its recipe has no schedule" in told
    before = {run["id"] for run in night.runs("toy")}
    night.start()
    night.trigger("toy", 20)

    def twenty() -> list[dict[str, Any]]:
        new = [r for r in night.runs("toy") if r["id"] not in before]
        return new if len(new) == 20 and all(r["end"] != "None" for r in new) else []

    runs = until(twenty, 300, night)
    cancelled = [run for run in runs if run["state"] == "CANCELLED"]
    assert len(cancelled) == 19
    assert {run["message"] for run in cancelled} == {"Deployment concurrency limit reached."}
    (ran,) = (run for run in runs if run["state"] != "CANCELLED")
    assert ran["message"] == "toy: not retrained: nothing new since toy/1 (the champion)"
    # a last sign of life can overtake the end, and the automation then acts on a run that is over
    told = night.prefect(
        "from prefect.states import Crashed\n"
        f"answer = client.set_flow_run_state('{ran['id']}', Crashed(message='dead?'))\n"
        f"print(answer.status.value, client.read_flow_run('{ran['id']}').state.type.value)"
    )
    assert told.split() == ["ABORT", "COMPLETED"]


def test_a_worker_that_dies_is_closed_and_the_next_goes_on_to_the_same_bytes(
    night: Night, tmp_path: Path, tiny_base: Path
) -> None:
    night.recipes("manual", EPOCHS, "toy")
    done = len(night.ended("toy", 1))
    mark = len(night.log.read_text())
    night.trigger("toy")

    def training() -> bool:
        return "[finetune] step" in night.log.read_text()[mark:]

    until(training, 300, night)
    time.sleep(5)
    died = time.monotonic()
    night.kill()
    night.start()
    crashed = until(
        lambda: [run for run in night.runs("toy") if run["state"] == "CRASHED"], 600, night
    )
    assert time.monotonic() - died < 600
    assert "no heartbeat for 9 minutes" in crashed[0]["message"]

    mark = len(night.log.read_text())
    night.trigger("toy")
    last = until(lambda: night.ended("toy", done + 1), 600, night)[-1]
    assert last["message"].startswith("toy/2: "), last
    assert "going on from step" in night.log.read_text()[mark:]

    calm = Workspace(tmp_path / "calm", tiny_base)
    (calm.folder / "params.yaml").write_bytes((night.work.folder / "params.yaml").read_bytes())
    calm.repro("finetune@toy")
    tree = night.work.folder / TREES / "toy"
    assert sha256_of(tree / WEIGHTS) == sha256_of(calm.folder / WEIGHTS)


def test_mlflow_down_for_a_minute_loses_no_metric_and_doubles_no_run(night: Night) -> None:
    with (night.work.folder / "data" / "raw" / "toy.csv").open("a") as file:
        file.write("goal match league of the new striker team again,sport\n")
    done, mark = len(night.ended("toy", 1)), len(night.log.read_text())
    night.trigger("toy")
    until(lambda: "[finetune] step" in night.log.read_text()[mark:], 300, night)
    os.kill(night.box.pids()["mlflow"], signal.SIGKILL)
    time.sleep(60)
    night.box.up()
    last = until(lambda: night.ended("toy", done + 1), 900, night)[-1]
    assert last["message"].startswith("toy/3: "), last

    fit = night.work.folder / TREES / "toy" / "data" / "toy" / "finetune"
    with (fit / "training.csv").open(newline="") as rows:
        steps = {int(row["step"]) for row in csv.DictReader(rows)}
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from mlflow import MlflowClient\n"
            "client = MlflowClient()\n"
            "run = client.get_model_version('toy', '3').run_id\n"
            "found = client.get_experiment_by_name('toy').experiment_id\n"
            "key = client.get_run(run).data.tags['bertline.fit']\n"
            "same = client.search_runs([found], f\"tags.`bertline.fit` = '{key}'\")\n"
            "points = client.get_metric_history(run, 'training.loss')\n"
            "print(len(same), sorted(point.step for point in points))",
        ],
        env=night.environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert told == f"1 {sorted(steps)}"


def test_no_secret_is_anywhere_but_where_it_belongs(night: Night) -> None:
    wanted = [f"planted-{kind}-".encode() for kind in ("token", "user", "password")]
    wanted += [value.encode() for name, value in night.secrets.items() if "PLANTED" in name]
    wanted += [secret.encode() for secret in night.box.secrets()]
    assert len(wanted) >= 20
    commands = "\n".join(
        " ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    )
    assert not [secret for secret in wanted if secret in commands.encode()]
    own = {"secrets", "env", "mlflow-auth.ini"}
    places = [night.work.folder, night.log, night.work.folder.parent / "prefect"]
    places += [path for path in night.box.home.iterdir() if path.name not in own]
    looked = 0
    for place in places:
        for path in [place] if place.is_file() else place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                looked += 1
                assert not [s for s in wanted if s in content], path
    assert looked > 500
    assert "slack was not told" in night.log.read_text()  # they were used
