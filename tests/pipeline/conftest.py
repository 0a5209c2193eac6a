"""The line's stages run once, on toy rows, for the tests that look at what they made."""

import shutil
from pathlib import Path

import pytest

from pipeline import recipe as recipes
from pipeline.core.config import parse, read_task
from pipeline.stages.benchmark.stage import benchmark
from pipeline.stages.evaluate.stage import evaluate
from pipeline.stages.export.stage import export
from pipeline.stages.finetune.stage import finetune
from pipeline.stages.ingest.stage import ingest
from pipeline.stages.tokenize.stage import tokenize
from pipeline.stages.validate.stage import validate
from tests.conftest import make_rows, toy_block, write_csv


class Home:
    """A recipe's folders, filled stage by stage."""

    def __init__(self, folder: Path, recipe: recipes.Recipe) -> None:
        self.folder, self.recipe = folder, recipe
        self.task = read_task(recipe.task, "task")

    def __getattr__(self, stage: str) -> Path:
        return self.folder / stage


def make_home(folder: Path, base: Path, rows: int = 300) -> Home:
    source = write_csv(folder / "toy.csv", make_rows(rows))
    return Home(folder, parse(recipes.Recipe, toy_block(base, str(source)), "recipes.toy"))


def up_to_tokens(home: Home) -> Home:
    recipe, task = home.recipe, home.task
    ingest(recipe.ingest, task, home.ingest)
    validate(recipe.validate_, task, home.ingest, home.validate)
    tokenize(recipe.tokenize, task, recipe.base, home.validate, home.tokenize)
    return home


def after_tokens(h: Home) -> Home:
    """The stages up to benchmark."""
    r, t = h.recipe, h.task
    finetune(r.finetune, t, r.base, h.validate, h.tokenize, h.finetune, h.folder / "state")
    evaluate(r.evaluate, t, h.validate, h.tokenize, h.finetune, h.evaluate)
    export(r.export, t, h.validate, h.tokenize, h.finetune, h.export)
    benchmark(r.benchmark, t, h.validate, h.tokenize, h.finetune, h.evaluate, h.export, h.benchmark)
    return h


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Home:
    return up_to_tokens(make_home(tmp_path_factory.mktemp("toy"), tiny_base))


@pytest.fixture(scope="session")
def line(tokens: Home) -> Home:
    """All stages but publish."""
    return after_tokens(tokens)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables, which take seconds to make."""
    from pipeline.registry.versions import Registry

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Registry(f"sqlite:///{path}").client.search_registered_models()
    return path


@pytest.fixture
def tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_mlflow: Path) -> str:
    """The address of an empty MLflow in the test's folder, which is worked in."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_mlflow, tmp_path)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"
