"""A number for a text: stars, prices, ages."""

from collections.abc import Sequence

from . import Labelled
from .number import Number, labels_of, mean_label


class Regression(Number):
    def baselines(
        self,
        train: Labelled,
        validation: Labelled,
        test: Labelled,
        classes: Sequence[str],
        kind: str,
        seed: int,
    ) -> dict[str, list[str]]:
        """The mean of the training labels, and ridge regression on TF-IDF n-grams."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline

        if kind == "words":
            grams = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2))
        else:
            grams = TfidfVectorizer(
                sublinear_tf=True, min_df=2, ngram_range=(1, 3), analyzer="char"
            )
        regression = make_pipeline(grams, Ridge(random_state=seed))
        regression.fit([text for text, _ in train.texts], list(map(float, train.labels)))
        return {
            "mean": [mean_label(train.labels)] * len(test.texts),
            f"TF-IDF {kind} + ridge regression": labels_of(
                regression.predict([text for text, _ in test.texts])
            ),
        }
