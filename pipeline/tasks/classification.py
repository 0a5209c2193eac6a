"""One of several classes for a text: topics, sentiments, intents."""

from collections import Counter
from collections.abc import Sequence

from . import Labelled
from .single_label import SingleLabel


class Classification(SingleLabel):
    def baselines(
        self,
        train: Labelled,
        validation: Labelled,
        test: Labelled,
        classes: Sequence[str],
        kind: str,
        seed: int,
    ) -> dict[str, list[str]]:
        """The most frequent training class, and logistic regression on TF-IDF n-grams."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        if kind == "words":
            grams = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2))
        else:
            grams = TfidfVectorizer(
                sublinear_tf=True, min_df=2, ngram_range=(1, 3), analyzer="char"
            )
        regression = make_pipeline(grams, LogisticRegression(C=10, max_iter=1000))
        regression.fit([text for text, _ in train.texts], train.labels)
        tally = Counter(train.labels)
        majority = max(classes, key=lambda name: tally[name])
        return {
            "majority class": [majority] * len(test.texts),
            f"TF-IDF {kind} + logistic regression": list(
                map(str, regression.predict([text for text, _ in test.texts]))
            ),
        }
