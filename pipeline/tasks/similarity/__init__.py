"""Regression on two texts: similarity, relevance."""

from ..base import Setting
from ..base.number import Number, labels_of, mean_label
from ..base.overlap import Overlap


class Similarity(Number):
    two_texts = True
    symmetric = True

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The mean of the training labels, and ridge regression on overlap features."""
        from sklearn.linear_model import Ridge

        overlap = Overlap(on.train.texts, on.kind)
        regression = Ridge(random_state=on.seed)
        regression.fit(overlap.shares(on.train.texts), list(map(float, on.train.labels)))
        return {
            "mean": [mean_label(on.train.labels)] * len(on.test.texts),
            f"TF-IDF {on.kind} overlap + ridge regression": labels_of(
                regression.predict(overlap.shares(on.test.texts))
            ),
        }
