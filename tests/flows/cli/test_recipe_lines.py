"""Recipes of pretraining, embeddings and translation run on a few of their own rows."""

import sys
from pathlib import Path
from typing import Any

import pytest

from flows.cli.recipes import ready
from pipeline import recipe as recipes
from pipeline.core.config import parse
from pipeline.core.errors import UserError
from pipeline.core.records import Benchmark, Scores
from tests.conftest import ROOT
from tests.pipeline.conftest import Home
from tests.pipeline.tasks.test_contract import all_stages

sys.path.insert(0, str(ROOT / "bench"))
import results

ROWS = 80  # of each source
NETWORK = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def small(name: str, base: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A recipe of the gallery over its first rows, on a base of two layers."""
    monkeypatch.setattr(results, "copy_repository", lambda into: into.mkdir(exist_ok=True))
    try:
        block = results.sampled(ready(name), results.DATASETS, home, lambda _, found: found[:ROWS])
    except UserError as error:
        pytest.skip(str(error))
    for percent in ("validation_percent", "test_percent"):  # else there would be no rows
        block["ingest"][percent] = block["ingest"][percent] and 20
    if block["base"]["network"]:
        block["base"]["network"].update(NETWORK, intermediate_size=64)
    else:
        block["base"].update({"model": str(base), "sha256": None})
    block["validate"].update({"min_rows": 1, "max_quarantine_percent": 90})
    block["validate"]["rules"]["unknown_label"] = "quarantine"
    block["finetune"].update({"epochs": 1, "max_steps": 4, "evaluations_per_epoch": 1})
    if block["finetune"]["decoder"]:
        block["finetune"]["decoder"].update({"layers": 1, "num_beams": 2, "max_length": 16})
    if block["tokenize"]["vocabulary"]:
        block["tokenize"]["vocabulary"]["size"] = 500
    block["tokenize"]["max_length"] = min(block["tokenize"]["max_length"], 64)
    block["benchmark"].update({"seconds": 0.01, "batches": [1]})
    block["benchmark"].update({"max_metric_drop": 1, "max_flip_rate": 1})
    return block


@pytest.mark.parametrize(
    "name", ["banking77-search", "chnsenticorp-zh", "imdb-domain", "multi30k", "zh-base"]
)
def test_a_recipe_goes_the_line(
    name: str, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.stages.tokenize.stage.LEAST_COVERAGE", 0)  # of a toy in English
    block = small(name, tiny_base, tmp_path, monkeypatch)
    home = Home(tmp_path / "data" / name, parse(recipes.Recipe, block, f"recipes.{name}"))
    all_stages(home, monkeypatch)
    assert Scores.read(home.evaluate / "scores.json").baselines
    assert Benchmark.read(home.benchmark / "benchmark.json").picked
