"""One of several classes for two texts: paraphrase, entailment, relevance."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import Floats, Labelled
from .encoding import Texts
from .single_label import SingleLabel
from .terms import tfidf

COMMON = {  # n-grams whose common share is looked at
    "words": (*(("words", n) for n in (1, 2, 3)), *(("characters", n) for n in (2, 3, 4, 5))),
    "characters": tuple(("characters", n) for n in (1, 2, 3, 4)),
}


class Pair(SingleLabel):
    two_texts = True

    def baselines(
        self,
        train: Labelled,
        validation: Labelled,
        test: Labelled,
        classes: Sequence[str],
        kind: str,
        seed: int,
    ) -> dict[str, list[str]]:
        """The most frequent training class, and logistic regression on what two texts share."""
        from sklearn.linear_model import LogisticRegression

        tally = Counter(train.labels)
        majority = max(classes, key=lambda name: tally[name])
        features = _Features(train.texts, kind)
        regression = LogisticRegression(max_iter=1000, tol=1e-3)
        regression.fit(features.of(train.texts), train.labels)
        return {
            "majority class": [majority] * len(test.texts),
            f"overlap + TF-IDF {kind} + logistic regression": list(
                map(str, regression.predict(features.of(test.texts)))
            ),
        }


class _Features:
    """What a linear model sees of two texts: how much they share, which terms they share and in
    which they differ, and the second text by itself, whose words often give a label away
    (Gururangan et al. 2018)."""

    def __init__(self, train: Sequence[Texts], kind: str) -> None:
        from sklearn.preprocessing import StandardScaler

        self.kind = kind
        self.terms = tfidf(
            [text for pair in train for text in pair],
            analyzer=lambda text: [
                gram for size in (1, 2) for gram in _grams(_units(text, kind), size)
            ],
        )
        self.scale = StandardScaler().fit(self._shares(train))

    def of(self, pairs: Sequence[Texts]) -> Any:
        """A sparse matrix, (pairs, features)."""
        from scipy.sparse import csr_matrix, hstack

        first, second = self._weighed(pairs)
        shares = csr_matrix(self.scale.transform(self._shares(pairs)))
        return hstack([shares, first.multiply(second), abs(first - second), second]).tocsr()

    def _weighed(self, pairs: Sequence[Texts]) -> list[Any]:
        return [self.terms.transform(texts) for texts in zip(*pairs, strict=True)]

    def _shares(self, pairs: Sequence[Texts]) -> Floats:
        first, second = self._weighed(pairs)
        cosines = np.asarray(first.multiply(second).sum(1))  # TF-IDF rows have length 1
        return np.hstack([cosines, [list(_shares(*pair, self.kind)) for pair in pairs]])


def _units(text: str, kind: str) -> list[str]:
    text = text.lower()
    return re.findall(r"\w+", text) if kind == "words" else list(text)


def _grams(units: Sequence[str], size: int) -> Iterator[str]:
    return (" ".join(units[i : i + size]) for i in range(len(units) - size + 1))


def _shares(first: str, second: str, kind: str) -> Iterator[float]:
    """Of the n-grams of two texts, the share that is common to both: of all (Jaccard), of each
    text's and of the shorter's (containment, Broder 1997); then their lengths."""
    for unit, size in COMMON[kind]:
        mine, others = (set(_grams(_units(text, unit), size)) for text in (first, second))
        common, lengths = len(mine & others), (len(mine), len(others))
        for whole in (sum(lengths) - common, *lengths, min(lengths)):
            yield common / max(whole, 1)
    a, b = len(first), len(second)
    difference = (a - b) / max(a, b, 1)
    yield from (difference, abs(difference), math.log(a + b + 1))
