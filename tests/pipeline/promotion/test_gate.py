"""The gate is a pure function: each of its answers, and why."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from pipeline import tasks
from pipeline.core.config import parse
from pipeline.core.errors import UserError
from pipeline.promotion import paired
from pipeline.promotion.gate import GateParams, check, judge
from pipeline.promotion.guardrails import Guardrails
from pipeline.promotion.question import Question, Side
from pipeline.promotion.summary import paragraph
from pipeline.registry.records import Verdict
from pipeline.tasks.base import Floats, Setting, Task, counts
from tests.conftest import news_block

ONE_CLASS = tasks.get("classification")
LABELS = ["a", "b"]
TRUTH = LABELS * 200
NO_RAILS = Guardrails(**dict.fromkeys(Guardrails.model_fields))  # type: ignore[arg-type]
PARAMS = GateParams(
    floors={"accuracy": 0.6, "macro_f1": 0.5},
    metrics=["accuracy"],
    margin=0.0,
    error_rate=0.05,
    min_rows=100,
    min_discordant=6,
    epoch_rows=100,
    approve=False,
    seed=17,
    guardrails=NO_RAILS,
)


def wrong_on(places: Sequence[int], version: str = "8", sure: float = 0.9, **facts: Any) -> Side:
    """A version that is wrong at these places."""
    wrong = set(places)
    answers = [LABELS[LABELS.index(label) ^ (row in wrong)] for row, label in enumerate(TRUTH)]
    return side(answers, version, sure, **{"classes": LABELS} | facts)


def side(answers: Sequence[str], version: str = "8", sure: float = 0.9, **facts: Any) -> Side:
    given: dict[str, Any] = {"classes": (), "confidence": np.full(len(answers), sure)}
    return Side(version=version, answers=answers, **given | facts)


def ask(
    challenger: Side,
    champion: Side | None,
    params: GateParams = PARAMS,
    truth: Sequence[str] = TRUTH,
    task: Task = ONE_CLASS,
    labels: Sequence[str] = LABELS,
    **facts: Any,
) -> Verdict:
    ids = [str(i) for i in range(len(truth))]
    return judge(params, Question("toy", task, labels, ids, truth, challenger, champion, **facts))


def decide(challenger: Side, champion: Side | None, **facts: Any) -> tuple[str, str]:
    verdict = ask(challenger, champion, **facts)
    return verdict.decision, verdict.reason


def with_(**changes: Any) -> GateParams:
    return PARAMS.model_copy(update=changes)


def guardrails(**limits: float) -> GateParams:
    return with_(guardrails=NO_RAILS.model_copy(update=limits))


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


class ManyClasses(Task):
    """Any number of classes a row."""

    head = "sequence"
    metrics: ClassVar[tuple[str, ...]] = ("micro_f1", "macro_f1")

    def label(self, cell: str, text: str, second: str) -> str:
        return json.dumps(sorted(cell.split()))

    def classes(self, label: str) -> Sequence[str]:
        return [str(name) for name in json.loads(label)]

    def outputs(self, classes: Sequence[str]) -> list[str]:
        return list(classes)

    def _never(self, *given: Any) -> Any:
        raise AssertionError("the gate neither trains nor asks a model")

    target = loss = answers = _never

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        truth, answer = self.classes(truths[0]), self.classes(answers[0])
        hits = set(truth) & set(answer)
        return counts.tally(hits, answer, truth, truth == answer, classes)

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        return {"micro_f1": counts.micro_f1(tallies), "macro_f1": counts.macro_f1(tallies)}

    def baselines(self, on: Setting) -> dict[str, list[str]]:
        return {}


class ExactSets(ManyClasses):
    """The same, compared by the share of rows whose set is right."""

    metrics = ("micro_f1", "subset_accuracy")
    exact = "subset_accuracy"

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        return {"micro_f1": counts.micro_f1(tallies), "subset_accuracy": counts.right(tallies)}


class FirstOfGroup(ManyClasses):
    """Share of a group's rows that are right, by group."""

    metrics = ("mean_share",)
    by_group = True

    def classes(self, label: str) -> Sequence[str]:
        return ()

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        return np.array([np.mean([t == a for t, a in zip(truths, answers, strict=True)]), 1.0])

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        return {"mean_share": tallies[..., 0] / np.maximum(tallies[..., 1], 1)}


