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
    from usearch.index import search

    return _found(search(embeddings, queries, k, "cos", exact=True))


def build(blocks: Iterable[Floats], width: int, path: Path, told: Callable[[int], None]) -> None:
    """Write a graph of all rows; `told` hears how many are in it."""
    from usearch.index import Index

    index = Index(
        ndim=width,
        metric="cos",
        dtype="f32",
        connectivity=NEIGHBOURS,
        expansion_add=CANDIDATES,
    )
    for block in blocks:
        keys = np.arange(len(index), len(index) + len(block), dtype=np.uint64)
        index.add(keys, block)
        told(len(index))
    index.save(path)


def opened(path: Path) -> Any:
    """A graph that stays in its file and is read where it is needed."""
    from usearch.index import Index

    return Index.restore(path, view=True, expansion_search=CANDIDATES)


def near(index: Any, queries: Floats, k: int) -> Found:
    return _found(index.search(queries, k))


def _found(matches: Any) -> Found:
    keys = np.atleast_2d(matches.keys)
    return keys, 1 - np.atleast_2d(matches.distances)
