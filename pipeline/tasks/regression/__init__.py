"""Text regression: stars, prices, ages."""

from ..base import Setting, tfidf
from ..base.number import Number, labels_of, mean_label


class Regression(Number):
    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The mean of the training labels, and ridge regression on TF-IDF n-grams."""
        return {
            "mean": [mean_label(on.train.labels)] * len(on.test.texts),
            f"TF-IDF {on.kind} + ridge regression": labels_of(tfidf.regressed(on)),
        }