MANY, SETS, GROUPS = ManyClasses(), ExactSets(), FirstOfGroup()
CLASSES = ["x", "y", "z"]
SETS_TRUE = [MANY.label(cell, "", "") for cell in ("x", "x y", "y z", "z") * 100]
F1 = {"floors": {"micro_f1": 0.1}, "metrics": ["micro_f1"]}


def without(name: str, rows: Sequence[int], version: str = "8") -> Side:
    """A version that misses a class in these rows."""
    missed = set(rows)
    answers = [
        json.dumps([c for c in MANY.classes(label) if c != name or row not in missed])
        for row, label in enumerate(SETS_TRUE)
    ]
    return side(answers, version, classes=CLASSES)


def ask_sets(challenger: Side, champion: Side | None, task: Task = MANY, **facts: Any) -> Verdict:
    facts = {"params": with_(**F1)} | facts
    return ask(challenger, champion, truth=SETS_TRUE, task=task, labels=CLASSES, **facts)


def test_sets_of_classes_are_compared_row_by_row_by_their_own_f1() -> None:
    verdict = ask_sets(without("x", []), without("x", range(60), "7"))
    assert verdict.decision == "promote"
    assert "better on 30 rows, champion 7 on 0 (micro-F1 +" in verdict.reason
    [compared] = verdict.comparisons
    assert compared.test == "bootstrap by row and randomization"
    assert list(verdict.scores.items()) == [("micro_f1", 1.0), ("macro_f1", 1.0)]
    assert "with micro-F1 1.0000 and macro-F1 1.0000." in paragraph(verdict)
    few = ask_sets(without("x", []), without("x", range(9), "7"))
    assert few.decision == "hold"
    assert "one of the two is better on 5 rows, too few to believe" in few.reason
    tie = ask_sets(without("x", [0]), without("x", [0], "7"))
    assert tie.reason == "scored alike on every row as champion 7: a tie changes nothing"
    assert ask_sets(without("x", range(60)), without("x", [], "7")).decision == "reject"


def test_a_share_of_right_rows_is_tested_exactly_also_where_classes_are_many() -> None:
    params = with_(floors={"micro_f1": 0.1}, metrics=["subset_accuracy"])
    verdict = ask_sets(without("x", []), without("x", range(60), "7"), SETS, params=params)
    assert verdict.comparisons[0].test == "exact McNemar"
    assert verdict.comparisons[0].p_better == paired.exact_p(30, 0, 400)
    assert "alone right on 30 rows, champion 7 on 0" in verdict.reason


def test_one_of_many_classes_that_falls_is_seen_and_chance_is_not() -> None:
    limits = with_(**F1, guardrails=NO_RAILS.model_copy(update={"worst_class": 0.1}))
    challenger, champion = without("y", range(80)), without("x", range(240), "7")
    assert ask_sets(challenger, champion).decision == "promote"
    verdict = ask_sets(challenger, champion, params=limits)
    assert verdict.decision == "reject"
    # 40 of 200 are missed: an F1 of 160 / 180, and it was 1
    assert "guardrail worst class: 'y': 11.1 points lost, 10 allowed" in verdict.reason
    truth = [*SETS_TRUE[:396], *[MANY.label("w", "", "")] * 4]
    rare = side([*without("x", []).answers[:396], *["[]"] * 3, truth[-1]], classes=[*CLASSES, "w"])
    knew = side([*without("x", range(240)).answers[:396], *truth[396:]], "7", classes=rare.classes)
    held = ask(rare, knew, limits, truth, MANY, rare.classes)
    assert held.guardrails[0].value == pytest.approx(60)  # three of four rows: chance can be
    assert (held.guardrails[0].held, held.decision) == (True, "promote")


