"""A number for a pair of texts: how alike, how relevant."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import Floats, Labelled
from .encoding import Texts
from .number import Number, labels_of, mean_label


class PairScore(Number):
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
        """The mean of the training labels, and ridge regression on how much two texts share: the
        cosine of their TF-IDF vectors, and of their n-grams the shares that both have."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if kind == "words":
            grams = TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
        else:
            grams = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 3), analyzer="char")
        grams.fit([text for pair in train.texts for text in pair])
        regression = make_pipeline(StandardScaler(), Ridge(random_state=seed))
        regression.fit(_shared(grams, train.texts), list(map(float, train.labels)))
        return {
            "mean": [mean_label(train.labels)] * len(test.texts),
            f"TF-IDF {kind} overlap + ridge regression": labels_of(
                regression.predict(_shared(grams, test.texts))
            ),
        }


def _shared(grams: Any, pairs: Sequence[Texts]) -> Floats:
    """Of each pair: cosine, the n-grams of both over those of either, of the first, and of the
    second, and the logarithm of how much longer one is, (pairs, 5)."""
    first, second = (grams.transform([pair[side] for pair in pairs]) for side in (0, 1))
    cosine = np.asarray(first.multiply(second).sum(axis=1)).ravel()
    both = (first > 0).multiply(second > 0).getnnz(axis=1)
    one, other = first.getnnz(axis=1), second.getnnz(axis=1)
    longer = np.abs(np.log([(1 + len(a)) / (1 + len(b)) for a, b in pairs]))
    shares = (both / np.maximum(size, 1) for size in (one + other - both, one, other))
    return np.column_stack([cosine, *shares, longer])
