"""The gate: what two versions answered goes in, a verdict comes out. Pure: the same inputs give the
same verdict.

A version that is unfit (files that are not its own, test rows it was trained on, scores that are no
numbers) is rejected; one that cannot be compared is held, with the way on. A model without a rival
must reach the recipe's floors. Otherwise champion and challenger have answered the same rows of the
frozen test set through the runtimes that serve them, and a paired test decides: exact for the share
of rows that are right, a bootstrap for anything else. Each question may err only so often that all
of an epoch's together keep the recipe's error rate. Guardrails look at what the metric does not. A
tie changes nothing.

What is compared are units: rows, or groups of rows where the task scores groups.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, model_validator

from pipeline.core.config import Settings, nearest
from pipeline.core.records import Interval
from pipeline.metrics import names as words
from pipeline.metrics import scoring
from pipeline.metrics.scoring import Floats, Tallies
from pipeline.promotion import paired
from pipeline.promotion.guardrails import Guardrails, guardrails
from pipeline.promotion.question import Question, Side
from pipeline.registry.records import Comparison, Decision, Guardrail, Verdict
from pipeline.tasks.base import Task


class GateParams(Settings):
    floors: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)
    """Metric to the least that it may be on the test rows, as served: below any of them a version
    is rejected."""
    metrics: list[str] = Field(min_length=1)
    """What decides. Of several, one must be shown better (Holm's correction) and none worse."""
    margin: float = Field(ge=0, lt=0.5)
    """0: the challenger must be shown better. More: it must be shown not to be worse than the
    champion by this much, in every metric (non-inferiority)."""
    error_rate: float = Field(gt=0, le=0.5)
    """Share of epochs in which a model that is no better may replace the champion."""
    min_rows: int = Field(ge=1)
    """Test rows without which no difference is believed."""
    min_discordant: int = Field(ge=1)
    """Units that just one side has right, or does better on, without which no difference is
    believed."""
    epoch_rows: int = Field(ge=1)
    """New test rows that make the next epoch."""
    approve: bool
    """True if a person has to agree before the alias moves."""
    seed: int = Field(ge=0)
    """Of the resamples."""
    guardrails: Guardrails

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("metrics names one twice")
        return self


def check(params: GateParams, task: Task) -> None:
    """Raises ValueError, beginning with the key, for what the task has no use of: metrics that it
    has not, and guardrails that cannot apply to it."""
    for key, names in (("floors", list(params.floors)), ("metrics", params.metrics)):
        for name in names:
            if name not in task.metrics:
                raise ValueError(f"{key}: {task.name} has no {name!r}{nearest(name, task.metrics)}")
    classes = type(task).classes is not Task.classes and not task.by_group
    for guardrail, applies, kind in (
        ("worst_class", classes, "tasks whose rows have classes"),
        ("slices", not task.by_group, "tasks that score row by row"),
        ("calibration", task.exclusive, "tasks with one class a row"),
        ("behaviour", task.exclusive and not task.two_texts, "tasks of one class for one text"),
    ):
        if not applies and getattr(params.guardrails, guardrail) is not None:
            raise ValueError(
                f"guardrails.{guardrail}: is for {kind}, not for {task.name}: set it to null"
            )


def judge(params: GateParams, asked: Question) -> Verdict:
    """The verdict on a challenger, with what it rests on."""
    return _Hearing(params, asked).verdict()


class _Hearing:
    """One question's numbers, computed once."""

    def __init__(self, params: GateParams, asked: Question) -> None:
        self.params, self.asked, self.task = params, asked, asked.task
        self.level = paired.spent(params.error_rate, asked.number)
        self.comparisons: list[Comparison] = []
        self.guardrails: list[Guardrail] = []
        self.scores: dict[str, float] = {}
        self.wins = self.losses = 0
        self.unfit = False
        self.whole = self.task.exact is not None and not self.task.by_group
        self.unit = "group" if self.task.by_group else "row"

    def verdict(self) -> Verdict:
        asked, decision, reason = self.asked, *self._decide()
        spent = bool(self.comparisons)
        return Verdict(
            model=asked.model,
            version=asked.challenger.version,
            decision=decision,
            reason=reason,
            champion=asked.champion.version if asked.champion else None,
            epoch=asked.epoch,
            question=asked.number if spent else 0,
            level=self.level if spent else 0.0,
            rows=len(asked.truth),
            scores=self.scores,
            comparisons=self.comparisons,
            only_challenger_right=self.wins,
            only_champion_right=self.losses,
            guardrails=self.guardrails,
            rule=self.params.model_dump(),
            unfit=self.unfit,
            evidence=asked.evidence(),
        )

    def _decide(self) -> tuple[Decision, str]:
        asked, old = self.asked, self.asked.champion
        if not asked.truth:
            return "reject", "there are no test rows to judge it on"
        if self.task.by_group and asked.groups is None:
            return "reject", "the test rows have no groups, by which the task is scored"
        try:
            self._new = self._tallied(asked.challenger)
        except ValueError as error:
            self.unfit = True
            return "reject", str(error)
        way_on = (
            f"judge it alone by bertline promote {asked.model}/{asked.challenger.version}"
            " --rebaseline --reason TEXT"
        )
        if change := _changed(asked.labels, asked.challenger.classes):
            return "reject", f"it was trained for other labels than the rows have: {change}"
        if old and (change := _changed(old.classes, asked.challenger.classes)):
            return "hold", (
                f"champion {old.version} has other labels ({change}): they cannot be compared;"
                f" {way_on}"
            )
        rival = None
        if old:
            try:
                rival = self._tallied(old)
                self.wins, self.losses = paired.wins(self.task, self._new, rival, asked.main)
            except ValueError as error:
                return "hold", f"champion {old.version} cannot be compared with: {error}; {way_on}"
        self.scores = scoring.metrics(self.task.measure, self._new)
        for metric, floor in self.params.floors.items():
            if self.scores[metric] < floor - scoring.TIE:
                return "reject", f"test {self._scored(metric)} is below the floor {floor}"
        self.guardrails = list(guardrails(self.params.guardrails, asked, self._new, rival))
        return self._unopposed() if old is None or rival is None else self._beside(old, rival)

    def _tallied(self, side: Side) -> Tallies:
        """What a side's units add to its scores. Raises ValueError where its answers may not
        count."""
        asked = self.asked
        if defect := side.defect(len(asked.truth)):
            raise ValueError(defect)
        try:
            found = scoring.tallies(
                self.task, asked.truth, side.answers, asked.labels, asked.groups or ()
            )
        except ValueError as error:
            raise ValueError(f"an answer of it is no label: {error}") from None
        if not np.isfinite(list(scoring.metrics(self.task.measure, found).values())).all():
            raise ValueError("the scores of its answers are not numbers")
        return found

    def _scored(self, metric: str) -> str:
        return f"{words.metric(metric)} {self.scores[metric]:.4f}"

    def _unopposed(self) -> tuple[Decision, str]:
        if broken := self._broken():
            return "reject", f"guardrail {broken}"
        first = next(iter(self.params.floors))
        return "promote", f"no champion yet, and test {self._scored(first)} is above the floor"

    def _beside(self, old: Side, rival: Tallies) -> tuple[Decision, str]:
        rows, needed = len(self.asked.truth), self.params.min_rows
        if rows < needed:
            return "hold", (
                f"{rows:,} test rows are too few to believe a difference ({needed:,} needed)"
            )
        if not paired.differ(self._new, rival):
            same = "right on the same rows" if self.whole else f"scored alike on every {self.unit}"
            return "hold", f"{same} as champion {old.version}: a tie changes nothing"
        self.comparisons = self._compare(rival)
        decision, reason = self._weigh(old)
        if decision == "promote" and (broken := self._broken()):
            return "reject", f"guardrail {broken}, though {reason}"
        return decision, reason

    def _broken(self) -> str | None:
        """The first guardrail that did not hold."""
        return next(
            (
                f"{guardrail.name}: {guardrail.note}"
                for guardrail in self.guardrails
                if not guardrail.held
            ),
            None,
        )

    def _compare(self, rival: Tallies) -> list[Comparison]:
        params, asked = self.params, self.asked
        exact = self.task.exact if asked.groups is None else None
        chance = _Chance(params, asked, self._new, rival, self.level, exact)
        old = scoring.metrics(self.task.measure, rival)
        found = []
        for metric in params.metrics:
            ours, theirs = self.scores[metric], old[metric]
            low, high = np.quantile(chance.drawn[metric], (0.025, 0.975))
            difference = Interval(value=ours - theirs, low=float(low), high=float(high))
            tested = self._exact() if metric == exact else chance.told(metric, ours - theirs)
            found.append(
                Comparison(
                    metric=metric, challenger=ours, champion=theirs, difference=difference, **tested
                )
            )
        if params.margin:
            return found
        corrected = paired.holm([each.p_better for each in found])
        return [
            each.model_copy(update={"p_better": p})
            for each, p in zip(found, corrected, strict=True)
        ]

    def _exact(self) -> dict[str, Any]:
        """Of rows that are right or wrong: the test, its p-values and what it could have seen."""
        wins, losses, margin = self.wins, self.losses, self.params.margin
        rows = len(self.asked.truth)
        share = max(wins + losses, 1) / rows  # of discordant rows (Connor 1987)
        return {
            "test": "Tango's score test" if margin else "exact McNemar",
            "p_better": paired.margin_p(wins, losses, rows, margin)
            if margin
            else paired.exact_p(wins, losses, rows),
            "p_worse": paired.exact_p(losses, wins, rows),
            "detectable": paired.detectable(np.sqrt(share / rows), self.level),
        }

    def _weigh(self, old: Side) -> tuple[Decision, str]:
        params = self.params
        better = "alone right on" if self.whole else "better on"
        tally = f"{better} {self.wins:,} {self.unit}s, champion {old.version} on {self.losses:,}"
        discordant = self.wins + self.losses
        worse = min(self.comparisons, key=lambda each: each.p_worse)
        if params.margin == 0 and worse.p_worse < self.level:
            return "reject", f"worse than the champion: {tally} ({_told(worse, worse.p_worse)})"
        if discordant < params.min_discordant:
            apart = "the two differ in being right" if self.whole else "one of the two is better"
            return "hold", (
                f"{apart} on {discordant} {self.unit}s, too few to believe a difference"
                f" ({params.min_discordant} needed): {tally}"
            )
        shown = [each for each in self.comparisons if each.p_better < self.level]
        if params.margin and len(shown) == len(self.comparisons):
            best = max(self.comparisons, key=lambda each: each.p_better)
            return "promote", (
                f"shown not to be worse than the champion by {params.margin}: {tally}"
                f" ({_told(best, best.p_better)})"
            )
        if shown and not params.margin:
            best = min(shown, key=lambda each: each.p_better)
            return "promote", f"better than the champion: {tally} ({_told(best, best.p_better)})"
        aim = f"not worse by {params.margin}" if params.margin else "better"
        nearest = min(self.comparisons, key=lambda each: each.p_better)
        return "hold", (
            f"not shown to be {aim} than the champion: {tally} ({_told(nearest, nearest.p_better)},"
            f" {self.level:.2g} needed; a true difference of {nearest.detectable:.2%} would have"
            " been seen 8 times in 10)"
        )


class _Chance:
    """Two sides' units drawn again: for the intervals of all metrics, and the test of those that
    have no exact one.

    With few units that differ a bootstrap errs more often than it says. So where one model has to
    be better its p-value is never below that of randomization, which errs no oftener with any
    number of units; with a margin there is no such test.
    """

    def __init__(
        self,
        params: GateParams,
        asked: Question,
        challenger: Tallies,
        champion: Tallies,
        level: float,
        exact: str | None,
    ) -> None:
        task, groups = asked.task, asked.groups
        self.margin, self.level, self.by = params.margin, level, "row"
        strata = None
        if groups is not None:
            self.by = "group"
            if not task.by_group:
                challenger, champion = (
                    scoring.grouped(side, groups) for side in (challenger, champion)
                )
        elif task.exclusive:
            strata, self.by = asked.truth, "class"
        only_exact = params.metrics == [exact]
        resamples = paired.RESAMPLES if only_exact else paired.resamples_for(level)
        sides = task.measure, challenger, champion
        self.drawn = paired.resampled(*sides, strata, params.seed, resamples)
        self.by_chance: dict[str, Floats] = {}
        if not only_exact and params.margin == 0:
            self.by_chance = paired.exchanged(*sides, params.seed, resamples)

    def told(self, metric: str, difference: float) -> dict[str, Any]:
        """The test of a metric, its p-values and what it could have seen."""
        drawn, by_chance = self.drawn[metric], self.by_chance.get(metric)
        better, worse = paired.bootstrap_p(drawn, self.margin), paired.bootstrap_p(-drawn)
        if by_chance is not None:
            better = max(better, paired.randomization_p(by_chance, difference))
            worse = max(worse, paired.randomization_p(-by_chance, -difference))
        return {
            "test": f"bootstrap by {self.by}" + ("" if self.margin else " and randomization"),
            "p_better": better,
            "p_worse": worse,
            "detectable": paired.detectable(float(drawn.std()), self.level),
        }


def _changed(before: Sequence[str], after: Sequence[str]) -> str | None:
    """How two lists of labels differ, in words."""
    if list(before) == list(after):
        return None
    gone, come = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    if not gone and not come:
        return "the same labels in another order"
    parts = [f"{', '.join(map(repr, gone))} gone"] if gone else []
    parts += [f"{', '.join(map(repr, come))} new"] if come else []
    return " and ".join(parts)


def _told(comparison: Comparison, p: float) -> str:
    return f"{words.metric(comparison.metric)} {comparison.difference.value:+.2%}, p = {p:.2g}"
