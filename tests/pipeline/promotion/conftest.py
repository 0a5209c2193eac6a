"""Fixtures: a bench with an empty MLflow, and a function that publishes the toy to it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.promotion.evidence import Bench
from pipeline.registry.versions import Registry
from tests.pipeline.conftest import Home
from tests.pipeline.promotion.toys import Publish
from tests.pipeline.registry.toys import publish_toy


@pytest.fixture
def bench(line: Home, tracking: str, tmp_path: Path) -> Bench:
    folder = tmp_path / "validate"
    folder.mkdir()
    for name in ("kept.parquet", "validation.json"):
        shutil.copy(line.validate / name, folder)
    return Bench(
        registry=Registry(tracking),
        model="toy",
        task=line.task,
        params=line.recipe.gate,
        validate=folder,
        cache=tmp_path / "answers",
    )


@pytest.fixture
def published(line: Home, bench: Bench, tmp_path: Path) -> Publish:
    """Function that publishes the toy; `spoil` may change a copy of its folders first."""

    def publish(salt: str = "", spoil: Callable[[Home], object] | None = None) -> str:
        home, out = line, tmp_path / f"out{salt}"
        out.mkdir()
        if spoil:
            home = Home(tmp_path / f"home{salt}", line.recipe)
            shutil.copytree(line.folder, home.folder)
            spoil(home)
        return publish_toy(home, bench.registry.tracking, out, salt).version

    return publish