def test_an_answer_that_is_no_label_is_unfit() -> None:
    answers = [*SETS_TRUE[:-1], "x,y"]
    verdict = ask_sets(side(answers, classes=CLASSES), None)
    assert (verdict.decision, verdict.unfit) == ("reject", True)
    assert "one of its answers is not a label" in verdict.reason


def test_a_task_that_scores_groups_is_compared_group_by_group() -> None:
    groups = [str(row // 4) for row in range(400)]
    params = with_(floors={"mean_share": 0.1}, metrics=["mean_share"])
    facts: dict[str, Any] = {"truth": TRUTH, "task": GROUPS, "labels": [], "params": params}
    facts["groups"] = groups
    right, worse = (side(wrong_on(rows).answers, v) for rows, v in (([], "8"), (range(80), "7")))
    verdict = ask(right, worse, **facts)
    assert verdict.decision == "promote"
    assert "better on 20 groups, champion 7 on 0 (mean share +20.00%" in verdict.reason
    assert verdict.comparisons[0].test == "bootstrap by group and randomization"
    few = ask(right, side(wrong_on(range(20)).answers, "7"), **facts)
    assert "one of the two is better on 5 groups" in few.reason
    assert "groups" in ask(right, worse, **facts | {"groups": None}).reason


def test_few_units_that_differ_do_not_fool_the_bootstrap() -> None:
    # 7 of 7: a bootstrap without any of them is as rare as e^-7, heads alone as rare as 2^-7
    challenger, champion = without("x", []), without("x", range(13), "7")
    verdict = ask_sets(challenger, champion, params=with_(**F1), number=4)
    assert verdict.level == 0.05 / 20
    assert verdict.comparisons[0].p_better == pytest.approx(2**-7, rel=0.25)
    assert verdict.decision == "hold"


def test_a_margin_leaves_the_bootstrap_alone() -> None:
    verdict = ask_sets(
        without("x", range(8)), without("x", range(8, 20), "7"), params=with_(**F1, margin=0.05)
    )
    assert verdict.comparisons[0].test == "bootstrap by row"
    assert verdict.decision == "promote"


@pytest.mark.parametrize(
    ("task", "changes", "told"),
    [
        (ONE_CLASS, {"metrics": ["acuracy"]}, "metrics: classification has no 'acuracy'; did you"),
        (ONE_CLASS, {"floors": {"f1": 0.5}}, "floors: classification has no 'f1'"),
        (
            MANY,
            F1 | {"guardrails": {"calibration": 0.1}},
            "guardrails.calibration: is for tasks with one",
        ),
        (
            MANY,
            F1 | {"guardrails": {"behaviour": 0.1}},
            "guardrails.behaviour: is for tasks of one class",
        ),
        (
            GROUPS,
            {
                "floors": {"mean_share": 0.1},
                "metrics": ["mean_share"],
                "guardrails": {"slices": 0.1},
            },
            "guardrails.slices: is for tasks that score row by row",
        ),
        (
            GROUPS,
            {
                "floors": {"mean_share": 0.1},
                "metrics": ["mean_share"],
                "guardrails": {"worst_class": 1},
            },
            "guardrails.worst_class: is for tasks whose rows have classes",
        ),
    ],
)
def test_what_a_task_has_no_use_of_is_refused(
    task: Task, changes: dict[str, Any], told: str
) -> None:
    limits = NO_RAILS.model_copy(update=changes.get("guardrails", {}))
    with pytest.raises(ValueError, match="^" + told.replace(".", r"\.")) as refused:
        check(with_(**changes | {"guardrails": limits}), task)
    assert "\n" not in str(refused.value)


def test_what_a_task_has_use_of_is_taken() -> None:
    section = news_block()["gate"]
    check(parse(GateParams, section, "recipes.news.gate"), ONE_CLASS)
    check(
        with_(**F1, guardrails=NO_RAILS.model_copy(update={"worst_class": 0.1, "slices": 0.1})),
        MANY,
    )


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
