"""A number for a text: stars, prices, ages."""

from collections.abc import Sequence

from . import Labelled
from .encoding import Encoder
from .number import Number, labels_of, mean_label
from .terms import GRAMS, tfidf


class Regression(Number):
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
        """The mean of the training labels, and ridge regression on TF-IDF n-grams."""
        from sklearn.linear_model import Ridge

        texts = [text for text, _ in train.texts]
        terms = tfidf(texts, **GRAMS[kind])
        regression = Ridge(random_state=seed)
        regression.fit(terms.transform(texts), list(map(float, train.labels)))
        return {
            "mean": [mean_label(train.labels)] * len(test.texts),
            f"TF-IDF {kind} + ridge regression": labels_of(
                regression.predict(terms.transform(text for text, _ in test.texts))
            ),
        }
