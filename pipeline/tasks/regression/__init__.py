"""A number for a text: stars, prices, ages."""

from ..base import Setting
from ..base.number import Number, labels_of, mean_label
from ..base.terms import GRAMS, tfidf


class Regression(Number):
    def baselines(self, on: Setting) -> dict[str, list[str]]:
        """The mean of the training labels, and ridge regression on TF-IDF n-grams."""
        from sklearn.linear_model import Ridge

        texts = [text for text, _ in on.train.texts]
        terms = tfidf(texts, **GRAMS[on.kind])
        regression = Ridge(random_state=on.seed)
        regression.fit(terms.transform(texts), list(map(float, on.train.labels)))
        return {
            "mean": [mean_label(on.train.labels)] * len(on.test.texts),
            f"TF-IDF {on.kind} + ridge regression": labels_of(
                regression.predict(terms.transform(text for text, _ in on.test.texts))
            ),
        }
