"""Rows and a tiny encoder, whose ONNX graphs are made once."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.embeddings.embedder import Embedder, Extraction, Options, settled
from pipeline.embeddings.extract import Rows, embed
from pipeline.embeddings.store import Made
from tests.conftest import make_rows, write_csv

ASKED: dict[str, Any] = {
    "pooling": "mean",
    "max_length": 24,
    "runtime": "onnx-fp32",
}


Opened = Callable[[Extraction], Callable[[], Embedder]]
Embeds = Callable[..., Made]


def how(base: Path, **asked: Any) -> Extraction:
    return settled("base", base, Options(**ASKED | asked))


@pytest.fixture(scope="session")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture
def asked(tiny_base: Path) -> Extraction:
    return how(tiny_base)


@pytest.fixture
def opened(tiny_base: Path, graphs: Path) -> Opened:
    """Return a function from an extraction to the opener of its embedder."""
    return lambda asked: partial(Embedder, asked, tiny_base, graphs)


@pytest.fixture
def embedded(opened: Opened, tiny_base: Path, tmp_path: Path) -> Embeds:
    """Return a function that embeds rows into a file with the tiny base."""

    def embedded(rows: Rows, out: Path, asked: Extraction | None = None, **given: Any) -> Made:
        asked = asked or how(tiny_base)
        return embed(rows, asked, opened(asked), out, tmp_path / "runs", **given)

    return embedded


@pytest.fixture
def embedder(tiny_base: Path, graphs: Path) -> Embedder:
    return Embedder(how(tiny_base), tiny_base, graphs)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """File of fifty rows of various lengths."""
    rows = make_rows(50)
    for number, row in enumerate(rows):
        row["text"] = " ".join(row["text"].split()[: 1 + number % 10])
        row["name"] = f"row {number}"
    return write_csv(tmp_path / "rows.csv", rows)
