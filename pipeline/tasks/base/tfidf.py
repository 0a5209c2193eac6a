"""TF-IDF baselines: linear models on n-grams."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import Setting

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

MOST_NUMBERS = 5_000_000  # weights of a linear model
GRAMS: dict[str, dict[str, Any]] = {
    "words": {"ngram_range": (1, 2)},
    "characters": {"ngram_range": (1, 3), "analyzer": "char"},
}


def tfidf(texts: Sequence[str], **shape: Any) -> "TfidfVectorizer":
    """Vectorizer fitted to the terms that at least two texts share, or to all terms if none is
    shared (a few lines of Chinese split at spaces) or no text has a word (emoji alone)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        return TfidfVectorizer(sublinear_tf=True, min_df=2, **shape).fit(texts)
    except ValueError:  # no terms left
        rest = {} if "analyzer" in shape else {"token_pattern": r"\S+"}
        return TfidfVectorizer(sublinear_tf=True, **shape | rest).fit(texts)


def classified(on: Setting) -> list[str]:
    """Classes of the test texts by logistic regression on TF-IDF n-grams, of many classes on the
    most frequent ones: the optimiser needs 25 numbers for each class and n-gram."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=10, max_iter=1000)
    classes = len(set(on.train.labels))
    return list(map(str, _predicted(model, on, on.train.labels, MOST_NUMBERS // max(classes, 1))))


def regressed(on: Setting) -> Any:
    """Numbers of the test texts by ridge regression on TF-IDF n-grams, (rows,)."""
    from sklearn.linear_model import Ridge

    return _predicted(Ridge(random_state=on.seed), on, list(map(float, on.train.labels)))


def _predicted(model: Any, on: Setting, targets: Sequence[Any], most: int = MOST_NUMBERS) -> Any:
    """Predictions of a model on the test texts, from the `most` frequent n-grams."""
    texts = [text for text, _ in on.train.texts]
    terms = tfidf(texts, **GRAMS[on.kind], max_features=max(most, 1))
    model.fit(terms.transform(texts), targets)
    return model.predict(terms.transform(text for text, _ in on.test.texts))
