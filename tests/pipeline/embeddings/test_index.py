"""Neighbours are the rows with the greatest cosine, by comparison and by graph."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.embeddings import index
from tests.conftest import ROOT

DRAW = np.random.default_rng(0)


def test_exact_search_is_the_order_of_cosines() -> None:
    rows = DRAW.standard_normal((500, 48), dtype=np.float32)
    queries = DRAW.standard_normal((20, 48), dtype=np.float32)
    places, similarities = index.exact(rows, queries, 7)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(rows, axis=1)
    cosines = queries @ rows.T / lengths
    assert np.array_equal(places, np.argsort(-cosines, axis=1)[:, :7])
    assert np.abs(similarities + np.sort(-cosines, axis=1)[:, :7]).max() < 1e-5


def test_a_graph_finds_what_comparing_all_finds(tmp_path: Path) -> None:
    rows = DRAW.standard_normal((12_000, 48), dtype=np.float32)
    queries = DRAW.standard_normal((100, 48), dtype=np.float32)
    told: list[int] = []
    index.build(lambda: np.array_split(rows, 5), 48, tmp_path, told.append)
    assert told == [2400, 4800, 7200, 9600, 12_000]
    found, similarities = index.Graph(tmp_path).near(queries, 10)
    exact, _ = index.exact(rows, queries, 10)
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=True)]
    assert np.mean(shared) >= 0.95
    assert (np.diff(similarities) <= 0).all()


def test_many_copies_of_a_text_hide_no_other(tmp_path: Path) -> None:
    rows = DRAW.standard_normal((4000, 48), dtype=np.float32)
    copies = DRAW.permutation(4000)[:3600]
    rows[copies] = rows[copies[0]] * (1 + 1e-6 * DRAW.standard_normal((3600, 1)))
    index.build(lambda: np.array_split(rows, 5), 48, tmp_path, lambda done: None)
    graph = index.Graph(tmp_path)
    others = np.setdiff1d(np.arange(4000), copies)
    places, _ = graph.near(rows[others], 1)
    assert np.array_equal(np.concatenate(places), others)
    (places,), (similarities,) = graph.near(rows[copies[:1]], 3601)
    assert places[:3600].tolist() == sorted(copies)
    assert places[3600] in others
    assert similarities[:3600] == pytest.approx(1, abs=1e-5)


def test_onnx_runtime_can_be_loaded_afterwards() -> None:
    code = (
        "import numpy; from pipeline.embeddings import index;"
        "rows = numpy.eye(4, dtype='float32'); index.exact(rows, rows, 1);"
        "import onnxruntime"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
