"""Charts for a page: its colours, its letters, names that do not clash, the same bytes again."""

import re

import pytest

from pipeline.adapters import charts
from pipeline.records import Comparison, Interval

NEAR = Interval(value=0.9, low=0.88, high=0.92)
FAR = Interval(value=0.2, low=0.1, high=0.3)


def test_colours_are_the_pages() -> None:
    drawn = charts.calibration([0.5, 0.9], [0.4, 0.95], [10, 90])
    assert "var(--accent)" in drawn
    assert not re.search("#[0-9a-f]{6}", drawn)
    assert "font-family" not in drawn


def test_text_stays_text_and_is_escaped() -> None:
    drawn = charts.slices([("<b>$\\frac{$", NEAR), ("价格 €", NEAR)], 0.9)
    assert "&lt;b&gt;$\\frac{$" in drawn
    assert "价格 €" in drawn


def test_only_what_is_near_the_model_is_drawn_to_scale() -> None:
    drawn = charts.scores([("this model", NEAR, NEAR), ("majority", FAR, FAR)])
    assert "◂ accuracy 0.200" in drawn
    worse = charts.scores([("this model", FAR, FAR), ("baseline", NEAR, NEAR)])
    assert "◂" not in worse


def test_the_same_numbers_give_the_same_bytes() -> None:
    first = charts.loss(([1, 2], [3, 2]), ([2], [1.5]), 2)
    assert charts.loss(([1, 2], [3, 2]), ([2], [1.5]), 2) == first


def test_names_of_two_pictures_do_not_clash() -> None:
    one = charts.progress([1, 2], [0.8, 0.9], [0.8, 0.9])
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
