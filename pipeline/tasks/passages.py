"""Documents cut into passages that a model reads at once, and passages put together in pairs."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

# behind a full stop, with quotes and brackets that close; Chinese ones need no space; new lines
SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|<)|[。！？…]+[”’」』）]*|\n+")
SEARCHES = 16  # passages that are looked at for sentences of the length that is wanted
NEAR = 0.1  # share by which that length may differ


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
            while len(ids) >= room:
                yield Passage(first, ids[:room], [room])
                ids, first = ids[room:], document
            if not ids:
                first = document + (place == len(tokens) - 1)
    if ids:
        yield Passage(first, ids, [len(ids)])


def paired(
    own: Passage, another: Callable[[], Passage], room: int, random: np.random.Generator
) -> tuple[Sequence[int], Sequence[int], bool]:
    """Two parts of `room` tokens at most together, and whether the second follows the first.

    A passage is parted between two of its sentences; half of the time the second part stays, else
    it is sentences of `another` document, of about as many tokens, for otherwise the length would
    tell them apart.
    """
    ends = list(own.ends) if len(own.ends) > 1 else [len(own.ids) // 2, len(own.ids)]
    split = ends[int(random.integers(len(ends) - 1))]
    first, second = own.ids[:split], own.ids[split:]
    if random.random() < 0.5:
        return first, second, True
    wanted, most = len(second), room - len(first)
    for _ in range(SEARCHES):
        other = another()
        found = [
            (start, end)
            for start, end in product((0, *other.ends[:-1]), other.ends)
            if start < end <= start + most and abs(end - start - wanted) <= NEAR * wanted
        ]
        if found:
            break
    start, end = found[int(random.integers(len(found)))] if found else (0, wanted)
    return first, other.ids[start:end], False
