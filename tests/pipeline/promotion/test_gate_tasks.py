"""The gate on tasks with sets of classes and with groups of rows."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from pipeline.core.config import parse
from pipeline.promotion import paired
from pipeline.promotion.gate import GateParams, check
from pipeline.promotion.question import Side
from pipeline.promotion.summary import paragraph
from pipeline.registry.records import Verdict
from pipeline.tasks.base import Floats, Setting, Task, counts
from tests.conftest import news_block
from tests.pipeline.promotion.questions import (
    NO_RAILS,
    ONE_CLASS,
    TRUTH,
    ask,
    side,
    with_,
    wrong_on,
)


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
