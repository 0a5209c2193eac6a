"""Nearest neighbours by cosine similarity with usearch, exact or with a graph
(https://unum-cloud.github.io/usearch)."""

from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Matches = tuple[Iterable[npt.NDArray[Any]], Iterable[Floats]]
"""Row numbers and cosine similarities of each query, (k,), nearest first."""
# settings of the graph, an HNSW (Malkov and Yashunin 2018)
NEIGHBOURS = 32  # of a row
CANDIDATES = 256  # rows examined when a row is added and for each query
# first rows, which one thread adds: threads that add to a small graph at once do not see each
# other's rows, and some of these stay out of reach
FIRST = 2000
GRAPH, ROWS, STARTS = "index.usearch", "rows.npy", "starts.npy"


def exact(embeddings: Floats, queries: Floats, k: int) -> Matches:
    """Compare each query with every row of `embeddings`, (rows, width)."""
    return _matches(_usearch().search(embeddings, queries, k, "cos", exact=True))


def build(
    blocks: Callable[[], Iterable[Floats]],
    width: int,
    folder: Path,
    progress: Callable[[int], None],
) -> None:
    """Write a graph of all rows to `folder`.

    `blocks` yields the rows from the first on, each time it is called. `progress` is called with
    the number of rows added so far. Rows that are equal to three decimals are one node: many copies
    of a text would have only each other as neighbours and hide all other rows.
    """
    digests = np.concatenate([_digests(block) for block in blocks()])
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
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
    start = 0
    for block in blocks():
        end = start + len(block)
        nodes = group[start:end]
        new = first[nodes] == np.arange(start, end)
        keys, added = nodes[new].astype(np.uint64), block[new]
        alone = max(0, FIRST - len(graph))
        graph.add(keys[:alone], added[:alone], threads=1)
        graph.add(keys[alone:], added[alone:])
        start = end
        progress(end)
    graph.save(folder / GRAPH)


def _digests(rows: Floats) -> npt.NDArray[np.uint64]:
    """Hash each row after scaling it to length 1 and rounding it to three decimals."""
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    rounded = np.rint(1000 * rows / lengths).astype(np.int16)
    digests = (blake2b(row.tobytes(), digest_size=8).digest() for row in rounded)
    return np.frombuffer(b"".join(digests), np.uint64)


class Graph:
    """Graph that `build` wrote, mapped into memory from its files."""

    def __init__(self, folder: Path) -> None:
        self.graph = _usearch().Index.restore(
            folder / GRAPH, view=True, expansion_search=CANDIDATES
        )
        self.rows, self.starts = (np.load(folder / name, mmap_mode="r") for name in (ROWS, STARTS))

    def near(self, queries: Floats, k: int) -> Matches:
        """Return the nearest rows of each query; equal rows are in the order of the file."""
        rows: list[npt.NDArray[Any]] = []
        similarities: list[Floats] = []
        for keys, values in zip(*_matches(self.graph.search(queries, k)), strict=True):
            groups = [self.rows[self.starts[i] : self.starts[i + 1]] for i in map(int, keys)]
            rows.append(np.concatenate(groups)[:k])
            similarities.append(np.repeat(values, [len(group) for group in groups])[:k])
        return rows, similarities


def _matches(found: Any) -> Matches:
    return np.atleast_2d(found.keys), 1 - np.atleast_2d(found.distances)


def _usearch() -> Any:
    # usearch 2.26 bundles a C++ library; if no other was loaded before, a later import of ONNX
    # Runtime crashes, so pyarrow's is loaded first
    import pyarrow  # noqa: F401
    from usearch import index

    return index
