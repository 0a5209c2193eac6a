"""One of several classes for a text: topics, sentiments, intents."""

from collections import Counter

from ..base import Setting
from ..base.single_label import SingleLabel
from ..base.terms import GRAMS, tfidf


class Classification(SingleLabel):
    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The most frequent training class, and logistic regression on TF-IDF n-grams."""
        from sklearn.linear_model import LogisticRegression

        texts = [text for text, _ in on.train.texts]
        terms = tfidf(texts, **GRAMS[on.kind])
        regression = LogisticRegression(C=10, max_iter=1000)
        regression.fit(terms.transform(texts), on.train.labels)
        tally = Counter(on.train.labels)
        majority = max(on.classes, key=lambda name: tally[name])
        return {
            "majority class": [majority] * len(on.test.texts),
            f"TF-IDF {on.kind} + logistic regression": list(
                map(str, regression.predict(terms.transform(text for text, _ in on.test.texts)))
            ),
        }
