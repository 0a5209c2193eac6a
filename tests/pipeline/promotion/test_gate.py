"""The gate is a pure function: each of its answers, and why."""

from typing import Any

import numpy as np
import pytest

from pipeline.core.config import parse
from pipeline.core.errors import UserError
from pipeline.promotion import paired
from pipeline.promotion.gate import GateParams
from pipeline.promotion.summary import paragraph
from pipeline.registry.records import Verdict
from pipeline.tasks.base import Floats
from tests.conftest import news_block
from tests.pipeline.promotion.questions import (
    LABELS,
    TRUTH,
    ask,
    decide,
    guardrails,
    side,
    with_,
    wrong_on,
)


def test_without_a_champion_the_floors_decide() -> None:
    assert decide(wrong_on([1]), None)[0] == "promote"
    decision, reason = decide(wrong_on(range(180)), None)
    assert (decision, reason) == ("reject", "test accuracy 0.5500 is below the floor 0.6")


def test_one_class_answered_alone_falls_below_the_f1_floor() -> None:
    truth = ["a"] * 360 + ["b"] * 40
    verdict = ask(side(["a"] * 400, classes=LABELS), None, truth=truth)
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
    decision, reason = decide(wrong_on([]), champion, params=with_(min_rows=401))
    assert (decision, "too few to believe" in reason) == ("hold", True)
    decision, reason = decide(wrong_on([]), champion, params=with_(min_discordant=13))
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
    answers = [labels[row % len(labels)] for row in range(400)]
    other = side(answers, classes=labels)
    decision, reason = decide(other, wrong_on([], "7"))
    assert decision == "reject"
    assert told in reason
    held, way_on = decide(wrong_on([]), side(answers, "7", classes=labels))
    assert held == "hold"
    assert "bertline promote toy/8 --rebaseline --reason" in way_on


@pytest.mark.parametrize(
    ("answers", "confidence", "told"),
    [
        (TRUTH, np.full(400, np.nan), "400 of 400 test rows are not numbers"),
        (TRUTH, np.repeat([0.9, np.inf], [399, 1]), "1 of 400 test rows are not numbers"),
        (TRUTH, np.repeat([0.9, -0.5], [399, 1]), "1 of 400 test rows are not numbers from 0 to 1"),
        ([], np.empty(0), "answers 0 of 400 test rows"),
        (TRUTH[1:], np.ones(399), "answers 399 of 400 test rows"),
    ],
)
def test_scores_that_are_none_are_unfit(answers: list[str], confidence: Floats, told: str) -> None:
    verdict = ask(side(answers, classes=LABELS, confidence=confidence), wrong_on([], "7"))
    assert (verdict.decision, verdict.unfit, verdict.scores) == ("reject", True, {})
    assert told in verdict.reason
    assert told in paragraph(verdict)
    held = ask(wrong_on([]), side(answers, "7", classes=LABELS, confidence=confidence))
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
    assert verdict.comparisons[0].test == "bootstrap by class and randomization"
    assert ask(wrong_on(range(20)), wrong_on([], "7"), params=params).decision == "reject"


