"""TF-IDF has features for baselines, however few terms texts share."""

from typing import Any

import pytest

from pipeline.tasks.base.overlap import PAIRED
from pipeline.tasks.base.tfidf import GRAMS, tfidf


@pytest.mark.parametrize("kind", GRAMS)
def test_terms_of_one_text_alone_do_not_count(kind: str) -> None:
    terms = tfidf(["good film", "good match", "bank"], **GRAMS[kind]).get_feature_names_out()
    assert "bank" not in terms
    assert {"words": "good", "characters": "goo"}[kind] in terms


@pytest.mark.parametrize("grams", [GRAMS, PAIRED])
def test_texts_that_share_no_term_have_terms_all_the_same(
    grams: dict[str, dict[str, Any]],
) -> None:
    terms = tfidf(["今天天气很好", "我想退款", "!"], **grams["words"])
    assert set(terms.get_feature_names_out()) == {"今天天气很好", "我想退款", "!"}
