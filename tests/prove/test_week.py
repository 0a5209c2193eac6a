"""A week of nights: what came in, what was decided, and an owner whose folder nobody touched."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from flows.worktree import TREES
from pipeline.core.files import sha256_of
from pipeline.retraining.plan import Plan
from tests.conftest import Workspace, make_rows, toy_block

pytestmark = pytest.mark.prove
OURS = {".git", ".bertline", "mlflow.db", "mlartifacts"}  # what a run may write to
HOUR = 3600


class Owner:
    """A workspace whose owner is in the middle of something."""

    def __init__(self, work: Workspace, remote: Path) -> None:
        self.work, self.remote = work, remote
        self.rows = work.folder / "data" / "raw" / "toy.csv"
        block = toy_block("base", "data/raw/toy.csv")
        block["retrain"].update({"schedule": "manual", "min_new_rows": 5})
        work.write_recipe(block)
        work.call(*work.dvc, "remote", "add", "-q", "-d", "store", str(remote))
        self.commit("a remote")
        work.call("git", "checkout", "-q", "-b", "half-way")
        (work.folder / "README.md").write_text("an edit that is not done\n")
        (work.folder / "notes.txt").write_text("not even added\n")

    def commit(self, why: str, *paths: str) -> None:
        self.work.call("git", "add", *(paths or ("-A",)))
        self.work.call("git", "commit", "-qm", why)

    def state(self) -> tuple[object, ...]:
        git = [
            self.work.call("git", *what).stdout
            for what in (
                ("rev-parse", "HEAD"),
                ("symbolic-ref", "HEAD"),
                ("status", "--porcelain"),
                ("branch", "-a"),
                ("stash", "list"),
                ("ls-files", "-s"),
            )
        ]
        files = {
            str(file.relative_to(self.work.folder)): sha256_of(file)
            for file in sorted(self.work.folder.rglob("*"))
            if file.is_file()
            and not OURS & set(file.relative_to(self.work.folder).parts)
            and "__pycache__" not in file.parts
            and ".dvc" not in file.parts  # its cache is shared
        }
        return *git, files

    def night(self, code: int = 0) -> tuple[str, Plan, float]:
        """Message of a run, its plan and its seconds; the owner's folder stays as it is."""
        before, started = self.state(), time.monotonic()
        done = self.work.call(*self.work.bertline, "retrain", "toy", code=code)
        seconds = time.monotonic() - started
        assert self.state() == before
        assert "Traceback" not in done.stdout + done.stderr
        told = (done.stdout if code == 0 else done.stderr).splitlines()
        line = [line for line in told if line.startswith(("toy", "error: toy"))][-1]
        plan = self.work.folder / TREES / "toy" / "data" / "toy" / "retrain" / "plan.json"
        return line, Plan.read(plan), seconds

    def append(self, count: int, seed: int) -> None:
        with self.rows.open("a", encoding="utf-8") as file:
            file.writelines(f"{row['text']},{row['label']}\n" for row in make_rows(count, seed))


@pytest.mark.timeout(HOUR)
def test_a_week_of_nights(workspace: Workspace, tmp_path: Path) -> None:
    owner = Owner(workspace, tmp_path / "remote")

    told, plan, _ = owner.night()
    assert told.startswith("toy/1: promoted: no champion yet")
    assert plan.why == "there is no version yet"

    told, plan, seconds = owner.night()
    assert told == "toy: not retrained: nothing new since toy/1 (the champion)"
    assert seconds < 30
    assert not plan.run

    owner.append(300, seed=1)
    told, plan, _ = owner.night()
    assert told.startswith("toy/2: ")
    assert plan.changes is not None
    assert (plan.changes.new, plan.changes.gone, plan.changes.corrected) == (300, 0, 0)

    lines = owner.rows.read_text().splitlines()
    sport = [place for place, line in enumerate(lines) if line.endswith(",sport")][:7]
    for place in sport:
        lines[place] = lines[place].removesuffix("sport") + "money"
    owner.rows.write_text("\n".join(lines) + "\n")
    told, plan, _ = owner.night()
    assert told.startswith("toy/3: ")
    assert "7 labels corrected (sport > money 7)" in plan.why

    pins = workspace.folder / "constraints.txt"
    pins.write_text(pins.read_text() + "# another pin\n")
    owner.commit("another pin", "constraints.txt")
    told, plan, _ = owner.night()
    assert told.startswith("toy/4: ")
    assert "pins: constraints.txt" in plan.why
    assert plan.rescore is not None
    assert plan.rescore.rows > 0
    assert (plan.rescore.changed, plan.rescore.max_difference < 1e-6) == (0, True)
    assert "under these versions: 0 answers changed" in told

    away = owner.remote.rename(owner.remote.with_suffix(".away"))
    owner.remote.write_text("a file where a folder was")
    owner.append(20, seed=2)
    champion = _champion(workspace)
    told, _, _ = owner.night(code=2)
    assert (
        "toy/5 is registered and not promoted, since its push to the remote 'store' failed" in told
    )
    assert _champion(workspace) == champion
    assert "toy/5" not in workspace.call(*workspace.bertline, "history", "toy").stdout

    owner.remote.unlink()
    away.rename(owner.remote)
    told, plan, _ = owner.night()
    assert told.startswith("toy/5: ")
    assert plan.why == "toy/5 was never judged: finishing it"
    assert "toy/5" in workspace.call(*workspace.bertline, "history", "toy").stdout

    refs = workspace.call("git", "for-each-ref", "--format=%(refname)", "refs/bertline").stdout
    assert refs.split() == [f"refs/bertline/toy/{number}" for number in range(1, 6)]
    _take_over(owner)


def _champion(work: Workspace) -> str:
    done = work.call(*work.bertline, "explain", "toy")
    return done.stdout.splitlines()[0]


def _take_over(owner: Owner) -> None:
    """The lock of a night, in a second clone: what it made comes from the remote, no stage runs."""
    work = owner.work
    assert "git merge" in work.call(*work.bertline, "take", "toy/5", "--branch", "night").stdout
    clone = work.folder.parent / "clone"
    subprocess.run(
        ["git", "clone", "-q", "--branch", "night", str(work.folder), str(clone)], check=True
    )
    (clone / "data" / "raw").mkdir(parents=True, exist_ok=True)
    (clone / "data" / "raw" / "toy.csv").write_bytes(owner.rows.read_bytes())
    made = json.loads(
        subprocess.run(
            [*work.dvc, "status", "--json", "export@toy", "finetune@toy"],
            cwd=clone,
            env=work.environment() | {"PYTHONPATH": str(clone)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert "changed outs" in json.dumps(made)
    for command in (["pull", "-q", "--allow-missing"], ["repro", "export@toy"]):
        done = subprocess.run(
            [*work.dvc, *command],
            cwd=clone,
            env=work.environment() | {"PYTHONPATH": str(clone)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert "Running stage" not in done.stdout