def test_rows_that_depend_on_each_other_are_drawn_together() -> None:
    champion = wrong_on(range(10), "7")
    apart = ask(wrong_on([]), champion)
    groups = [str(row // 10) for row in range(400)]  # all that it lost is one group
    together = ask(wrong_on([]), champion, groups=groups)
    assert apart.decision == "promote"
    assert together.decision == "hold"
    assert together.comparisons[0].test == "bootstrap by group and randomization"


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
    decision, reason = decide(challenger, champion, params=guardrails(**limits))
    assert decision == "reject"
    assert f"guardrail {told}" in reason
    assert "though better than the champion" in reason


def test_the_first_champion_has_to_keep_the_budgets_too() -> None:
    decision, reason = decide(wrong_on([], latency_ms=9.0), None, params=guardrails(latency_ms=5.0))
    assert (decision, reason) == ("reject", "guardrail latency: 9 ms, 5 allowed")


def test_a_class_or_slice_that_falls_is_seen_behind_a_better_whole() -> None:
    odd = [row for row in range(400) if row % 2]
    even = [row for row in range(400) if not row % 2]
    challenger, champion = wrong_on(odd[:40]), wrong_on(even[:90], "7")
    assert decide(challenger, champion)[0] == "promote"
    decision, reason = decide(challenger, champion, params=guardrails(worst_class=0.1))
    assert decision == "reject"
    assert "guardrail worst class: 'b': 20 points lost" in reason
    part = {"short": np.arange(400) % 2 == 1, "none": np.zeros(400, dtype=bool)}
    decision, reason = decide(challenger, champion, params=guardrails(slices=0.1), slices=part)
    assert "guardrail slices: 'short': 20 points lost" in reason
    assert decide(challenger, champion, params=guardrails(flips=0.3))[1].startswith(
        "guardrail flips"
    )
    assert decide(challenger, champion, params=guardrails(behaviour=0.1), behaviour_failed=0.2)[
        0
    ] == ("reject")


def test_a_fall_that_chance_explains_breaks_no_rail() -> None:
    few = {"few": np.isin(np.arange(400), [0, 2, 4, 6])}
    challenger, champion = wrong_on([0]), wrong_on(range(21, 61), "7")
    verdict = ask(challenger, champion, params=guardrails(slices=0.1), slices=few)
    assert verdict.decision == "promote"
    assert verdict.guardrails[0].value == 25


def test_a_limit_that_is_met_exactly_is_kept() -> None:
    odd, even = range(1, 400, 2), range(0, 400, 2)
    challenger, champion = wrong_on(odd[:10]), wrong_on(even[:60], "7")
    assert 1.0 - 0.95 > 0.05  # in floating point
    part = {"odd": np.arange(400) % 2 == 1}
    for limits in ({"worst_class": 0.05}, {"slices": 0.05}):
        verdict = ask(challenger, champion, params=guardrails(**limits), slices=part)
        assert (verdict.decision, verdict.guardrails[0].held) == ("promote", True), verdict.reason
    less = ask(challenger, champion, params=guardrails(worst_class=0.0499))
    assert (less.decision, less.guardrails[0].held) == ("reject", False)
    challenger, champion = wrong_on([], sure=0.8), wrong_on(range(20), "7", sure=0.8)
    verdict = ask(challenger, champion, params=guardrails(calibration=0.05))
    assert (verdict.decision, verdict.guardrails[0].held) == ("promote", True), verdict.reason


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
    section = news_block()["gate"] | {"metrics": ["accuracy"] * 2}
    with pytest.raises(UserError, match="metrics names one twice"):
        parse(GateParams, section, "recipes.news.gate")


@pytest.mark.parametrize("floors", [{}, {"accuracy": 1.5}, {"accuracy": None}])
def test_floors_are_shares_and_one_at_least(floors: dict[str, Any]) -> None:
    section = news_block()["gate"] | {"floors": floors}
    with pytest.raises(UserError, match=r"recipes\.news\.gate\.floors"):
        parse(GateParams, section, "recipes.news.gate")


def test_a_verdict_from_before_there_were_tasks_is_read() -> None:
    told = OLD_VERDICT
    verdict = Verdict.model_validate_json(told)
    assert verdict.scores == {"accuracy": 0.9757, "macro_f1": 0.9751}
    assert verdict.rule["floors"] == {"accuracy": 0.9, "macro_f1": 0.8}
    assert not {"floor_accuracy", "floor_macro_f1"} & verdict.rule.keys()
    assert verdict.rule["metrics"] == ["accuracy"]
    assert "with accuracy 0.9757 and macro-F1 0.9751." in paragraph(verdict)
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


OLD_VERDICT = """{
  "model": "news", "version": "4", "decision": "hold", "reason": "not shown to be better",
  "champion": "3", "epoch": 1, "question": 2, "level": 0.025, "rows": 412,
  "accuracy": 0.9757, "macro_f1": 0.9751,
  "comparisons": [{
    "metric": "accuracy", "challenger": 0.9757, "champion": 0.9733,
    "difference": {"value": 0.0024, "low": -0.005, "high": 0.01},
    "test": "exact McNemar", "p_better": 0.3, "p_worse": 0.9, "detectable": 0.02
  }],
  "only_challenger_right": 3, "only_champion_right": 2,
  "guardrails": [{"name": "size", "value": 23.4, "limit": 100.0, "unit": "MB", "held": true,
             "note": "23.4 MB, 100 allowed"}],
  "rule": {"floor_accuracy": 0.9, "floor_macro_f1": 0.8, "metrics": ["accuracy"], "margin": 0.0,
           "error_rate": 0.05, "min_rows": 100, "guardrails": {"megabytes": 100.0}},
  "unfit": false, "evidence": {"rows": "be5f", "challenger": "6998", "champion": "71aa"}
}"""
