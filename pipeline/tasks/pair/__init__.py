"""One of several classes for two texts: paraphrase, entailment, relevance."""

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
        """The most frequent training class, and logistic regression on what two texts share."""
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
    """How much two texts share, which terms they share and in which they differ, and the second
    text by itself, whose words often give a label away (Gururangan et al. 2018): a sparse matrix,
    (pairs, features)."""
    from scipy.sparse import csr_matrix, hstack

    first, second = overlap.weighed(pairs)
    shares = csr_matrix(overlap.shares(pairs))
    return hstack([shares, first.multiply(second), abs(first - second), second]).tocsr()
