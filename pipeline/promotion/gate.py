"""The gate: a pure function from the answers of two versions to a verdict.

- An unfit version (changed files, test rows in its training, scores that are not numbers) is
  rejected. One that cannot be compared is held; the reason says what to do.
- A version without a champion to compare with must reach the recipe's floors.
- Otherwise champion and challenger have answered the same rows of the frozen test set through the
  runtimes that serve them, and a paired test decides: exact for the share of right rows, by
  bootstrap for other metrics. Each question may spend a part of the recipe's error rate, so that
  all questions of an epoch together keep it.
- Guardrails limit what the metric does not show. A tie changes nothing.

Units are compared: rows, or groups of rows if the task scores groups.
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
    """Least value of each metric on the test rows, as served; a version below one is rejected."""
    metrics: list[str] = Field(min_length=1)
    """Metrics that decide. At least one must be shown better (Holm's correction), none worse."""
    margin: float = Field(ge=0, lt=0.5)
    """0: the challenger must be shown to be better. Above 0: it must be shown not to be worse than
    the champion by this much, in every metric (non-inferiority)."""
    error_rate: float = Field(gt=0, le=0.5)
    """Share of epochs in which a model that is no better may replace the champion."""
    min_rows: int = Field(ge=1)
    """Least number of test rows for a comparison."""
    min_discordant: int = Field(ge=1)
    """Least number of units that only one side has right, or is better on, for a promotion."""
    epoch_rows: int = Field(ge=1)
    """New test rows that form the next epoch."""
    approve: bool
    """True if a person must approve before the alias moves."""
    seed: int = Field(ge=0)
    """Seed of the resamples."""
    guardrails: Guardrails

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("metrics names one twice")
        return self


def check(params: GateParams, task: Task) -> None:
    """Check metrics and guardrails against a task.

    Raises ValueError, which begins with the key, if the task lacks a metric or cannot be checked by
    a guardrail.
    """
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


def judge(params: GateParams, question: Question) -> Verdict:
    """Return the verdict on a challenger with its evidence."""
    return _Judgement(params, question).verdict()


class _Judgement:
    """Intermediate results of one question."""

    def __init__(self, params: GateParams, question: Question) -> None:
        self.params, self.question, self.task = params, question, question.task
        self.level = paired.spent(params.error_rate, question.number)
        self.comparisons: list[Comparison] = []
        self.guardrails: list[Guardrail] = []
        self.scores: dict[str, float] = {}
        self.wins = self.losses = 0
        self.unfit = False
        self.binary = self.task.exact is not None and not self.task.by_group
        self.unit = "group" if self.task.by_group else "row"

    def verdict(self) -> Verdict:
        question, decision, reason = self.question, *self._decide()
        spent = bool(self.comparisons)
        return Verdict(
            model=question.model,
            version=question.challenger.version,
            decision=decision,
            reason=reason,
            champion=question.champion.version if question.champion else None,
            epoch=question.epoch,
            question=question.number if spent else 0,
            level=self.level if spent else 0.0,
            rows=len(question.truth),
            scores=self.scores,
            comparisons=self.comparisons,
            only_challenger_right=self.wins,
            only_champion_right=self.losses,
            guardrails=self.guardrails,
            rule=self.params.model_dump(),
            unfit=self.unfit,
            evidence=question.evidence(),
        )

    def _decide(self) -> tuple[Decision, str]:
        question, old = self.question, self.question.champion
        if not question.truth:
            return "reject", "there are no test rows to judge it on"
        if self.task.by_group and question.groups is None:
            return "reject", "the test rows have no groups, by which the task is scored"
        try:
            self._new = self._tallies(question.challenger)
        except ValueError as error:
            self.unfit = True
            return "reject", str(error)
        advice = (
            f"judge it alone by bertline promote {question.model}/{question.challenger.version}"
            " --rebaseline --reason TEXT"
        )
        if change := _changed(question.labels, question.challenger.classes):
            return "reject", f"it was trained for other labels than the rows have: {change}"
        if old and (change := _changed(old.classes, question.challenger.classes)):
            return "hold", (
                f"champion {old.version} has other labels ({change}): they cannot be compared;"
                f" {advice}"
            )
        rival = None
        if old:
            try:
                rival = self._tallies(old)
                self.wins, self.losses = paired.wins(self.task, self._new, rival, question.main)
            except ValueError as error:
                return "hold", f"champion {old.version} cannot be compared with: {error}; {advice}"
        self.scores = scoring.metrics(self.task.measure, self._new)
        for metric, floor in self.params.floors.items():
            if self.scores[metric] < floor - scoring.TIE:
                return "reject", f"test {self._scored(metric)} is below the floor {floor}"
        self.guardrails = list(guardrails(self.params.guardrails, question, self._new, rival))
        return self._decide_alone() if old is None or rival is None else self._compare(old, rival)

    def _tallies(self, side: Side) -> Tallies:
        """Return the tallies of a side. Raises ValueError if its answers must not count."""
        question = self.question
        if defect := side.defect(len(question.truth)):
            raise ValueError(defect)
        try:
            found = scoring.tallies(
                self.task, question.truth, side.answers, question.labels, question.groups or ()
            )
        except ValueError as error:
            raise ValueError(f"one of its answers is not a label: {error}") from None
        if not np.isfinite(list(scoring.metrics(self.task.measure, found).values())).all():
            raise ValueError("the scores of its answers are not numbers")
        return found

    def _scored(self, metric: str) -> str:
        return f"{words.metric(metric)} {self.scores[metric]:.4f}"

    def _decide_alone(self) -> tuple[Decision, str]:
        if broken := self._broken():
            return "reject", f"guardrail {broken}"
        first = next(iter(self.params.floors))
        return "promote", f"no champion yet, and test {self._scored(first)} is above the floor"

    def _compare(self, old: Side, rival: Tallies) -> tuple[Decision, str]:
        rows, needed = len(self.question.truth), self.params.min_rows
        if rows < needed:
            return "hold", (
                f"{rows:,} test rows are too few to believe a difference ({needed:,} needed)"
            )
        if not paired.differ(self._new, rival):
            same = "right on the same rows" if self.binary else f"scored alike on every {self.unit}"
            return "hold", f"{same} as champion {old.version}: a tie changes nothing"
        self.comparisons = self._comparisons(rival)
        decision, reason = self._weigh(old)
        if decision == "promote" and (broken := self._broken()):
            return "reject", f"guardrail {broken}, though {reason}"
        return decision, reason

    def _broken(self) -> str | None:
        """The first guardrail that is broken, with its note."""
        return next(
            (f"{rail.name}: {rail.note}" for rail in self.guardrails if not rail.held), None
        )

    def _comparisons(self, rival: Tallies) -> list[Comparison]:
        params, question = self.params, self.question
        exact = self.task.exact if question.groups is None else None
        resamples = _Resamples(params, question, self._new, rival, self.level, exact)
        old = scoring.metrics(self.task.measure, rival)
        found = []
        for metric in params.metrics:
            ours, theirs = self.scores[metric], old[metric]
            low, high = np.quantile(resamples.drawn[metric], (0.025, 0.975))
            difference = Interval(value=ours - theirs, low=float(low), high=float(high))
            test = self._exact() if metric == exact else resamples.test(metric, ours - theirs)
            found.append(
                Comparison(
                    metric=metric, challenger=ours, champion=theirs, difference=difference, **test
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
        """Exact test on rows that are right or wrong: name, p-values, detectable difference."""
        wins, losses, margin = self.wins, self.losses, self.params.margin
        rows = len(self.question.truth)
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
        better = "alone right on" if self.binary else "better on"
        tally = f"{better} {self.wins:,} {self.unit}s, champion {old.version} on {self.losses:,}"
        discordant = self.wins + self.losses
        worse = min(self.comparisons, key=lambda each: each.p_worse)
        if params.margin == 0 and worse.p_worse < self.level:
            return "reject", f"worse than the champion: {tally} ({_brief(worse, worse.p_worse)})"
        if discordant < params.min_discordant:
            apart = "the two differ in being right" if self.binary else "one of the two is better"
            return "hold", (
                f"{apart} on {discordant} {self.unit}s, too few to believe a difference"
                f" ({params.min_discordant} needed): {tally}"
            )
        shown = [each for each in self.comparisons if each.p_better < self.level]
        if params.margin and len(shown) == len(self.comparisons):
            best = max(self.comparisons, key=lambda each: each.p_better)
            return "promote", (
                f"shown not to be worse than the champion by {params.margin}: {tally}"
                f" ({_brief(best, best.p_better)})"
            )
        if shown and not params.margin:
            best = min(shown, key=lambda each: each.p_better)
            return "promote", f"better than the champion: {tally} ({_brief(best, best.p_better)})"
        aim = f"not worse by {params.margin}" if params.margin else "better"
        best = min(self.comparisons, key=lambda each: each.p_better)
        return "hold", (
            f"not shown to be {aim} than the champion: {tally} ({_brief(best, best.p_better)},"
            f" {self.level:.2g} needed; a true difference of {best.detectable:.2%} would have"
            " been seen 8 times in 10)"
        )


class _Resamples:
    """Resamples of both sides' units, for the intervals of all metrics and for bootstrap tests.

    If few units differ, a bootstrap errs more often than its level. So without a margin a p-value
    is never below that of randomization, which keeps its level for any number of units; with a
    margin there is no such test.
    """

    def __init__(
        self,
        params: GateParams,
        question: Question,
        challenger: Tallies,
        champion: Tallies,
        level: float,
        exact: str | None,
    ) -> None:
        task, groups = question.task, question.groups
        self.margin, self.level, self.by = params.margin, level, "row"
        strata = None
        if groups is not None:
            self.by = "group"
            if not task.by_group:
                challenger, champion = (
                    scoring.grouped(side, groups) for side in (challenger, champion)
                )
        elif task.exclusive:
            strata, self.by = question.truth, "class"
        only_exact = params.metrics == [exact]
        resamples = paired.RESAMPLES if only_exact else paired.resamples_for(level)
        sides = task.measure, challenger, champion
        self.drawn = paired.resampled(*sides, strata, params.seed, resamples)
        self.randomized: dict[str, Floats] = {}
        if not only_exact and params.margin == 0:
            self.randomized = paired.exchanged(*sides, params.seed, resamples)

    def test(self, metric: str, difference: float) -> dict[str, Any]:
        """Bootstrap test of a metric: its name, p-values and detectable difference."""
        drawn, randomized = self.drawn[metric], self.randomized.get(metric)
        better, worse = paired.bootstrap_p(drawn, self.margin), paired.bootstrap_p(-drawn)
        if randomized is not None:
            better = max(better, paired.randomization_p(randomized, difference))
            worse = max(worse, paired.randomization_p(-randomized, -difference))
        return {
            "test": f"bootstrap by {self.by}" + ("" if self.margin else " and randomization"),
            "p_better": better,
            "p_worse": worse,
            "detectable": paired.detectable(float(drawn.std()), self.level),
        }


def _changed(before: Sequence[str], after: Sequence[str]) -> str | None:
    """Difference of two lists of labels in words; None if they are equal."""
    if list(before) == list(after):
        return None
    gone, come = sorted(set(before) - set(after)), sorted(set(after) - set(before))
    if not gone and not come:
        return "the same labels in another order"
    parts = [f"{', '.join(map(repr, gone))} gone"] if gone else []
    parts += [f"{', '.join(map(repr, come))} new"] if come else []
    return " and ".join(parts)


def _brief(comparison: Comparison, p: float) -> str:
    return f"{words.metric(comparison.metric)} {comparison.difference.value:+.2%}, p = {p:.2g}"
