"""Guardrails: limits on what the metric that decides does not show."""

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

CHANCE = 0.05  # p-value under which a fall within a class or slice is not put down to chance
BINS = 10  # of the calibration error


class Guardrails(Settings):
    """The limits; null takes a guardrail away."""

    worst_class: float | None = Field(gt=0, le=1)
    """Fall of any one class against the champion: of its recall, or, where a row can have several,
    of the first metric of that class alone, such as its F1."""
    slices: float | None = Field(gt=0, le=1)
    """Fall of any one slice against the champion: of its share of right rows, or of the first
    metric where rows are not simply right or wrong."""
    calibration: float | None = Field(gt=0, le=1)
    """Rise of the expected calibration error against the champion, where a row has one class."""
    flips: float | None = Field(gt=0, le=1)
    """Share of the rows that are answered otherwise than by the champion."""
    behaviour: float | None = Field(ge=0, lt=1)
    """Share of behaviour tests that fail, where a row has one class."""
    quarantined_percent: float | None = Field(ge=0, le=100)
    """Rows of the source that validation has set aside."""
    latency_ms: float | None = Field(gt=0)
    """Median time of one answer on this machine, batch 1, real texts."""
    megabytes: float | None = Field(gt=0)
    """Of the files that are served."""


def guardrails(
    limits: Guardrails, asked: Question, challenger: Tallies, champion: Tallies | None
) -> Iterator[Guardrail]:
    """Each limit that there is, and what it is held against: the challenger alone, or beside the
    champion where there is one. Tallies are those of the two answers to the question's rows."""
    new = asked.challenger
    absolute = (
        ("latency", new.latency_ms, limits.latency_ms, "ms"),
        ("size", new.megabytes, limits.megabytes, "MB"),
        ("validation", asked.quarantined_percent, limits.quarantined_percent, "% set aside"),
        ("behaviour", 100 * asked.behaviour_failed, _percent(limits.behaviour), "% failed"),
    )
    for name, value, limit, unit in absolute:
        if limit is not None:
            yield _guardrail(name, value, limit, unit)
    if champion is not None:
        yield from _beside(limits, asked, challenger, champion)


def _beside(
    limits: Guardrails, asked: Question, challenger: Tallies, champion: Tallies
) -> Iterator[Guardrail]:
    task, new, old = asked.task, asked.challenger, asked.champion
    assert old is not None
    if limits.flips is not None:
        flips = float(1 - task.agreement(new.answers, old.answers).mean())
        yield _guardrail("flips", 100 * flips, 100 * limits.flips, "% of answers")
    if limits.calibration is not None:
        rise = _calibration(asked, new) - _calibration(asked, old)
        yield _guardrail("calibration", 100 * rise, 100 * limits.calibration, "points")
    if limits.worst_class is not None:
        metric = asked.main if task.exclusive else task.metrics[0]
        classes = _by_class(asked, challenger, champion)
        yield from _worst("worst class", task, classes, metric, limits.worst_class)
    if limits.slices is not None:
        slices = (
            (name, challenger.of(rows), champion.of(rows)) for name, rows in asked.slices.items()
        )
        yield from _worst("slices", task, slices, asked.main, limits.slices)


def _worst(
    name: str,
    task: Task,
    parts: Iterable[tuple[str, Tallies, Tallies]],
    metric: str,
    limit: float,
) -> Iterator[Guardrail]:
    """The part that falls deepest; a fall that chance explains (an exact sign test over its rows)
    breaks no guardrail. Nothing where no part has a row."""
    falls = []
    for part, new, old in parts:
        if len(new):
            wins, losses = paired.wins(task, new, old, metric)
            before, now = (scoring.metrics(task.measure, x)[metric] for x in (old, new))
            chance = paired.exact_p(losses, wins, len(new))
            broken = before - now > limit + scoring.TIE and chance < CHANCE
            falls.append((broken, before - now, part, chance))
    if falls:
        broken, fall, part, chance = max(falls)
        guardrail = _guardrail(name, 100 * fall, 100 * limit, "points lost", broken)
        yield guardrail.model_copy(
            update={"note": f"{part!r}: {guardrail.note} (p = {chance:.2g})"}
        )


def _by_class(
    asked: Question, challenger: Tallies, champion: Tallies
) -> Iterator[tuple[str, Tallies, Tallies]]:
    """Of each class, what its rows add to the scores of the two: those that are of it, or, where a
    row can have several, what the rows that name it add to the scores of it alone."""
    task = asked.task
    assert asked.champion is not None
    sides = asked.challenger.answers, asked.champion.answers
    named = [
        {name for label in labels for name in task.classes(label)}
        for labels in zip(asked.truth, *(() if task.exclusive else sides), strict=True)
    ]
    for label in asked.labels:
        rows = np.array([label in classes for classes in named])
        if task.exclusive:
            yield label, challenger.of(rows), champion.of(rows)
        elif rows.any():
            truth = list(compress(asked.truth, rows))
            new, old = (
                scoring.tallies(task, truth, list(compress(answers, rows)), [label])
                for answers in sides
            )
            yield label, new, old


def _calibration(asked: Question, side: Side) -> float:
    right = asked.task.same(side.answers, asked.truth)
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
