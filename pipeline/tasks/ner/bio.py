"""Conversion between entities and BIO tags of words: B- begins an entity, I- continues it, O is
outside (Ramshaw and Marcus 1995, in the form called IOB2)."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Place = tuple[int, int]
"""Index of the first character or word, and one past the last."""


class Span(NamedTuple):
    """Entity: index of its first character or word, one past the last, and its type."""

    start: int
    end: int
    type: str


def tags_of(types: Sequence[str]) -> list[str]:
    return ["O", *(f"{mark}-{name}" for name in types for mark in "BI")]


def tagged(places: Sequence[Place], spans: Sequence[Span]) -> list[str]:
    """BIO tags of words, in order. A word that two spans share belongs to the first."""
    starts, ends = [start for start, _ in places], [end for _, end in places]
    tags = ["O"] * len(places)
    for start, end, kind in spans:
        inside = range(bisect_right(ends, start), bisect_left(starts, end))
        for number, word in enumerate(i for i in inside if tags[i] == "O"):
            tags[word] = f"{'I' if number else 'B'}-{kind}"
    return tags


def entities(tags: Sequence[str]) -> list[Span]:
    """Spans of words; an I- that does not continue an entity of its type begins one."""
    found: list[Span] = []
    before = "O"
    for i, tag in enumerate(tags):
        mark, kind = tag[:1], tag[2:]
        if mark == "I" and before != "O" and before[2:] == kind:
            found[-1] = found[-1]._replace(end=i + 1)
        elif mark != "O":
            found.append(Span(i, i + 1, kind))
        before = tag
    return found


def placed(spans: Sequence[Span], places: Sequence[Place]) -> list[Span]:
    """Convert spans of words to spans of characters."""
    return [Span(places[first][0], places[end - 1][1], kind) for first, end, kind in spans]


def best_path(chances: Floats) -> npt.NDArray[np.int64]:
    """Most likely legal sequence of tags, (words, outputs) -> (words,), by the Viterbi algorithm
    with forbidden transitions alone (Lester et al. 2020)."""
    tags = np.arange(chances.shape[1])
    # the order of `outputs`: O, then B and I of each type
    inside = (tags > 0) & (tags % 2 == 0)
    same = (tags[:, None] + 1) // 2 == (tags + 1) // 2
    allowed = ~inside | (same & (tags > 0))  # (before, after)
    best = chances.argmax(1)
    if allowed[np.append(0, best[:-1]), best].all():
        return np.asarray(best)
    forbidden = np.where(allowed, 0.0, -np.inf)
    with np.errstate(divide="ignore"):
        scores = np.log(chances)
    total = np.where(tags == 0, 0.0, -np.inf)  # the start of a text counts as O
    back = np.zeros(chances.shape, dtype=np.int64)
    for i, score in enumerate(scores):
        through = total[:, None] + forbidden
        back[i] = through.argmax(0)
        total = through.max(0) + score
    path = [int(total.argmax())]
    for step in back[:0:-1]:
        path.append(int(step[path[-1]]))
    return np.array(path[::-1])
