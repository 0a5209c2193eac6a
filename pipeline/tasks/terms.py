"""TF-IDF of texts, which baselines learn from."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

GRAMS: dict[str, dict[str, Any]] = {
    "words": {"ngram_range": (1, 2)},
    "characters": {"ngram_range": (1, 3), "analyzer": "char"},
}


def tfidf(texts: Sequence[str], **shape: Any) -> "TfidfVectorizer":
    """Fitted to the terms that two texts or more have; to all where no term is shared, as in a few
    lines of Chinese cut into words at spaces."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        return TfidfVectorizer(sublinear_tf=True, min_df=2, **shape).fit(texts)
    except ValueError:  # none is left
        rest = {} if "analyzer" in shape else {"token_pattern": r"\S+"}
        return TfidfVectorizer(sublinear_tf=True, **shape, **rest).fit(texts)
