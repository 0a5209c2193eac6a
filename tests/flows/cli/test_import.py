"""A model that was trained elsewhere becomes a recipe, and goes the line without training."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from flows.cli import main
from pipeline import recipe as recipes
from pipeline.core.config import parse
from pipeline.core.records import Benchmark, Fit, Scores
from pipeline.registry.versions import Registry
from pipeline.report.page import build
from tests.conftest import make_rows, write_csv
from tests.pipeline.conftest import Home, after_tokens, up_to_tokens
from tests.pipeline.registry.toys import publish_toy
from tests.pipeline.stages.finetune.test_adoption import elsewhere

PARAMS = (Path(__file__).parents[3] / "params.yaml").read_text()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: Path) -> Path:
    """A project with the demo, rows, and a classifier of their topics."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    rows = make_rows(300)
    write_csv(Path("rows.csv"), rows)
    elsewhere(tiny_base, Path("model"), sorted({row["label"] for row in rows}, reverse=True))
    return tmp_path


def block() -> Any:
    return YAML(typ="safe").load(Path("params.yaml").read_text())["recipes"]["toy"]


@pytest.mark.usefixtures("place")
def test_its_recipe_trains_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["import", "model", "rows.csv", "--name", "toy"]) == 0
    told = capsys.readouterr().out
    assert "is taken with its own head" in told
    assert "epochs" not in told
    assert "recipes.toy is added" in told
    found = block()
    assert found["base"]["model"] == found["base"]["watch"] == "model"
    assert (found["finetune"]["epochs"], found["finetune"]["metric"]) == (0, "accuracy")
    assert found["task"] == "classification"
    assert found["tokenize"]["max_length"] == 64  # of its positions


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("nothing", "nothing: no such file or folder"),
        ("hub:org/name", "hub:org/name: name the revision"),
    ],
)
@pytest.mark.usefixtures("place")
def test_what_is_no_model_is_one_line(
    model: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["import", model, "rows.csv", "--name", "toy"]) == 2
    assert expected in capsys.readouterr().err
    assert Path("params.yaml").read_text() == PARAMS


def test_it_is_evaluated_exported_measured_and_registered(
    place: Path, tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["import", "model", "rows.csv", "--name", "toy"]) == 0
    settings = block()
    settings["validate"]["min_rows"] = 1
    settings["benchmark"].update({"seconds": 0.01, "batches": [1]})
    home = Home(place / "data" / "toy", parse(recipes.Recipe, settings, "recipes.toy"))
    after_tokens(up_to_tokens(home))
    assert Fit.read(home.finetune / "fit.json").steps == 0
    assert Scores.read(home.evaluate / "scores.json").baselines
    assert Benchmark.read(home.benchmark / "benchmark.json").picked
    page = build(home.folder, "toy")
    assert "Loss" not in page  # nothing was trained
    number = publish_toy(home, tracking, place).version
    run = Registry(tracking).version_tags("toy", number)["run"]
    card = Registry(tracking).artifact(run, "model-card.md").read_text()
    assert "Trained elsewhere and imported as it is, `model`" in card
    assert "Training time" not in card
