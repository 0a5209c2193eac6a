"""usearch: nearest neighbours by cosine, exact or by a graph
(https://unum-cloud.github.io/usearch)."""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Found = tuple[Iterable[npt.NDArray[Any]], Iterable[Floats]]
"""Places and cosine similarities of each query, (k,), the nearest first."""
# of the graph, an HNSW (Malkov and Yashunin 2018)
NEIGHBOURS = 32  # of a row
CANDIDATES = 256  # looked at for a row that is added, and for a query
GRAPH, ROWS, STARTS = "index.usearch", "rows.npy", "starts.npy"


def exact(embeddings: Floats, queries: Floats, k: int) -> Found:
    """Compares with every row of (rows, width)."""
    return _found(_usearch().search(embeddings, queries, k, "cos", exact=True))


def build(
    blocks: Callable[[], Iterable[Floats]], width: int, folder: Path, told: Callable[[int], None]
) -> None:
    """Write a graph of all rows, which `blocks` gives from the first on; `told` hears how many are
    in it.

    Rows that are alike to three decimals stand in it once: many copies of a text would be one
    another's only neighbours, and nothing else found.
    """
    alike = np.concatenate([_digests(block) for block in blocks()])
    _, first, group = np.unique(alike, return_index=True, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(first) + 1))
    np.save(folder / ROWS, order)
    np.save(folder / STARTS, starts)
    graph = _usearch().Index(
        ndim=width,
        metric="cos",
        dtype="f32",
        connectivity=NEIGHBOURS,
        expansion_add=CANDIDATES,
    )
    place = 0
    for block in blocks():
        own = group[place : place + len(block)]
        new = first[own] == np.arange(place, place + len(block))
        graph.add(own[new].astype(np.uint64), block[new])
        place += len(block)
        told(place)
    graph.save(folder / GRAPH)


def _digests(rows: Floats) -> npt.NDArray[np.uint64]:
    """Of each row's direction, to three decimals."""
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    rounded = np.rint(1000 * rows / lengths).astype(np.int16)
    digests = (blake2b(row.tobytes(), digest_size=8).digest() for row in rounded)
    return np.frombuffer(b"".join(digests), np.uint64)


class Graph:
    """What `build` has written; it stays in its files, which are mapped into memory."""

    def __init__(self, folder: Path) -> None:
        self.graph = _usearch().Index.restore(
            folder / GRAPH, view=True, expansion_search=CANDIDATES
        )
        self.rows, self.starts = (np.load(folder / name, mmap_mode="r") for name in (ROWS, STARTS))

    def near(self, queries: Floats, k: int) -> Found:
        """Of rows that stand in it once, the first of the file come first."""
        places: list[npt.NDArray[Any]] = []
        similarities: list[Floats] = []
        for keys, values in zip(*_found(self.graph.search(queries, k)), strict=True):
            groups = [self.rows[self.starts[key] :][: self._size(key)] for key in map(int, keys)]
            places.append(np.concatenate(groups)[:k])
            similarities.append(np.repeat(values, [len(group) for group in groups])[:k])
        return places, similarities

    def _size(self, group: int) -> int:
        return int(self.starts[group + 1] - self.starts[group])


def _found(matches: Any) -> Found:
    keys = np.atleast_2d(matches.keys)
    return keys, 1 - np.atleast_2d(matches.distances)


def _usearch() -> Any:
    """usearch 2.26 has a C++ library within it. Where no other was loaded before, ONNX Runtime's
    import crashes later: so the one that pyarrow uses goes first."""
    import pyarrow  # noqa: F401
    from usearch import index

    return index
