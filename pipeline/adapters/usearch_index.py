"""usearch: nearest neighbours by cosine, exact or by a graph
(https://unum-cloud.github.io/usearch)."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Found = tuple[npt.NDArray[np.uint64], Floats]
"""Places and cosine similarities, (queries, k), the nearest first."""
# of the graph, an HNSW (Malkov and Yashunin 2018)
NEIGHBOURS = 32  # of a row
CANDIDATES = 256  # looked at for a row that is added, and for a query


def exact(embeddings: Floats, queries: Floats, k: int) -> Found:
    """Compares with every row of (rows, width)."""
    return _found(_usearch().search(embeddings, queries, k, "cos", exact=True))


def build(blocks: Iterable[Floats], width: int, path: Path, told: Callable[[int], None]) -> None:
    """Write a graph of all rows; `told` hears how many are in it."""
    graph = _usearch().Index(
        ndim=width,
        metric="cos",
        dtype="f32",
        connectivity=NEIGHBOURS,
        expansion_add=CANDIDATES,
    )
    for block in blocks:
        keys = np.arange(len(graph), len(graph) + len(block), dtype=np.uint64)
        graph.add(keys, block)
        told(len(graph))
    graph.save(path)


def opened(path: Path) -> Any:
    """A graph that stays in its file, which is mapped into memory."""
    return _usearch().Index.restore(path, view=True, expansion_search=CANDIDATES)


def near(graph: Any, queries: Floats, k: int) -> Found:
    """Follows a graph."""
    return _found(graph.search(queries, k))


def _found(matches: Any) -> Found:
    keys = np.atleast_2d(matches.keys)
    return keys, 1 - np.atleast_2d(matches.distances)


def _usearch() -> Any:
    """usearch 2.26 has a C++ library within it. Where no other was loaded before, ONNX Runtime's
    import crashes later: so the one that pyarrow uses goes first."""
    import pyarrow  # noqa: F401
    from usearch import index

    return index
