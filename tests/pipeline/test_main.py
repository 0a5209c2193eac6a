"""The entry point of a stage: python -m pipeline STAGE RECIPE."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline import __main__ as door
from pipeline.core.errors import UserError
from tests.conftest import ROOT, toy_block, write_params


@pytest.mark.parametrize(
    ("stage", "key", "value", "message"),
    [
        (
            "finetune",
            "metric",
            "macro-f1",
            "finetune.metric: classification has no 'macro-f1'; did",
        ),
        ("benchmark", "metric", "f1", "benchmark.metric: classification has no 'f1'"),
        ("evaluate", "baseline", "letters", "evaluate.baseline: classification has no 'letters'"),
    ],
)
def test_what_the_task_has_no_use_of_is_refused_at_every_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, key: str, value: Any, message: str
) -> None:
    """Also where DVC calls it with a value of its own, and nobody has looked at the recipe."""
    block = toy_block("base", "rows.csv")
    block[stage][key] = value
    write_params(tmp_path / "params.yaml", {"toy": block})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        door.run(stage, "toy")
    assert str(error.value).startswith(f"params.yaml: recipes.toy.{message}")


def test_a_python_without_bertline_is_told_in_one_line() -> None:
    command = [sys.executable, "-S", "-m", "pipeline", "ingest", "news"]
    done = subprocess.run(command, cwd=ROOT, env={}, capture_output=True, text=True)
    assert done.returncode
    assert done.stderr == (
        f"error: {sys.executable} has no bertline: run `source .venv/bin/activate` first\n"
    )
