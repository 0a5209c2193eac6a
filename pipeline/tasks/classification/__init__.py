"""Text classification with one class a text: topics, sentiments, intents."""

from collections import Counter

from ..base import Setting, tfidf
from ..base.single_label import SingleLabel


class Classification(SingleLabel):
    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The most frequent training class, and logistic regression on TF-IDF n-grams."""
        tally = Counter(on.train.labels)
        majority = max(on.classes, key=lambda name: tally[name])
        return {
            "majority class": [majority] * len(on.test.texts),
            f"TF-IDF {on.kind} + logistic regression": tfidf.classified(on),
        }
