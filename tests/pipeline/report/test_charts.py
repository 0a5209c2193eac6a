"""Charts for a page: its colours, its letters, names that do not clash, the same bytes again."""

import re

import pytest

from pipeline.core.records import Interval
from pipeline.registry.records import Comparison
from pipeline.report import charts

NEAR = Interval(value=0.9, low=0.88, high=0.92)
FAR = Interval(value=0.2, low=0.1, high=0.3)


def test_colours_are_the_pages() -> None:
    drawn = charts.calibration([0.5, 0.9], [0.4, 0.95], [10, 90])
    assert "var(--accent)" in drawn
    assert not re.search("#[0-9a-f]{6}", drawn)
    assert "font-family" not in drawn


def test_text_stays_text_and_is_escaped() -> None:
    drawn = charts.slices([("<b>$\\frac{$", NEAR), ("价格 €", NEAR)], 0.9, "exact_match")
    assert "&lt;b&gt;$\\frac{$" in drawn
    assert "价格 €" in drawn
    assert ">exact match, with 95 % intervals<" in drawn


def test_only_what_is_near_the_model_is_drawn_to_scale() -> None:
    near = {"accuracy": NEAR, "macro_f1": NEAR}
    far = {"accuracy": FAR, "macro_f1": FAR}
    drawn = charts.scores([("this model", near), ("majority", far)])
    assert "◂ accuracy 0.200" in drawn
    worse = charts.scores([("this model", far), ("baseline", near)])
    assert "◂" not in worse


def test_a_score_below_zero_is_near_itself() -> None:
    below = {"spearman": Interval(value=-0.1, low=-0.2, high=0.01)}
    assert "◂" not in charts.scores([("this model", below), ("other", below)])


@pytest.mark.parametrize("metrics", [["f1"], ["ndcg@10", "mrr@10", "recall@10", "f1", "accuracy"]])
def test_any_number_of_metrics_is_drawn_and_named(metrics: list[str]) -> None:
    drawn = charts.scores([("this model", dict.fromkeys(metrics, NEAR))])
    curves = charts.progress([1, 2], {name: [0.8, 0.9] for name in metrics})
    for name in metrics:
        told = name.replace("f1", "F1")
        assert f">{told}<" in drawn
        assert f">{told}<" in curves


def test_a_map_names_few_classes_and_crosses_what_is_wrong() -> None:
    places = [float(n) for n in range(40)]
    few = charts.space(places, places, ["a <b>", "c"] * 20, [True] * 39 + [False])
    assert "a &lt;b&gt;" in few
    assert "answered wrongly" in few
    many = charts.space(places, places, [f"class {n}" for n in range(40)], [True] * 40)
    assert "class 1" not in many
    assert "answered wrongly" not in many


def test_the_same_numbers_give_the_same_bytes() -> None:
    first = charts.loss(([1, 2], [3, 2]), ([2], [1.5]), 2)
    assert charts.loss(([1, 2], [3, 2]), ([2], [1.5]), 2) == first


def test_names_of_two_pictures_do_not_clash() -> None:
    one = charts.progress([1, 2], {"accuracy": [0.8, 0.9], "macro_f1": [0.8, 0.9]})
    two = charts.loss(([1, 2], [0.8, 0.9]), ([1, 2], [0.8, 0.9]), 2)
    found = [set(re.findall(' id="([^"]*)"', drawn)) for drawn in (one, two)]
    assert found[0]
    assert found[1]
    assert not found[0] & found[1]


def test_a_long_curve_and_many_classes_stay_small() -> None:
    steps = list(range(200_000))
    curve = charts.loss((steps, [float(s % 7) for s in steps]), ([1], [1]), 1)
    classes = 1000
    matrix = [[(i * j) % 5 for j in range(classes)] for i in range(classes)]
    assert len(curve) < 100_000
    assert len(charts.confusion(matrix)) < 1_500_000


@pytest.mark.parametrize("margin", [0.0, 0.01])
def test_a_comparison_shows_its_margin_where_there_is_one(margin: float) -> None:
    difference = Interval(value=0.01, low=-0.005, high=0.025)
    compared = Comparison(
        metric="accuracy",
        challenger=0.91,
        champion=0.9,
        difference=difference,
        test="exact McNemar",
        p_better=0.1,
        p_worse=0.9,
        detectable=0.03,
    )
    drawn = charts.comparison([compared], margin)
    assert (">margin<" in drawn) == bool(margin)
    assert ">no difference<" in drawn
    assert ">seen 8 times in 10<" in drawn
