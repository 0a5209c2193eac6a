"""Guardrails: limits on properties that the deciding metrics do not show."""

from collections.abc import Iterable, Iterator
from itertools import compress

import numpy as np
from pydantic import Field

from pipeline.core.config import Settings
from pipeline.metrics import scoring
from pipeline.metrics.calibration import calibration, calibration_error
from pipeline.metrics.scoring import Tallies
from pipeline.promotion import paired
from pipeline.promotion.question import Question, Side
from pipeline.registry.records import Guardrail
from pipeline.tasks.base import Task

CHANCE = 0.05  # least p-value at which a drop in a class or slice may be chance
BINS = 10  # of the calibration error


class Guardrails(Settings):
    """Limits of the guardrails; null turns one off."""

    worst_class: float | None = Field(gt=0, le=1)
    """Drop of any class against the champion: in recall or, if a row can have several classes, in
    the first metric of that class alone, such as its F1."""
    slices: float | None = Field(gt=0, le=1)
    """Drop of any slice against the champion: in its share of right rows or, if rows are not simply
    right or wrong, in the first metric."""
    calibration: float | None = Field(gt=0, le=1)
    """Increase of the expected calibration error against the champion, if a row has one class."""
    flips: float | None = Field(gt=0, le=1)
    """Share of rows with another answer than the champion's."""
    behaviour: float | None = Field(ge=0, lt=1)
    """Share of behaviour tests that fail, if a row has one class."""
    quarantined_percent: float | None = Field(ge=0, le=100)
    """Rows of the source that validation set aside."""
    latency_ms: float | None = Field(gt=0)
    """Median time of one answer on this machine, batch 1, real texts."""
    megabytes: float | None = Field(gt=0)
    """Size of the served files."""


def guardrails(
    limits: Guardrails, question: Question, challenger: Tallies, champion: Tallies | None
) -> Iterator[Guardrail]:
    """Yield each guardrail that is on; those against the champion only if there is one.

    `challenger` and `champion` are the tallies of their answers to the question's rows.
    """
    new = question.challenger
    absolute = (
        ("latency", new.latency_ms, limits.latency_ms, "ms"),
        ("size", new.megabytes, limits.megabytes, "MB"),
        ("validation", question.quarantined_percent, limits.quarantined_percent, "% set aside"),
        ("behaviour", 100 * question.behaviour_failed, _percent(limits.behaviour), "% failed"),
    )
    for name, value, limit, unit in absolute:
        if limit is not None:
            yield _guardrail(name, value, limit, unit)
    if champion is not None:
        yield from _against_champion(limits, question, challenger, champion)


def _against_champion(
    limits: Guardrails, question: Question, challenger: Tallies, champion: Tallies
) -> Iterator[Guardrail]:
    task, new, old = question.task, question.challenger, question.champion
    assert old is not None
    if limits.flips is not None:
        flips = float(1 - task.agreement(new.answers, old.answers).mean())
        yield _guardrail("flips", 100 * flips, 100 * limits.flips, "% of answers")
    if limits.calibration is not None:
        rise = _calibration(question, new) - _calibration(question, old)
        yield _guardrail("calibration", 100 * rise, 100 * limits.calibration, "points")
    if limits.worst_class is not None:
        metric = question.main if task.exclusive else task.metrics[0]
        classes = _by_class(question, challenger, champion)
        yield from _worst("worst class", task, classes, metric, limits.worst_class)
    if limits.slices is not None:
        slices = (
            (name, challenger.of(rows), champion.of(rows)) for name, rows in question.slices.items()
        )
        yield from _worst("slices", task, slices, question.main, limits.slices)


def _worst(
    name: str,
    task: Task,
    parts: Iterable[tuple[str, Tallies, Tallies]],
    metric: str,
    limit: float,
) -> Iterator[Guardrail]:
    """Yield the guardrail of the part with the largest drop, if any part has rows.

    A drop that may be chance (exact sign test over the part's rows) breaks no guardrail.
    """
    drops = []
    for part, new, old in parts:
        if len(new):
            wins, losses = paired.wins(task, new, old, metric)
            before, now = (scoring.metrics(task.measure, x)[metric] for x in (old, new))
            chance = paired.exact_p(losses, wins, len(new))
            broken = before - now > limit + scoring.TIE and chance < CHANCE
            drops.append((broken, before - now, part, chance))
    if drops:
        broken, drop, part, chance = max(drops)
        guardrail = _guardrail(name, 100 * drop, 100 * limit, "points lost", broken)
        yield guardrail.model_copy(
            update={"note": f"{part!r}: {guardrail.note} (p = {chance:.2g})"}
        )


def _by_class(
    question: Question, challenger: Tallies, champion: Tallies
) -> Iterator[tuple[str, Tallies, Tallies]]:
    """Yield each class with the tallies of both sides on its rows.

    If a row can have several classes, its rows are those with the class in the truth or in an
    answer, tallied for this class alone.
    """
    task = question.task
    assert question.champion is not None
    sides = question.challenger.answers, question.champion.answers
    named = [
        {name for label in labels for name in task.classes(label)}
        for labels in zip(question.truth, *(() if task.exclusive else sides), strict=True)
    ]
    for label in question.labels:
        rows = np.array([label in classes for classes in named])
        if task.exclusive:
            yield label, challenger.of(rows), champion.of(rows)
        elif rows.any():
            truth = list(compress(question.truth, rows))
            new, old = (
                scoring.tallies(task, truth, list(compress(answers, rows)), [label])
                for answers in sides
            )
            yield label, new, old


def _calibration(question: Question, side: Side) -> float:
    right = question.task.same(side.answers, question.truth)
    confidence = side.confidence.astype(np.float64)
    return calibration_error(calibration(confidence, right, BINS))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _guardrail(
    name: str, value: float, limit: float, unit: str, broken: bool | None = None
) -> Guardrail:
    if broken is None:
        broken = value > limit + scoring.TIE
    note = f"{value:.3g} {unit}, {limit:.3g} allowed"
    return Guardrail(name=name, value=value, limit=limit, unit=unit, held=not broken, note=note)
