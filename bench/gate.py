"""How often the gate is wrong: champions and challengers of known true difference.

    python bench/gate.py
    python bench/gate.py --years 50 --draws 500 --out /tmp/bench    # a quick look

The worlds are drawn with the accuracy and the correlation of mistakes that real seeds have
(bench/seeds.json, from `python bench/seeds.py`). A row has a difficulty, from a Beta distribution
that gives just that correlation; a model is right on it by that chance; one that is better by so
many points is so on every row in proportion.

1. One question: the share of challengers that are promoted, by true difference and number of test
   rows, by four rules at once: the gate's first question, the exact conditional McNemar test at the
   same error rate, the usual rule (the point estimate is as good or better), and a bare McNemar at
   5 %, spent anew each time.
2. A year of 52 weekly questions: how often a model that is no better is promoted at least once, how
   long a better one is held; with a test set that stays and one that grows. The same for metrics
   that no exact test decides: macro-F1 of five classes (drawn by class), and micro-F1 over the
   entities of documents (drawn by row), each of them found by its document's chance.

The quick rules of the simulation are held against `judge` itself on a sample of draws; where the
two ever differ the command fails. Writes gate.json, gate.md and gate.png.
"""

import argparse
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from gate_page import markdown, picture
from report import RESULTS, ROOT, write

from pipeline import scoring, tasks
from pipeline.config import parse, read_recipe
from pipeline.promotion import paired
from pipeline.promotion.gate import GateParams, Question, Rails, Side, judge
from pipeline.promotion.paired import exact_p, spent

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Rule = Callable[[int, int, int, int], bool]
"""(wins, losses, rows, question) -> promoted."""
SEEDS = Path(__file__).with_name("seeds.json")
ROWS = (200, 500, 1000, 2000, 5000, 20000)
POINTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # true differences
YEAR = 52  # weeks, a question each
YEAR_ROWS = (400, 2000)
DRAWN_ROWS = 400  # of years in which the bootstrap decides, which cost more
MOST_DRAWN_YEARS = 500
DRAWN_CHECKED = 20
ENTITIES = 2.0  # mean number in a document, besides one
ELSEWHERE = 0.5  # share of missed entities in whose place something else is answered
GROWTH = 0.02  # new test rows a week, as a share of the first test set
CHECKED = 200  # draws of each kind on which the quick rule is held against judge
ERROR_RATE = 0.05


@cache
def conditional_p(wins: int, losses: int) -> float:
    from scipy.stats import binom

    return float(binom.sf(wins - 1, wins + losses, 0.5)) if wins + losses else 1.0


def gate_rule(wins: int, losses: int, rows: int, question: int) -> bool:
    """The gate's, without floors and rails."""
    needed = PARAMS.fewest_discordant
    return wins + losses >= needed and exact_p(wins, losses, rows) < spent(ERROR_RATE, question)


RULES: dict[str, Rule] = {
    "gate": gate_rule,
    # the binomial form of McNemar's test
    "exact conditional McNemar, same error rate": lambda wins, losses, _, question: (
        conditional_p(wins, losses) < spent(ERROR_RATE, question)
    ),
    # the point estimate is as good or better: ties win
    "usual rule": lambda wins, losses, _rows, _question: wins >= losses,
    # each time as if it were the first
    "bare McNemar at 5 %": lambda wins, losses, _rows, _question: (
        conditional_p(wins, losses) < ERROR_RATE
    ),
}


def _params() -> GateParams:
    section = read_recipe("news", ROOT / "params.yaml")["gate"]
    params = parse(GateParams, section, "recipes.news.gate")
    free = Rails(**dict.fromkeys(Rails.model_fields))
    changed = {"floors": {"accuracy": 0.0}, "metrics": ["accuracy"], "error_rate": ERROR_RATE}
    return params.model_copy(update=changed | {"rails": free})


PARAMS = _params()
YEAR_RULES = ("gate", "usual rule", "bare McNemar at 5 %")


class World:
    """Rows of real difficulty, and models of known accuracy on them."""

    def __init__(self, accuracy: float, correlation: float, seed: int) -> None:
        self.accuracy = accuracy
        self.random = np.random.default_rng(seed)
        self.weight = 1 / correlation - 1  # the Beta's a + b, for that correlation within rows

    def rows(self, count: int, draws: int) -> npt.NDArray[np.float64]:
        """Chances of being right, (draws, count)."""
        a, b = self.accuracy * self.weight, (1 - self.accuracy) * self.weight
        return self.random.beta(a, b, (draws, count))

    def chances(self, chances: Floats, points: float) -> Floats:
        """Those of a model that is better by so many points."""
        gain = points / 100
        if gain > 0:
            return chances + (1 - chances) * gain / (1 - self.accuracy)
        return chances * (1 + gain / self.accuracy)

    def answers(self, chances: Floats, points: float = 0.0) -> Bools:
        """Where a model is right that is better by so many points, shaped as `chances`."""
        chances = self.chances(chances, points)
        return self.random.random(chances.shape) < chances


