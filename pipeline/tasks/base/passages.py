"""Documents cut into passages that a model reads at once, and passages put together in pairs."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

# behind a full stop, with quotes and brackets that close; Chinese ones need no space; new lines
SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|<)|[。！？…]+[”’」』）]*|\n+")
SEARCHES = 16  # passages that are looked at for an end of the length that is wanted
NEAR = 0.15  # share by which that length may differ
LEAST = 0.25  # share of a passage that each of its two parts has at least


@dataclass(frozen=True)
class Passage:
    """A part of a document, without special tokens."""

    document: int | str
    ids: Sequence[int]
    ends: Sequence[int]
    """One past the last token of each of its sentences."""


def sentences(text: str) -> list[str]:
    """A text's sentences, by their marks alone."""
    bounds = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
    found = (text[start:end].strip() for start, end in pairwise(bounds))
    return [sentence for sentence in found if sentence]


def passages(document: int, tokens: Sequence[Sequence[int]], room: int) -> Iterator[Passage]:
    """Whole sentences, as many as fit into `room` tokens; a longer one is cut."""
    ids: list[int] = []
    ends: list[int] = []
    for sentence in tokens:
        for start in range(0, len(sentence), room):
            part = sentence[start : start + room]
            if len(ids) + len(part) > room:
                yield Passage(document, ids, ends)
                ids, ends = [], []
            ids = [*ids, *part]
            ends = [*ends, len(ids)]
    if ids:
        yield Passage(document, ids, ends)


def packed(
    documents: Iterable[Sequence[Sequence[int]]], room: int, separator: int
) -> Iterator[Passage]:
    """Full passages: a document begins where the one before it ends, behind a separator, as
    FULL-SENTENCES of Liu et al. 2019; only the last is shorter. A passage is of the document
    that it begins with."""
    ids: list[int] = []
    first = 0
    for document, tokens in enumerate(documents):
        for place, sentence in enumerate(tokens):
            ids += [separator, *sentence] if ids and not place else sentence
            full = len(ids) - len(ids) % room
            for start in range(0, full, room):
                yield Passage(first, ids[start : start + room], [room])
                first = document
            ids = ids[full:]
            if not ids:
                first = document + (place == len(tokens) - 1)
    if ids:
        yield Passage(first, ids, [len(ids)])


def paired(
    own: Passage, another: Callable[[], Passage], room: int, random: np.random.Generator
) -> tuple[Sequence[int], Sequence[int], bool] | None:
    """Two parts of `room` tokens at most together, and whether the second follows the first; None
    where there are no two.

    A passage is parted between two of its sentences, away from its ends, for a single sentence
    tells little of what it follows. Half of the time the second part stays, else it is the end of
    a passage of `another` document, from one of its sentences on. Neither length nor form shall
    tell the two apart: so that end is looked for before it is drawn whether it is wanted, and
    differs in length by no more than there is room for, one way or the other.
    """
    size = len(own.ids)
    splits = [end for end in own.ends if LEAST * size <= end <= (1 - LEAST) * size]
    if not splits:
        return None
    left = room - size
    for _ in range(SEARCHES):
        other = another()
        found = [
            (split, start)
            for split, start in product(splits, other.ends[:-1])
            if abs(len(other.ids) - start - (size - split)) <= min(left, NEAR * (size - split))
        ]
        if found:
            split, start = found[int(random.integers(len(found)))]
            truth = bool(random.random() < 0.5)
            return own.ids[:split], own.ids[split:] if truth else other.ids[start:], truth
    return None
