"""The gate: what two versions answered goes in, a verdict comes out. Pure: the same inputs give the
same verdict.

A version that is unfit (files that are not its own, test rows it was trained on, scores that are no
numbers) is rejected; one that cannot be compared is held, with the way on. A model without a rival
must reach the recipe's floors. Otherwise champion and challenger have answered the same rows of the
frozen test set through the runtimes that serve them, and a paired test decides: exact for accuracy,
a bootstrap for anything else. Each question may err only so often that all of an epoch's together
keep the recipe's error rate. Guard rails look at what the metric does not. A tie changes nothing.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pipeline import scoring
from pipeline.config import Settings
from pipeline.promotion import paired
from pipeline.records import Comparison, Decision, Interval, Rail, Verdict
from pipeline.scoring import Labels

Metric = Literal["accuracy", "macro_f1"]
CHANCE = 0.05  # p-value under which a fall within a class or slice is not put down to chance
BINS = 10  # of the calibration error


class Rails(Settings):
    """Limits on what the deciding metric does not show; null takes a rail away."""

    worst_class: float | None = Field(gt=0, le=1)
    """Fall of the recall of any one class against the champion."""
    slices: float | None = Field(gt=0, le=1)
    """Fall of the accuracy of any one slice against the champion."""
    calibration: float | None = Field(gt=0, le=1)
    """Rise of the expected calibration error against the champion."""
    flips: float | None = Field(gt=0, le=1)
    """Share of the rows that are answered otherwise than by the champion."""
    behaviour: float | None = Field(ge=0, lt=1)
    """Share of behaviour tests that fail."""
    quarantined_percent: float | None = Field(ge=0, le=100)
    """Rows of the source that validation has set aside."""
    latency_ms: float | None = Field(gt=0)
    """Median time of one answer on this machine, batch 1, real texts."""
    megabytes: float | None = Field(gt=0)
    """Of the files that are served."""


class GateParams(Settings):
    floor_accuracy: float = Field(ge=0, le=1)
    floor_macro_f1: float = Field(ge=0, le=1)
    """Of the test rows, as served: below either a version is rejected."""
    metrics: list[Metric] = Field(min_length=1)
    """What decides. Of several, one must be shown better (Holm's correction) and none worse."""
    margin: float = Field(ge=0, lt=0.5)
    """0: the challenger must be shown better. More: it must be shown not to be worse than the
    champion by this much, in every metric (non-inferiority)."""
    error_rate: float = Field(gt=0, le=0.5)
    """Share of epochs in which a model that is no better may replace the champion."""
    fewest_rows: int = Field(ge=1)
    """Test rows without which no difference is believed."""
    fewest_discordant: int = Field(ge=1)
    """Rows that just one side has right, without which no difference is believed."""
    epoch_rows: int = Field(ge=1)
    """New test rows that make the next epoch."""
    approve: bool
    """Whether a person has to agree before the alias moves."""
    seed: int = Field(ge=0)
    """Of the bootstrap."""
    rails: Rails

    @model_validator(mode="after")
    def _different(self) -> Self:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("metrics names one twice")
        return self


@dataclass(frozen=True)
class Side:
    """A version's answers to the epoch's rows, through the runtime that serves it."""

    version: str
    labels: Sequence[str]
    scores: npt.NDArray[np.float32]
    """Class scores, (rows, classes)."""
    latency_ms: float = 0.0
    megabytes: float = 0.0
    defects: Sequence[str] = ()
    """Why nothing that it answers may count."""

    def defect(self, rows: int) -> str | None:
        """The first reason why its answers may not count."""
        if self.defects:
            return self.defects[0]
        if self.scores.shape != (rows, len(self.labels)) or not self.scores.size:
            return f"answers {self.scores.shape[0]:,} of {rows:,} test rows"
        broken = ~np.isfinite(self.scores).all(1)
        if broken.any():
            return f"its scores for {int(broken.sum()):,} of {rows:,} test rows are not numbers"
        return None

    def digest(self) -> str:
        told = json.dumps([self.version, list(self.labels), list(self.defects)])
        rounded = np.round(self.scores.astype(np.float64), 6)
        return hashlib.sha256(told.encode() + rounded.tobytes()).hexdigest()


@dataclass(frozen=True)
class Question:
    """Everything that a verdict rests on, besides the recipe's rule."""

    model: str
    labels: Sequence[str]
    """The classes of the rows as they are labelled now."""
    ids: Sequence[str]
    truth: Sequence[str]
    challenger: Side
    champion: Side | None
    epoch: int = 1
    number: int = 1
    """How many questions the epoch will have answered with this one."""
    groups: Sequence[str] | None = None
    """What rows depend on each other, where the recipe names a group."""
    slices: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    """Rows of each named slice."""
    quarantined_percent: float = 0.0
    behaviour_failed: float = 0.0

    def evidence(self) -> dict[str, str]:
        """SHA-256 of the rows and of each side's answers."""
        rows = json.dumps([list(self.ids), list(self.truth), list(self.groups or ())])
        digests = {
            "rows": hashlib.sha256(rows.encode()).hexdigest(),
            "challenger": self.challenger.digest(),
        }
        return digests | ({"champion": self.champion.digest()} if self.champion else {})


def judge(params: GateParams, asked: Question) -> Verdict:
    """The verdict on a challenger, with what it rests on."""
    return _Hearing(params, asked).verdict()


class _Hearing:
    """One question's numbers, computed once."""

    def __init__(self, params: GateParams, asked: Question) -> None:
        self.params, self.asked = params, asked
        self.level = paired.spent(params.error_rate, asked.number)
        self.comparisons: list[Comparison] = []
        self.rails: list[Rail] = []
        self.accuracy = self.macro_f1 = 0.0
        self.wins = self.losses = 0
        self.unfit = False

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
            accuracy=self.accuracy,
            macro_f1=self.macro_f1,
            comparisons=self.comparisons,
            only_challenger_right=self.wins,
            only_champion_right=self.losses,
            rails=self.rails,
            rule=self.params.model_dump(),
            unfit=self.unfit,
            evidence=asked.evidence(),
        )

    def _decide(self) -> tuple[Decision, str]:
        params, asked, old = self.params, self.asked, self.asked.champion
        rows = len(asked.truth)
        if not rows:
            return "reject", "there are no test rows to judge it on"
        if defect := asked.challenger.defect(rows):
            self.unfit = True
            return "reject", defect
        way_on = (
            f"judge it alone by bertline promote {asked.model}/{asked.challenger.version}"
            " --rebaseline --reason TEXT"
        )
        if change := _changed(asked.labels, asked.challenger.labels):
            return "reject", f"it was trained for other labels than the rows have: {change}"
        if old and (change := _changed(old.labels, asked.challenger.labels)):
            return "hold", (
                f"champion {old.version} has other labels ({change}): they cannot be compared;"
                f" {way_on}"
            )
        if old and (defect := old.defect(rows)):
            return "hold", f"champion {old.version} cannot be compared with: {defect}; {way_on}"
        self._measure()
        if self.accuracy < params.floor_accuracy:
            return "reject", (
                f"test accuracy {self.accuracy:.4f} is below the floor {params.floor_accuracy}"
            )
        if self.macro_f1 < params.floor_macro_f1:
            return "reject", (
                f"test macro-F1 {self.macro_f1:.4f} is below the floor {params.floor_macro_f1}"
            )
        self.rails = list(self._rails())
        broken = [rail for rail in self.rails if not rail.held]
        if old is None:
            if broken:
                return "reject", f"guard rail {broken[0].name}: {broken[0].note}"
            return "promote", (
                f"no champion yet, and test accuracy {self.accuracy:.4f} is above the floor"
            )
        if rows < params.fewest_rows:
            return "hold", (
                f"{rows:,} test rows are too few to believe a difference"
                f" ({params.fewest_rows:,} needed)"
            )
        if not (self._challenger != self._champion).any():
            return "hold", (
                f"right on the same rows as champion {old.version}: a tie changes nothing"
            )
        self.comparisons = self._compare()
        decision, reason = self._weigh()
        if decision == "promote" and broken:
            return "reject", f"guard rail {broken[0].name}: {broken[0].note}, though {reason}"
        return decision, reason

    def _measure(self) -> None:
        asked, number = self.asked, {label: i for i, label in enumerate(self.asked.labels)}
        self._truth: Labels = np.array([number[label] for label in asked.truth])
        self._challenger: Labels = asked.challenger.scores.argmax(1)
        matrix = scoring.confusion_matrix(self._truth, self._challenger, len(number))
        self.accuracy = float(scoring.accuracy(matrix))
        self.macro_f1 = float(scoring.macro_f1(matrix))
        if asked.champion:
            self._champion: Labels = asked.champion.scores.argmax(1)
            right, rival = self._challenger == self._truth, self._champion == self._truth
            self.wins, self.losses = int((right & ~rival).sum()), int((rival & ~right).sum())

    def _compare(self) -> list[Comparison]:
        found = [self._comparison(metric) for metric in self.params.metrics]
        if self.params.margin == 0:
            corrected = paired.holm([each.p_better for each in found])
            found = [
                each.model_copy(update={"p_better": p})
                for each, p in zip(found, corrected, strict=True)
            ]
        return found

    def _comparison(self, metric: Metric) -> Comparison:
        params, asked, rows = self.params, self.asked, len(self.asked.truth)
        exact = metric == "accuracy" and asked.groups is None
        resamples = paired.RESAMPLES if exact else paired.resamples_for(self.level)
        classes = len(asked.labels)
        drawn = paired.resampled(
            metric,
            self._truth,
            self._challenger,
            self._champion,
            classes,
            asked.groups,
            params.seed,
            resamples,
        )
        new, old = (
            float(scoring.METRICS[metric](scoring.confusion_matrix(self._truth, side, classes)))
            for side in (self._challenger, self._champion)
        )
        low, high = np.quantile(drawn, (0.025, 0.975))
        if exact:
            test = "exact McNemar" if params.margin == 0 else "Tango's score test"
            better = (
                paired.exact_p(self.wins, self.losses, rows)
                if params.margin == 0
                else paired.margin_p(self.wins, self.losses, rows, params.margin)
            )
            worse = paired.exact_p(self.losses, self.wins, rows)
            share = max(self.wins + self.losses, 1) / rows  # of discordant rows (Connor 1987)
            seen = paired.detectable(np.sqrt(share / rows), self.level)
        else:
            test = f"bootstrap by {'group' if asked.groups is not None else 'class'}"
            better = paired.bootstrap_p(drawn, params.margin)
            worse = paired.bootstrap_p(-drawn)
            seen = paired.detectable(float(drawn.std()), self.level)
        return Comparison(
            metric=metric,
            challenger=new,
            champion=old,
            difference=Interval(value=new - old, low=float(low), high=float(high)),
            test=test,
            p_better=better,
            p_worse=worse,
            detectable=seen,
        )

    def _weigh(self) -> tuple[Decision, str]:
        params, old = self.params, self.asked.champion
        assert old is not None
        tally = f"alone right on {self.wins:,} rows, champion {old.version} on {self.losses:,}"
        discordant = self.wins + self.losses
        worse = min(self.comparisons, key=lambda each: each.p_worse)
        if params.margin == 0 and worse.p_worse < self.level:
            return "reject", f"worse than the champion: {tally} ({_told(worse, worse.p_worse)})"
        if discordant < params.fewest_discordant:
            return "hold", (
                f"the two differ in being right on {discordant} rows, too few to believe a"
                f" difference ({params.fewest_discordant} needed): {tally}"
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

    def _rails(self) -> Iterator[Rail]:
        limits, asked, old = self.params.rails, self.asked, self.asked.champion
        new = asked.challenger
        absolute = (
            ("latency", new.latency_ms, limits.latency_ms, "ms"),
            ("size", new.megabytes, limits.megabytes, "MB"),
            ("validation", asked.quarantined_percent, limits.quarantined_percent, "% set aside"),
            ("behaviour", 100 * asked.behaviour_failed, _percent(limits.behaviour), "% failed"),
        )
        for name, value, limit, unit in absolute:
            if limit is not None:
                yield _rail(name, value, limit, unit, value > limit)
        if old is None:
            return
        if limits.flips is not None:
            flips = float((self._challenger != self._champion).mean())
            yield _rail("flips", 100 * flips, 100 * limits.flips, "% of answers", None)
        if limits.calibration is not None:
            rise = self._calibration(new, self._challenger) - self._calibration(old, self._champion)
            yield _rail("calibration", 100 * rise, 100 * limits.calibration, "points", None)
        if limits.worst_class is not None:
            parts = {label: self._truth == i for i, label in enumerate(asked.labels)}
            yield self._worst("worst class", parts, limits.worst_class)
        if limits.slices is not None and asked.slices:
            yield self._worst("slices", asked.slices, limits.slices)

    def _worst(self, name: str, parts: Mapping[str, npt.NDArray[np.bool_]], limit: float) -> Rail:
        """The part that falls deepest; a fall that chance explains breaks no rail."""
        right, rival = self._challenger == self._truth, self._champion == self._truth
        falls = []
        for part, rows in parts.items():
            count = int(rows.sum())
            if count:
                wins = int((right & ~rival & rows).sum())
                losses = int((rival & ~right & rows).sum())
                fall = (losses - wins) / count
                chance = paired.exact_p(losses, wins, count)
                falls.append((fall > limit and chance < CHANCE, fall, part, chance))
        broken, fall, part, chance = max(falls)
        rail = _rail(name, 100 * fall, 100 * limit, "points lost", broken)
        return rail.model_copy(update={"note": f"{part!r}: {rail.note} (p = {chance:.2g})"})

    def _calibration(self, side: Side, answers: Labels) -> float:
        confidence = side.scores.max(1).astype(np.float64)
        place = np.minimum((confidence * BINS).astype(int), BINS - 1)
        right = answers == self._truth
        return scoring.calibration_error(
            [
                (float(confidence[place == b].mean()), float(right[place == b].mean()), int(n))
                for b, n in enumerate(np.bincount(place, minlength=BINS))
                if n
            ]
        )


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


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _rail(name: str, value: float, limit: float, unit: str, broken: bool | None) -> Rail:
    if broken is None:
        broken = value > limit
    note = f"{value:.3g} {unit}, {limit:.3g} allowed"
    return Rail(name=name, value=value, limit=limit, unit=unit, held=not broken, note=note)


def _told(comparison: Comparison, p: float) -> str:
    return f"{comparison.metric} {comparison.difference.value:+.2%}, p = {p:.2g}"
