"""Registered versions: their files, their answers and the alias."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.core.errors import Unavailable, UserError
from pipeline.core.records import Benchmark
from pipeline.registry import client
from pipeline.registry.versions import Registry
from tests.pipeline.conftest import Home
from tests.pipeline.registry.toys import Versions, publish_toy


def test_the_version_answers_through_onnx_runtime_alone(
    line: Home,
    tracking: str,
    tmp_path: Path,
) -> None:
    publication = publish_toy(line, tracking, tmp_path)
    registry = Registry(tracking)
    [answer] = registry.scores("toy", publication.version, [("goal match striker league", "")])
    assert set(answer) == {"label", "score", "score_film", "score_money", "score_sport"}
    assert answer["label"] == "sport"
    model = next((tmp_path / "mlartifacts").rglob("requirements.txt"))
    assert "torch" not in model.read_text()
    folder = model.parent
    assert not [f for f in folder.rglob("*") if f.suffix in (".pkl", ".pt", ".bin")]
    served = Benchmark.read(line.benchmark / "benchmark.json")
    onnx = line.export / str(served.candidate(served.picked).file)
    [registered] = list(folder.rglob("*.onnx"))
    assert registered.read_bytes() == onnx.read_bytes()


def test_no_model_and_no_alias_are_no_champion(tracking: str) -> None:
    registry = Versions(tracking)
    assert registry.champion("nobody") is None
    assert registry.champion("toy") is None
    registry.move("toy", "1")
    assert registry.champion("toy") == "1"


def test_a_database_that_fails_is_not_one_without_a_champion(
    tracking: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(tracking)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("DROP TABLE registered_models")
    with pytest.raises(Unavailable, match=r"no such table: registered_models$"):
        registry.champion("toy")
    assert not caplog.records  # of MLflow's own: a stack trace


def test_files_that_are_gone_and_files_that_do_not_come_are_told_apart(
    line: Home, tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = publish_toy(line, tracking, tmp_path).version
    shutil.rmtree(Registry(tracking).folder("toy", version))
    with pytest.raises(UserError, match=r"^toy/1: cannot read its files .* rollback toy$"):
        Registry(tracking).load("toy", version)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("refused")

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", fail)
    with pytest.raises(Unavailable, match=r"^MLflow at sqlite:.*: refused$"):
        Registry(tracking).load("toy", version)


def test_a_changed_file_of_a_version_is_named_and_not_served(
    line: Home, tracking: str, tmp_path: Path
) -> None:
    publication = publish_toy(line, tracking, tmp_path)
    registry = Registry(tracking)
    assert registry.damage("toy", publication.version) == []
    [model] = registry.folder("toy", publication.version).rglob("*.onnx")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    [damage] = registry.damage("toy", publication.version)
    assert damage.endswith(f"{model.name} of toy/1 has changed")
    with pytest.raises(UserError, match="it is not served; bertline rollback toy"):
        registry.scores("toy", publication.version, [("a text", "")])
    model.unlink()
    assert registry.damage("toy", publication.version)[0].endswith("is missing")


def test_an_unknown_version_is_named_with_those_that_there_are(tracking: str) -> None:
    with pytest.raises(UserError, match="toy/9: no such version; there are 1, 2, 3, 4"):
        Versions(tracking).version_tags("toy", "9")


def test_an_address_is_shown_without_its_password() -> None:
    assert client.shown("postgresql://me:pw@host/db") == "postgresql://host/db"
