"""Rows and a tiny encoder, whose ONNX graphs are made once."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.embeddings.embedder import Embedder, Extraction, settled
from tests.conftest import make_rows, write_csv

ASKED: dict[str, Any] = {
    "layers": None,
    "pooling": "mean",
    "level": "text",
    "normalize": True,
    "max_length": 24,
    "runtime": "onnx-fp32",
}


def how(base: Path, **asked: Any) -> Extraction:
    return settled("base", base, **ASKED | asked)


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture
def embedder(tiny_base: Path, state: Path) -> Embedder:
    return Embedder(how(tiny_base), tiny_base, state / "embed" / "graphs")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Fifty rows of all lengths."""
    rows = make_rows(50)
    for number, row in enumerate(rows):
        row["text"] = " ".join(row["text"].split()[: 1 + number % 10])
        row["name"] = f"row {number}"
    return write_csv(tmp_path / "rows.csv", rows)
