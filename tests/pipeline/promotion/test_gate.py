"""The gate is a pure function: each of its answers, and why."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.config import parse, read_recipe
from pipeline.errors import UserError
from pipeline.promotion import paired
from pipeline.promotion.gate import GateParams, Question, Rails, Side, judge
from pipeline.records import Verdict
from tests.conftest import ROOT

LABELS = ["a", "b"]
TRUTH = LABELS * 200
NO_RAILS = Rails(**dict.fromkeys(Rails.model_fields))  # type: ignore[arg-type]
PARAMS = GateParams(
    floor_accuracy=0.6,
    floor_macro_f1=0.5,
    metrics=["accuracy"],
    margin=0.0,
    error_rate=0.05,
    fewest_rows=100,
    fewest_discordant=6,
    epoch_rows=100,
    approve=False,
    seed=17,
    rails=NO_RAILS,
)


def wrong_on(places: Sequence[int], version: str = "8", sure: float = 0.9, **facts: Any) -> Side:
    """A version that is wrong at these places."""
    scores = np.full((len(TRUTH), 2), 1 - sure, dtype=np.float32)
    for row, label in enumerate(TRUTH):
        scores[row, LABELS.index(label) ^ (row in set(places))] = sure
    return Side(**({"version": version, "labels": LABELS, "scores": scores} | facts))


def ask(
    challenger: Side,
    champion: Side | None,
    params: GateParams = PARAMS,
    truth: Sequence[str] = TRUTH,
    **facts: Any,
) -> Verdict:
    ids = [str(i) for i in range(len(truth))]
    return judge(params, Question("toy", LABELS, ids, truth, challenger, champion, **facts))


def decide(challenger: Side, champion: Side | None, **facts: Any) -> tuple[str, str]:
    verdict = ask(challenger, champion, **facts)
    return verdict.decision, verdict.reason


def with_(**changes: Any) -> GateParams:
    return PARAMS.model_copy(update=changes)


def rails(**limits: float) -> GateParams:
    return with_(rails=NO_RAILS.model_copy(update=limits))


def test_without_a_champion_the_floors_decide() -> None:
    assert decide(wrong_on([1]), None)[0] == "promote"
    decision, reason = decide(wrong_on(range(180)), None)
    assert (decision, reason) == ("reject", "test accuracy 0.5500 is below the floor 0.6")


def test_one_class_answered_alone_falls_below_the_f1_floor() -> None:
    truth = ["a"] * 360 + ["b"] * 40
    answers = Side("8", LABELS, np.tile(np.float32([0.9, 0.1]), (400, 1)))
    verdict = ask(answers, None, truth=truth)
    assert verdict.decision == "reject"
    assert "macro-F1" in verdict.reason


def test_a_tie_never_replaces_a_champion() -> None:
    assert "a tie changes nothing" in decide(wrong_on([1, 2]), wrong_on([1, 2], "7"))[1]
    decision, reason = decide(wrong_on(range(10)), wrong_on(range(20, 30), "7"))
    assert decision == "hold"
    assert "would have been seen 8 times in 10" in reason


def test_evidence_is_needed_to_promote_and_later_questions_need_more() -> None:
    champion = wrong_on(range(8), "7")
    first = ask(wrong_on([]), champion)
    assert first.decision == "promote"
    assert "alone right on 8 rows, champion 7 on 0" in first.reason
    assert (first.question, first.level) == (1, 0.025)
    later = ask(wrong_on([]), champion, number=6)
    assert (later.decision, later.level) == ("hold", 0.05 / 42)


def test_a_worse_one_is_rejected() -> None:
    decision, reason = decide(wrong_on(range(30)), wrong_on([], "7"))
    assert decision == "reject"
    assert "worse than the champion" in reason


def test_few_rows_and_few_discordant_rows_show_nothing() -> None:
    champion = wrong_on(range(12), "7")
    decision, reason = decide(wrong_on([]), champion, params=with_(fewest_rows=401))
    assert (decision, "too few to believe" in reason) == ("hold", True)
    decision, reason = decide(wrong_on([]), champion, params=with_(fewest_discordant=13))
    assert (decision, "right on 12 rows, too few" in reason) == ("hold", True)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (["a", "b", "c"], "'c' new"),
        (["a"], "'b' gone"),
        (["a", "z"], "'b' gone and 'z' new"),
        (["b", "a"], "the same labels in another order"),
    ],
)
def test_changed_labels_cannot_be_compared(labels: list[str], told: str) -> None:
    scores = np.random.default_rng(0).random((400, len(labels))).astype(np.float32)
    other = Side("8", labels, scores)
    decision, reason = decide(other, wrong_on([], "7"))
    assert decision == "reject"
    assert told in reason
    held, way_on = decide(wrong_on([]), Side("7", labels, scores))
    assert held == "hold"
    assert "bertline promote toy/8 --rebaseline --reason" in way_on


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        (np.full((400, 2), np.nan, dtype=np.float32), "400 of 400 test rows are not numbers"),
        (np.empty((0, 2), dtype=np.float32), "answers 0 of 400 test rows"),
        (np.ones((399, 2), dtype=np.float32), "answers 399 of 400 test rows"),
    ],
)
def test_scores_that_are_none_are_unfit(scores: Any, told: str) -> None:
    verdict = ask(Side("8", LABELS, scores), wrong_on([], "7"))
    assert (verdict.decision, verdict.unfit) == ("reject", True)
    assert told in verdict.reason
    held = ask(wrong_on([]), Side("7", LABELS, scores))
    assert (held.decision, held.unfit) == ("hold", False)


def test_a_defect_ends_it_before_a_question_is_spent() -> None:
    verdict = ask(wrong_on([], defects=("model.onnx has changed",)), wrong_on(range(50), "7"))
    assert (verdict.decision, verdict.reason) == ("reject", "model.onnx has changed")
    assert verdict.question == 0


def test_a_margin_promotes_what_is_shown_not_to_be_worse() -> None:
    challenger, champion = wrong_on(range(4)), wrong_on(range(4, 8), "7")
    assert decide(challenger, champion)[0] == "hold"
    decision, reason = decide(challenger, champion, params=with_(margin=0.03))
    assert decision == "promote"
    assert "not to be worse than the champion by 0.03" in reason
    worse = wrong_on(range(20))
    assert decide(worse, champion, params=with_(margin=0.03))[0] == "hold"


def test_macro_f1_decides_by_the_bootstrap() -> None:
    params = with_(metrics=["macro_f1"])
    verdict = ask(wrong_on([]), wrong_on(range(20), "7"), params=params)
    assert verdict.decision == "promote"
    assert verdict.comparisons[0].test == "bootstrap by class"
    assert ask(wrong_on(range(20)), wrong_on([], "7"), params=params).decision == "reject"


def test_rows_that_depend_on_each_other_are_drawn_together() -> None:
    champion = wrong_on(range(10), "7")
    apart = ask(wrong_on([]), champion)
    groups = [str(row // 10) for row in range(400)]  # all that it lost is one group
    together = ask(wrong_on([]), champion, groups=groups)
    assert apart.decision == "promote"
    assert together.decision == "hold"
    assert together.comparisons[0].test == "bootstrap by group"


def test_several_metrics_are_corrected_together() -> None:
    challenger, champion = wrong_on([]), wrong_on(range(8), "7")
    alone = [
        ask(challenger, champion, params=with_(metrics=[metric])).comparisons[0].p_better
        for metric in ("accuracy", "macro_f1")
    ]
    both = ask(challenger, champion, params=with_(metrics=["accuracy", "macro_f1"]))
    assert [each.p_better for each in both.comparisons] == paired.holm(alone)
    assert both.decision == "promote"


@pytest.mark.parametrize(
    ("limits", "facts", "told"),
    [
        ({"latency_ms": 5.0}, {"latency_ms": 9.0}, "latency: 9 ms, 5 allowed"),
        ({"megabytes": 10.0}, {"megabytes": 23.4}, "size: 23.4 MB, 10 allowed"),
        ({"calibration": 0.05}, {"sure": 0.6}, "calibration: "),
    ],
)
def test_a_guard_rail_stops_a_better_one(
    limits: dict[str, float], facts: dict[str, Any], told: str
) -> None:
    challenger, champion = wrong_on([], **facts), wrong_on(range(20), "7", sure=0.95)
    assert decide(challenger, champion)[0] == "promote"
    decision, reason = decide(challenger, champion, params=rails(**limits))
    assert decision == "reject"
    assert f"guard rail {told}" in reason
    assert "though better than the champion" in reason


def test_the_first_champion_has_to_keep_the_budgets_too() -> None:
    decision, reason = decide(wrong_on([], latency_ms=9.0), None, params=rails(latency_ms=5.0))
    assert (decision, reason) == ("reject", "guard rail latency: 9 ms, 5 allowed")


def test_a_class_or_slice_that_falls_is_seen_behind_a_better_whole() -> None:
    odd = [row for row in range(400) if row % 2]
    even = [row for row in range(400) if not row % 2]
    challenger, champion = wrong_on(odd[:40]), wrong_on(even[:90], "7")
    assert decide(challenger, champion)[0] == "promote"
    decision, reason = decide(challenger, champion, params=rails(worst_class=0.1))
    assert decision == "reject"
    assert "guard rail worst class: 'b': 20 points lost" in reason
    part = {"short": np.arange(400) % 2 == 1, "none": np.zeros(400, dtype=bool)}
    decision, reason = decide(challenger, champion, params=rails(slices=0.1), slices=part)
    assert "guard rail slices: 'short': 20 points lost" in reason
    assert decide(challenger, champion, params=rails(flips=0.3))[1].startswith("guard rail flips")
    assert decide(challenger, champion, params=rails(behaviour=0.1), behaviour_failed=0.2)[0] == (
        "reject"
    )


def test_a_fall_that_chance_explains_breaks_no_rail() -> None:
    few = {"few": np.isin(np.arange(400), [0, 2, 4, 6])}
    challenger, champion = wrong_on([0]), wrong_on(range(21, 61), "7")
    verdict = ask(challenger, champion, params=rails(slices=0.1), slices=few)
    assert verdict.decision == "promote"
    assert verdict.rails[0].value == 25


def test_the_same_inputs_give_the_same_verdict() -> None:
    challenger, champion = wrong_on([1, 5, 9]), wrong_on([1, *range(20, 30)], "7")
    params = with_(metrics=["accuracy", "macro_f1"])
    first = ask(challenger, champion, params=params)
    assert first == ask(challenger, champion, params=params)
    assert first.evidence.keys() == {"rows", "challenger", "champion"}
    other = ask(wrong_on([1, 5]), champion, params=params)
    assert other.evidence["challenger"] != first.evidence["challenger"]
    assert other.evidence["rows"] == first.evidence["rows"]


def test_metrics_named_twice_are_refused() -> None:
    section = read_recipe("news", ROOT / "params.yaml")["gate"] | {"metrics": ["accuracy"] * 2}
    with pytest.raises(UserError, match="metrics names one twice"):
        parse(GateParams, section, "recipes.news.gate")
