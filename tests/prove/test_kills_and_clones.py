"""Killed at any moment, run anywhere: the same bytes in the end."""

import json
import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.core.files import sha256_of
from pipeline.registry.lineage import lineage_key
from tests.conftest import Workspace

pytestmark = pytest.mark.prove
KILLS = 5
SAME = (
    "finetune/model/model.safetensors",
    "finetune/model/config.json",
    "finetune/model/tokenizer.json",
    "finetune/fit.json",
    "evaluate/scores.json",
    "evaluate/predictions.parquet",
    "export/onnx/model.onnx",
    "export/onnx/model_quantized.onnx",
)


def digests(work: Workspace) -> dict[str, str]:
    home = work.folder / "data" / "toy"
    return {name: sha256_of(home / name) for name in SAME}


def key(work: Workspace) -> str:
    return lineage_key(work.folder / "dvc.lock", "toy")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> tuple[Workspace, float]:
    """A line that nobody disturbed, and how many seconds it took."""
    work = Workspace(tmp_path_factory.mktemp("reference") / "work", tiny_base)
    started = time.monotonic()
    work.repro()
    return work, time.monotonic() - started


def test_two_clones_agree(
    reference: tuple[Workspace, float], tmp_path: Path, tiny_base: Path
) -> None:
    work, _ = reference
    clone = Workspace(tmp_path / "some" / "where" / "else", tiny_base)
    clone.repro()
    assert digests(clone) == digests(work)
    assert key(clone) == key(work)


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_minus_nine_at_random_moments(
    reference: tuple[Workspace, float], tmp_path: Path, tiny_base: Path, seed: int
) -> None:
    work, seconds = reference
    killed = Workspace(tmp_path / "work", tiny_base)
    draw = random.Random(seed)
    for _ in range(KILLS):
        process = subprocess.Popen(
            [*killed.dvc, "repro"],
            cwd=killed.folder,
            env=killed.environment(),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(draw.uniform(1, seconds * 0.7))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    killed.repro()
    assert digests(killed) == digests(work)
    assert key(killed) == key(work)
    leftovers = [path for path in killed.folder.rglob("*.partial") if ".dvc" not in path.parts]
    assert leftovers == []


def test_a_worse_model_is_not_promoted_and_a_tenth_gives_way_to_the_whole(
    tmp_path: Path, tiny_base: Path
) -> None:
    """The ledger tells all of it."""
    work = Workspace(tmp_path / "work", tiny_base, rows=1500)
    source = work.folder / "data" / "raw" / "toy.csv"
    whole = source.read_text().splitlines(keepends=True)
    source.write_text("".join(whole[:151]))
    block = json.loads(json.dumps(_recipe(work)))
    block["gate"]["floors"] = {"accuracy": 0.2, "macro_f1": 0.1}
    block["validate"]["min_rows"] = 3
    block["finetune"].update({"epochs": 1, "learning_rate": 1e-3})
    work.write_recipe(block)
    tenth = work.call(*work.bertline, "run", "toy")
    assert "verdict on toy/1: promote: no champion yet" in tenth.stdout

    source.write_text("".join(whole))
    block["finetune"].update({"epochs": 2, "learning_rate": 2e-3})
    work.write_recipe(block)
    full = work.call(*work.bertline, "run", "toy")
    assert "verdict on toy/2: promote: better than the champion: alone right on" in full.stdout

    block["finetune"].update({"epochs": 1, "learning_rate": 1e-5})
    work.write_recipe(block)
    worse = work.call(*work.bertline, "run", "toy")
    assert "verdict on toy/3: reject: worse than the champion: alone right on" in worse.stdout

    refused = work.call(*work.bertline, "promote", "toy/3", code=1)
    assert "reject" in refused.stdout
    back = work.call(*work.bertline, "rollback", "toy", "--reason", "a trial")
    assert "toy/1 is the champion again, in place of toy/2" in back.stdout
    told = work.call(*work.bertline, "explain", "toy/1").stdout
    moves = [line for line in told.splitlines() if re.match(r" +\d+ 20\d\d-", line)]
    assert len(moves) == 3
    assert "rollback toy/1 (champion toy/2): a trial" in moves[-1]
    third = work.call(*work.bertline, "explain", "toy/3").stdout
    assert third.count("reject toy/3 (champion toy/2): worse than the champion") == 1


def _recipe(work: Workspace) -> dict[str, object]:
    from pipeline.core.config import read_recipe

    return read_recipe("toy", work.folder / "params.yaml")
