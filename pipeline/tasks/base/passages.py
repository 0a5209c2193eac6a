"""Documents cut into passages of the model's length, and passages combined into pairs."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

# full stops with closing quotes and brackets (Chinese ones need no space behind), and line breaks
SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|<)|[。！？…]+[”’」』）]*|\n+")
SEARCHES = 16  # passages that are searched for a second part of matching length
NEAR = 0.15  # relative difference of length that matches
LEAST = 0.25  # minimum share of a passage in each of its two parts


@dataclass(frozen=True)
class Passage:
    """Part of a document, without special tokens."""

    document: int | str
    ids: Sequence[int]
    ends: Sequence[int]
    """One past the last token of each of its sentences."""


def sentences(text: str) -> list[str]:
    """Sentences of a text, split at punctuation."""
    bounds = [0, *(match.end() for match in SENTENCE_END.finditer(text)), len(text)]
    found = (text[start:end].strip() for start, end in pairwise(bounds))
    return [sentence for sentence in found if sentence]


def passages(document: int, tokens: Sequence[Sequence[int]], room: int) -> Iterator[Passage]:
    """Passages of as many whole sentences as fit into `room` tokens; a longer one is cut."""
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
    """Passages of `room` tokens that run across documents, separated by `separator`, as in
    FULL-SENTENCES of Liu et al. 2019; only the last is shorter. A passage belongs to the document
    it begins with."""
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
    """Split a passage into two parts of at most `room` tokens together; return them and whether the
    second follows the first, or None if there is no split.

    The split lies between two sentences, away from the ends of the passage. With probability 0.5
    the second part stays; otherwise it is replaced by the end of a passage of `another` document,
    from the start of a sentence on. The replacement is found before this is drawn, and its length
    differs by no more than `room` allows, so length does not give the label away.
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
