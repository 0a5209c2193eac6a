"""Questions to the gate, made of the rows that a version has wrong."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline import tasks
from pipeline.promotion.gate import GateParams, judge
from pipeline.promotion.guardrails import Guardrails
from pipeline.promotion.question import Question, Side
from pipeline.registry.records import Verdict
from pipeline.tasks.base import Task

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
