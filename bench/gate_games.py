"""Parts of the gate's simulation: rows of known difficulty, models of known accuracy on them, and
the rules that promote a challenger.

The gate's own rule is implemented again from counts alone, since it runs millions of times; gate.py
compares it with `judge`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from report import ROOT

from pipeline import tasks
from pipeline.core.config import parse, read_recipe
from pipeline.metrics import scoring
from pipeline.promotion import paired
from pipeline.promotion.gate import GateParams
from pipeline.promotion.guardrails import Guardrails
from pipeline.promotion.paired import exact_p, spent
from pipeline.tasks.base import Task

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Rule = Callable[[int, int, int, int], bool]
"""(wins, losses, rows, question) -> promoted."""
ENTITIES = 2.0  # mean number of entities in a document, in addition to the first
ELSEWHERE = 0.5  # share of missed entities for which a wrong one is answered
ERROR_RATE = 0.05


@cache
def conditional_p(wins: int, losses: int) -> float:
    from scipy.stats import binom

    return float(binom.sf(wins - 1, wins + losses, 0.5)) if wins + losses else 1.0


def gate_rule(wins: int, losses: int, rows: int, question: int) -> bool:
    """True if the gate promotes, without floors and guardrails."""
    needed = PARAMS.min_discordant
    return wins + losses >= needed and exact_p(wins, losses, rows) < spent(ERROR_RATE, question)


RULES: dict[str, Rule] = {
    "gate": gate_rule,
    # the binomial form of McNemar's test
    "exact conditional McNemar, same error rate": lambda wins, losses, _, question: (
        conditional_p(wins, losses) < spent(ERROR_RATE, question)
    ),
    # the point estimate is as good or better: ties win
    "usual rule": lambda wins, losses, _rows, _question: wins >= losses,
    # every question as if it were the first
    "bare McNemar at 5 %": lambda wins, losses, _rows, _question: (
        conditional_p(wins, losses) < ERROR_RATE
    ),
}


def _params() -> GateParams:
    section = read_recipe("news", ROOT / "params.yaml")["gate"]
    params = parse(GateParams, section, "recipes.news.gate")
    free = Guardrails(**dict.fromkeys(Guardrails.model_fields))
    changed = {"floors": {"accuracy": 0.0}, "metrics": ["accuracy"], "error_rate": ERROR_RATE}
    return params.model_copy(update=changed | {"guardrails": free})


PARAMS = _params()


class World:
    """Source of rows of realistic difficulty and of models with known accuracy on them."""

    def __init__(self, accuracy: float, correlation: float, seed: int) -> None:
        self.accuracy = accuracy
        self.random = np.random.default_rng(seed)
        self.weight = 1 / correlation - 1  # a + b of the Beta with that correlation within rows

    def rows(self, count: int, draws: int) -> npt.NDArray[np.float64]:
        """Draw chances of being right, as an array of shape (draws, count)."""
        a, b = self.accuracy * self.weight, (1 - self.accuracy) * self.weight
        return self.random.beta(a, b, (draws, count))

    def chances(self, chances: Floats, points: float) -> Floats:
        """Return the chances of a model that is better by so many points."""
        gain = points / 100
        if gain > 0:
            return chances + (1 - chances) * gain / (1 - self.accuracy)
        return chances * (1 + gain / self.accuracy)

    def answers(self, chances: Floats, points: float = 0.0) -> Bools:
        """Draw the rows on which a model better by so many points is right, shaped as `chances`."""
        chances = self.chances(chances, points)
        return self.random.random(chances.shape) < chances


class Sheet(NamedTuple):
    """Test set."""

    chances: Floats
    """Chance of being right on each row, (rows,)."""
    truth: Integers
    """Class, or number of entities, of each row."""


class Game(ABC):
    """Task whose rows are answered and compared in one metric."""

    task: Task
    metric: str
    plain: str
    """Name in a table; empty for accuracy."""
    labels: tuple[str, ...] = ()

    @abstractmethod
    def sheet(self, world: World, rows: int) -> Sheet: ...

    @abstractmethod
    def answers(self, world: World, sheet: Sheet, points: float) -> Any:
        """Draw the answers of a model that is better by so many points, as an array."""

    @abstractmethod
    def promotes(self, rule: str, sheet: Sheet, new: Any, old: Any, question: int) -> bool: ...

    def truths(self, sheet: Sheet) -> list[str]:
        """Return the truth of all rows as labels."""
        return self.as_labels(sheet.truth)

    def as_labels(self, answers: Any) -> list[str]:
        return [self.labels[int(place)] for place in answers]


class RightRows(Game):
    task, metric, plain, labels = tasks.get("classification"), "accuracy", "", ("wrong", "right")

    def sheet(self, world: World, rows: int) -> Sheet:
        return Sheet(world.rows(rows, 1)[0], np.ones(rows, dtype=np.int64))

    def answers(self, world: World, sheet: Sheet, points: float) -> Bools:
        return world.answers(sheet.chances, points)

    def promotes(self, rule: str, sheet: Sheet, new: Bools, old: Bools, question: int) -> bool:
        wins, losses = int((new & ~old).sum()), int((old & ~new).sum())
        return RULES[rule](wins, losses, len(new), question)


class Drawn(Game):
    """Game with a metric that no exact test decides."""

    @abstractmethod
    def tallied(self, sheet: Sheet, answers: Integers) -> scoring.Tallies: ...

    def promotes(
        self, rule: str, sheet: Sheet, new: Integers, old: Integers, question: int
    ) -> bool:
        ours, theirs = self.tallied(sheet, new), self.tallied(sheet, old)
        gaps = scoring.per_unit_score(self.task, ours) - scoring.per_unit_score(self.task, theirs)
        wins, losses = int((gaps > scoring.TIE).sum()), int((gaps < -scoring.TIE).sum())
        scores = [scoring.metrics(self.task.measure, side)[self.metric] for side in (ours, theirs)]
        if rule == "usual rule":
            return scores[0] >= scores[1]
        if rule != "gate":
            return RULES[rule](wins, losses, len(new), question)
        return wins + losses >= PARAMS.min_discordant and self._shown(
            ours, theirs, sheet, scores[0] - scores[1], spent(ERROR_RATE, question)
        )

    def _shown(
        self,
        new: scoring.Tallies,
        old: scoring.Tallies,
        sheet: Sheet,
        difference: float,
        level: float,
    ) -> bool:
        """True if the gate promotes; stops after fewer draws if it clearly does not."""
        if difference <= 0:
            return False
        sides, full = (self.task.measure, new, old), paired.resamples_for(level)
        for resamples in (200, 4000, full):
            chance = paired.exchanged(*sides, PARAMS.seed, resamples)[self.metric]
            p = paired.randomization_p(chance, difference)
            if p > 3 * level + 20 / resamples:
                return False
        strata = self.truths(sheet) if self.task.exclusive else None
        drawn = paired.resampled(*sides, strata, PARAMS.seed, full)[self.metric]
        return max(p, paired.bootstrap_p(drawn)) < level


class FiveClasses(Drawn):
    task, metric, plain = tasks.get("classification"), "macro_f1", "macro-F1 of 5 classes"
    labels = ("a", "b", "c", "d", "e")

    def __init__(self) -> None:
        pairs = product(self.labels, self.labels)
        self.table = np.stack([self.task.tally([t], [a], self.labels) for t, a in pairs])

    def sheet(self, world: World, rows: int) -> Sheet:
        return Sheet(world.rows(rows, 1)[0], world.random.integers(len(self.labels), size=rows))

    def answers(self, world: World, sheet: Sheet, points: float) -> Integers:
        wrong = ~world.answers(sheet.chances, points)
        others = world.random.integers(1, len(self.labels), len(wrong))
        return np.asarray((sheet.truth + others * wrong) % len(self.labels))

    def tallied(self, sheet: Sheet, answers: Integers) -> scoring.Tallies:
        return scoring.Tallies(self.table, sheet.truth * len(self.labels) + answers)


class Counted(Task):
    """Task with counts of entities: truth `4`, answer `3/5` for 3 hits among 5 answers."""

    head = "token"
    metrics = ("micro_f1",)

    def tally(
        self, truths: Sequence[str], answers: Sequence[str], classes: Sequence[str]
    ) -> Floats:
        return np.array([*map(int, answers[0].split("/")), int(truths[0])], dtype=np.float64)

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        hits, answers, truths = np.moveaxis(tallies, -1, 0)
        return {"micro_f1": 2 * hits / np.maximum(answers + truths, 1)}

    def label(self, cell: str, text: str, second: str) -> str:
        return cell

    def _never(self, *given: Any, **named: Any) -> Any:
        raise AssertionError("nothing is trained here")

    outputs = target = loss = answers = baselines = _never


class Documents(Drawn):
    task, metric, plain = Counted(), "micro_f1", "documents, micro-F1"

    def sheet(self, world: World, rows: int) -> Sheet:
        return Sheet(world.rows(rows, 1)[0], 1 + world.random.poisson(ENTITIES, rows))

    def answers(self, world: World, sheet: Sheet, points: float) -> Integers:
        hits = world.random.binomial(sheet.truth, world.chances(sheet.chances, points))
        wrong = world.random.binomial(sheet.truth - hits, ELSEWHERE)
        return np.stack([hits, hits + wrong], axis=1)

    def tallied(self, sheet: Sheet, answers: Integers) -> scoring.Tallies:
        rows = np.column_stack([answers, sheet.truth]).astype(np.float64)
        return scoring.Tallies(*scoring.distinct(rows))

    def truths(self, sheet: Sheet) -> list[str]:
        return list(map(str, sheet.truth))

    def as_labels(self, answers: Integers) -> list[str]:
        return [f"{hits}/{answered}" for hits, answered in answers]
