"""One of several classes for a text: topics, sentiments, intents."""

from collections import Counter
from collections.abc import Sequence

from . import Labelled
from .encoding import Encoder
from .single_label import SingleLabel
from .terms import GRAMS, tfidf


class Classification(SingleLabel):
    def baselines(
        self,
        train: Labelled,
        validation: Labelled,
        test: Labelled,
        classes: Sequence[str],
        kind: str,
        seed: int,
        encoder: Encoder,
    ) -> dict[str, list[str]]:
        """The most frequent training class, and logistic regression on TF-IDF n-grams."""
        from sklearn.linear_model import LogisticRegression

        texts = [text for text, _ in train.texts]
        terms = tfidf(texts, **GRAMS[kind])
        regression = LogisticRegression(C=10, max_iter=1000)
        regression.fit(terms.transform(texts), train.labels)
        tally = Counter(train.labels)
        majority = max(classes, key=lambda name: tally[name])
        return {
            "majority class": [majority] * len(test.texts),
            f"TF-IDF {kind} + logistic regression": list(
                map(str, regression.predict(terms.transform(text for text, _ in test.texts)))
            ),
        }
