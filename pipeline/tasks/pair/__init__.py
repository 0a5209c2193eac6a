"""Classification of two texts with one class a pair: paraphrase, entailment, relevance."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ..base import Setting
from ..base.encoding import Texts
from ..base.overlap import Overlap
from ..base.single_label import SingleLabel


class Pair(SingleLabel):
    two_texts = True
    symmetric = True

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The most frequent training class, and logistic regression on overlap features."""
        from sklearn.linear_model import LogisticRegression

        tally = Counter(on.train.labels)
        majority = max(on.classes, key=lambda name: tally[name])
        overlap = Overlap(on.train.texts, on.kind)
        regression = LogisticRegression(max_iter=1000, tol=1e-3)
        regression.fit(_features(overlap, on.train.texts), on.train.labels)
        return {
            "majority class": [majority] * len(on.test.texts),
            f"overlap + TF-IDF {on.kind} + logistic regression": list(
                map(str, regression.predict(_features(overlap, on.test.texts)))
            ),
        }


def _features(overlap: Overlap, pairs: Sequence[Texts]) -> Any:
    """Sparse matrix (pairs, features): overlap, common terms, differing terms, and the terms of the
    second text alone, which often give a label away (Gururangan et al. 2018)."""
    from scipy.sparse import csr_matrix, hstack

    first, second = overlap.weighed(pairs)
    shares = csr_matrix(overlap.shares(pairs))
    return hstack([shares, first.multiply(second), abs(first - second), second]).tocsr()