class Sheet(NamedTuple):
    """A test set."""

    chances: Floats
    """Of being right, (rows,)."""
    truth: Integers
    """Class, or number of entities, of each row."""


class Game(ABC):
    """How rows are answered, and compared in one metric."""

    task: tasks.Task
    metric: str
    plain: str
    """What a table calls it; empty for accuracy."""
    labels: tuple[str, ...] = ()

    @abstractmethod
    def sheet(self, world: World, rows: int) -> Sheet: ...

    @abstractmethod
    def answers(self, world: World, sheet: Sheet, points: float) -> Any:
        """Of a model that is better by so many points, as an array."""

    @abstractmethod
    def promotes(self, rule: str, sheet: Sheet, new: Any, old: Any, question: int) -> bool: ...

    def truths(self, sheet: Sheet) -> list[str]:
        """As labels."""
        return [self.labels[int(place)] for place in sheet.truth]

    def told(self, answers: Any) -> list[str]:
        """As labels."""
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
    """A metric that no exact test decides."""

    @abstractmethod
    def tallied(self, sheet: Sheet, answers: Integers) -> scoring.Tallies: ...

    def promotes(
        self, rule: str, sheet: Sheet, new: Integers, old: Integers, question: int
    ) -> bool:
        ours, theirs = self.tallied(sheet, new), self.tallied(sheet, old)
        gaps = scoring.alone(self.task, ours) - scoring.alone(self.task, theirs)
        wins, losses = int((gaps > scoring.TIE).sum()), int((gaps < -scoring.TIE).sum())
        scores = [scoring.metrics(self.task.measure, side)[self.metric] for side in (ours, theirs)]
        if rule == "usual rule":
            return scores[0] >= scores[1]
        if rule != "gate":
            return RULES[rule](wins, losses, len(new), question)
        return wins + losses >= PARAMS.fewest_discordant and self._shown(
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
        """As the gate says, by fewer draws where these leave no doubt that it says no."""
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


class Counted(tasks.Task):
    """Entities of documents by their number alone: `4` true ones, `3/5` hits among answers."""

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

    def told(self, answers: Integers) -> list[str]:
        return [f"{hits}/{answered}" for hits, answered in answers]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--draws", type=int, default=2000, help="single questions of each kind (2000)"
    )
    parser.add_argument("--years", type=int, default=2000, help="years of each kind (2000)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args()
    measured = json.loads(SEEDS.read_text(encoding="utf-8"))
    content: dict[str, Any] = {
        "draws": given.draws,
        "years": given.years,
        "error_rate": ERROR_RATE,
        "data": {},
    }
    for place, (name, facts) in enumerate(measured.items()):
        world = _world(facts, 17 + place)
        content["data"][name] = {
            "accuracy": round(world.accuracy, 4),
            "correlation": facts["correlation"],
            "questions": questions(world, given.draws, name),
            "years": [
                *years(world, given.years, name),
                *drawn_years(facts, 170 + place, min(given.years, MOST_DRAWN_YEARS), name),
            ],
            "held_against_judge": check(world, RightRows(), CHECKED)
            + sum(check(world, game, DRAWN_CHECKED) for game in (FiveClasses(), Documents())),
        }
    write(given.out, "gate", content, markdown(content))
    picture(content, given.out / "gate.png")
    return 0


def _world(facts: dict[str, Any], seed: int) -> World:
    return World(float(np.mean(facts["accuracies"])), facts["correlation"], seed)


def questions(world: World, draws: int, name: str) -> list[dict[str, Any]]:
    """Share of challengers that each rule promotes."""
    found = []
    for rows in ROWS:
        for points in POINTS:
            if points >= 100 * (1 - world.accuracy):
                continue
            print(f"{name}: {rows:,} rows, {points:+.1f} points", file=sys.stderr)
            counts = [_pair(world, rows, points) for _ in range(draws)]
            promoted = {
                rule: round(float(np.mean([decides(b, c, rows, 1) for b, c in counts])), 4)
                for rule, decides in RULES.items()
            }
            found.append({"rows": rows, "points": points, "promoted": promoted})
    return found


def _pair(world: World, rows: int, points: float) -> tuple[int, int]:
    chances = world.rows(rows, 1)
    champion, challenger = world.answers(chances), world.answers(chances, points)
    return int((challenger & ~champion).sum()), int((champion & ~challenger).sum())


def years(world: World, count: int, name: str) -> list[dict[str, Any]]:
    """What a year of weekly questions comes to, by rule."""
    found = []
    for rows in YEAR_ROWS:
        for growing in (False, True):
            for points in (0.0, 1.0, 2.0):
                if points >= 100 * (1 - world.accuracy):
                    continue
                kind = "grows" if growing else "stays"
                print(f"{name}: years, {rows:,} rows, {kind}, {points:+.1f}", file=sys.stderr)
                outcome = {
                    rule: _years(world, RightRows(), rule, rows, growing, points, count)
                    for rule in YEAR_RULES
                }
                found.append({"rows": rows, "test set": kind, "points": points, "rules": outcome})
    return found


def drawn_years(facts: dict[str, Any], seed: int, count: int, name: str) -> list[dict[str, Any]]:
    """The same where no challenger is better, on a test set that stays, of metrics that the
    bootstrap decides."""
    found = []
    for game in (FiveClasses(), Documents()):
        print(f"{name}: years, {game.plain}", file=sys.stderr)
        outcome = {
            # the same years for every rule
            rule: _years(_world(facts, seed), game, rule, DRAWN_ROWS, False, 0.0, count)
            for rule in YEAR_RULES
        }
        what = f"stays, {game.plain}, {count:,} years"
        found.append({"rows": DRAWN_ROWS, "test set": what, "points": 0.0, "rules": outcome})
    return found


def _years(
    world: World, game: Game, rule: str, rows: int, growing: bool, points: float, count: int
) -> dict[str, float]:
    """Of no better challengers: share of years, and of epochs, in which one is promoted. Of better
    ones: share of years in which none is, and the median week in which one is."""
    promoted_weeks, epochs_fooled, epochs = [], 0, 0
    new = int(rows * GROWTH)
    for _ in range(count):
        sheet, waiting = game.sheet(world, rows), 0
        champion, question, week, fooled = game.answers(world, sheet, 0.0), 0, None, False
        for now in range(1, YEAR + 1):
            waiting += new if growing else 0
            if growing and waiting >= PARAMS.epoch_rows:
                epochs, epochs_fooled = epochs + 1, epochs_fooled + fooled
                sheet, waiting = game.sheet(world, waiting), 0
                champion, question, fooled = game.answers(world, sheet, 0.0), 0, False
            question += 1
            challenger = game.answers(world, sheet, points)
            if game.promotes(rule, sheet, challenger, champion, question):
                week = week or now
                if points > 0:
                    break
                champion, fooled = challenger, True
        epochs, epochs_fooled = epochs + 1, epochs_fooled + fooled
        promoted_weeks.append(week)
    happened = [week for week in promoted_weeks if week]
    return {
        "years_with_a_promotion": round(len(happened) / count, 4),
        "epochs_with_a_promotion": round(epochs_fooled / epochs, 4),
        "median_week": float(np.median(happened)) if happened else 0.0,
    }


def check(world: World, game: Game, draws: int) -> int:
    """How many draws the quick rule and `judge` agreed on; ends the command where they do not."""
    metric = {"floors": {game.metric: 0.0}, "metrics": [game.metric]}
    params = PARAMS.model_copy(update=metric)
    for draw in range(draws):
        rows, points = (200, 500, 1000)[draw % 3], (0.0, 0.5, 2.0)[draw % 3]
        sheet, question = game.sheet(world, rows), 1 + draw % 5
        old, new = game.answers(world, sheet, 0.0), game.answers(world, sheet, points)
        ours, theirs = (
            Side(version, game.labels, game.told(answers), np.ones(rows))
            for version, answers in (("2", new), ("1", old))
        )
        ids = [str(row) for row in range(rows)]
        truth = game.truths(sheet)
        asked = Question("toy", game.task, game.labels, ids, truth, ours, theirs, number=question)
        said = judge(params, asked).decision == "promote"
        if said != game.promotes("gate", sheet, new, old, question):
            raise SystemExit(f"error: judge and the simulation differ: {game.metric}, draw {draw}")
    return draws


if __name__ == "__main__":
    sys.exit(main())
