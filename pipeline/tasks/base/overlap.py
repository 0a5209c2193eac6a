"""Overlap of two texts: features for the baselines of text pairs."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import Floats
from .encoding import Texts
from .tfidf import tfidf

PAIRED: dict[str, dict[str, Any]] = {  # TF-IDF of pairs, where words of one letter count
    "words": {"ngram_range": (1, 2), "token_pattern": r"\w+"},
    "characters": {"ngram_range": (1, 2), "analyzer": "char"},
}
COMMON = {  # n-grams that are compared
    "words": (*(("words", n) for n in (1, 2, 3)), *(("characters", n) for n in (2, 3, 4, 5))),
    "characters": tuple(("characters", n) for n in (1, 2, 3, 4)),
}


class Overlap:
    """Overlap features of two texts, standardized on training texts."""

    def __init__(self, train: Sequence[Texts], kind: str) -> None:
        from sklearn.preprocessing import StandardScaler

        self.kind = kind
        self.terms = tfidf([text for pair in train for text in pair], **PAIRED[kind])
        self.scale = StandardScaler().fit(self._shares(train))

    def weighed(self, pairs: Sequence[Texts]) -> list[Any]:
        """TF-IDF of the first and of the second texts, (pairs, terms) each."""
        return [self.terms.transform(texts) for texts in zip(*pairs, strict=True)]

    def shares(self, pairs: Sequence[Texts]) -> Floats:
        """Standardized overlap features, (pairs, features)."""
        return np.asarray(self.scale.transform(self._shares(pairs)))

    def _shares(self, pairs: Sequence[Texts]) -> Floats:
        first, second = self.weighed(pairs)
        cosines = np.asarray(first.multiply(second).sum(1))  # TF-IDF rows have length 1
        return np.hstack([cosines, [list(_shares(*pair, self.kind)) for pair in pairs]])


def _shares(first: str, second: str, kind: str) -> Iterator[float]:
    """Share of common n-grams of two texts among all (Jaccard), among each text's and among the
    shorter's (containment, Broder 1997); then features of their lengths."""
    for unit, size in COMMON[kind]:
        mine, others = (set(_grams(_units(text, unit), size)) for text in (first, second))
        common, lengths = len(mine & others), (len(mine), len(others))
        for whole in (sum(lengths) - common, *lengths, min(lengths)):
            yield common / max(whole, 1)
    a, b = len(first), len(second)
    difference = (a - b) / max(a, b, 1)
    yield from (difference, abs(difference), math.log(a + b + 1))


def _units(text: str, kind: str) -> list[str]:
    text = text.lower()
    return re.findall(r"\w+", text) if kind == "words" else list(text)


def _grams(units: Sequence[str], size: int) -> Iterator[str]:
    return (" ".join(units[i : i + size]) for i in range(len(units) - size + 1))
