"""Names of metrics as people say them, and confusions in an order that people can follow."""

import pytest

from pipeline.metrics import names as words


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("accuracy", "accuracy"),
        ("macro_f1", "macro-F1"),
        ("weighted_f1", "weighted-F1"),
        ("entity_f1", "entity F1"),
        ("entity_macro_f1", "entity macro-F1"),
        ("sample_f1", "sample-F1"),
        ("f1", "F1"),
        ("r2", "R²"),
        ("rmse", "root mean squared error"),
        ("exact_match", "exact match"),
        ("ndcg@10", "ndcg@10"),
        ("roc_auc", "area under ROC"),
        ("validation micro_f1", "validation micro-F1"),
        ("validation pr_auc", "validation area under precision-recall"),
    ],
)
def test_a_metric_is_told_in_words(name: str, told: str) -> None:
    assert words.metric(name) == told


@pytest.mark.parametrize(
    ("value", "told"), [(0.5, "0.5000"), (1.0, "1.0000"), (1532.0, "1,532"), (1.5, "1.5000")]
)
def test_a_number_is_a_count_only_where_it_can_be_no_score(value: float, told: str) -> None:
    assert words.number(value) == told


def test_confusions_follow_the_classes_and_end_with_nothing() -> None:
    found = {"b": {"b": 5, "": 2}, "": {"a": 1}, "zoo": {"b": 3}}
    names, counts = words.confusion(found, ["b", "a"])
    assert [words.confused(name) for name in names] == ["b", "a", "zoo", "nothing"]
    assert counts == [[5, 0, 0, 2], [0, 0, 0, 0], [3, 0, 0, 0], [0, 1, 0, 0]]
