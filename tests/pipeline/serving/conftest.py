"""Fixtures of the serving tests."""

from pathlib import Path

import pytest

from pipeline.core.errors import Unavailable
from pipeline.serving.supervisor import ServerOptions
from tests.pipeline.serving.toys import Registry


@pytest.fixture
def service(tmp_path: Path) -> ServerOptions:
    return ServerOptions("toy", "sqlite://", tmp_path / "state" / "toy.json", tmp_path)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    found = Registry("")

    def connect(tracking: str) -> None:
        if found.away:
            raise Unavailable("MLflow does not answer")

    monkeypatch.setattr("pipeline.registry.versions.Registry", lambda tracking: found)
    monkeypatch.setattr("pipeline.registry.client.connect", connect)
    return found
