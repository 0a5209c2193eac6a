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
   long a better one is held; with a test set that stays and one that grows.

The quick rule of the simulation is held against `judge` itself on a sample of its draws; where the
two ever differ the command fails. Writes gate.json, gate.md and gate.png.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from report import RESULTS, ROOT, table, write

from pipeline.config import parse, read_recipe
from pipeline.promotion.gate import GateParams, Question, Rails, Side, judge
from pipeline.promotion.paired import exact_p, spent

Bools = npt.NDArray[np.bool_]
Rule = Callable[[int, int, int, int], bool]
"""(wins, losses, rows, question) -> promoted."""
SEEDS = Path(__file__).with_name("seeds.json")
ROWS = (200, 500, 1000, 2000, 5000, 20000)
POINTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # true differences
YEAR = 52  # weeks, a question each
YEAR_ROWS = (400, 2000)
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
    free = Rails(**dict.fromkeys(Rails.model_fields))  # type: ignore[arg-type]
    floors = {"floor_accuracy": 0.0, "floor_macro_f1": 0.0, "error_rate": ERROR_RATE}
    return params.model_copy(update=floors | {"rails": free, "metrics": ["accuracy"]})


PARAMS = _params()


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

    def answers(self, chances: npt.NDArray[np.float64], points: float = 0.0) -> Bools:
        """Where a model is right that is better by so many points, shaped as `chances`."""
        gain = points / 100
        if gain > 0:
            chances = chances + (1 - chances) * gain / (1 - self.accuracy)
        else:
            chances = chances * (1 + gain / self.accuracy)
        return self.random.random(chances.shape) < chances


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--draws", type=int, default=2000, help="single questions of each kind (2000)"
    )
    parser.add_argument("--years", type=int, default=2000, help="years of each kind (2000)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args()
    measured = json.loads(SEEDS.read_text(encoding="utf-8"))
    content: dict[str, Any] = {"draws": given.draws, "years": given.years, "data": {}}
    for place, (name, facts) in enumerate(measured.items()):
        world = World(float(np.mean(facts["accuracies"])), facts["correlation"], 17 + place)
        content["data"][name] = {
            "accuracy": round(world.accuracy, 4),
            "correlation": facts["correlation"],
            "questions": questions(world, given.draws, name),
            "years": years(world, given.years, name),
            "held_against_judge": check(world),
        }
    write(given.out, "gate", content, markdown(content))
    picture(content, given.out / "gate.png")
    return 0


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
                    rule: _years(world, RULES[rule], rows, growing, points, count)
                    for rule in ("gate", "usual rule", "bare McNemar at 5 %")
                }
                found.append({"rows": rows, "test set": kind, "points": points, "rules": outcome})
    return found


def _years(
    world: World, rule: Rule, rows: int, growing: bool, points: float, count: int
) -> dict[str, float]:
    """Of no better challengers: share of years, and of epochs, in which one is promoted. Of better
    ones: share of years in which none is, and the median week in which one is."""
    promoted_weeks, epochs_fooled, epochs = [], 0, 0
    new = int(rows * GROWTH)
    for _ in range(count):
        chances, waiting = world.rows(rows, 1)[0], 0
        champion, question, week, fooled = world.answers(chances), 0, None, False
        for now in range(1, YEAR + 1):
            waiting += new if growing else 0
            if growing and waiting >= PARAMS.epoch_rows:
                epochs, epochs_fooled = epochs + 1, epochs_fooled + fooled
                chances, waiting = world.rows(waiting, 1)[0], 0
                champion, question, fooled = world.answers(chances), 0, False
            question += 1
            challenger = world.answers(chances, points)
            wins = int((challenger & ~champion).sum())
            losses = int((champion & ~challenger).sum())
            if rule(wins, losses, len(chances), question):
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


def check(world: World) -> int:
    """How many draws the quick rule and `judge` agreed on; ends the command where they do not."""
    for draw in range(CHECKED):
        rows, points = (200, 500, 1000)[draw % 3], (0.0, 0.5, 2.0)[draw % 3]
        chances = world.rows(rows, 1)[0]
        sides = world.answers(chances), world.answers(chances, points)
        wins, losses = int((sides[1] & ~sides[0]).sum()), int((sides[0] & ~sides[1]).sum())
        question = 1 + draw % 5
        old, new = (
            Side(str(number), ["a", "b"], np.stack([right, ~right], 1).astype(np.float32))
            for number, right in enumerate(sides, 1)
        )
        ids = [str(row) for row in range(rows)]
        asked = Question("toy", ["a", "b"], ids, ["a"] * rows, new, old, number=question)
        said = judge(PARAMS, asked).decision == "promote"
        if said != gate_rule(wins, losses, rows, question):
            raise SystemExit(f"error: judge and the simulation differ: {wins}, {losses} of {rows}")
    return CHECKED


def markdown(content: dict[str, Any]) -> str:
    parts = ["## The gate, judged by simulation"]
    for name, facts in content["data"].items():
        rows = [
            (
                f"{each['rows']:,}",
                f"{each['points']:+.1f}",
                *(f"{each['promoted'][rule]:.1%}" for rule in RULES),
            )
            for each in facts["questions"]
        ]
        parts.append(
            f"### {name}: accuracy {facts['accuracy']:.3f}, mistakes correlated by"
            f" {facts['correlation']:.2f}\n\nOne question: share of challengers promoted"
            f" ({content['draws']:,} draws of each kind).\n\n"
            + table(("test rows", "true difference, points", *RULES), rows)
        )
        over = [
            (
                f"{each['rows']:,}, {each['test set']}",
                f"{each['points']:+.1f}",
                *(_year(each["rules"][rule], each["points"]) for rule in each["rules"]),
            )
            for each in facts["years"]
        ]
        header = ("test set", "true difference, points", *facts["years"][0]["rules"])
        parts.append(
            f"A year of weekly questions ({content['years']:,} years of each kind). No difference:"
            " share of years, and of epochs, in which a model that is no better was promoted. A"
            " difference: share of years in which the better one was promoted, and the median week"
            f" in which it was.\n\n{table(header, over)}"
        )
    checked = sum(facts["held_against_judge"] for facts in content["data"].values())
    parts.append(
        f"The gate's rule here is `judge` itself without floors and rails: {checked} draws were"
        " put to both, and they agreed on all."
    )
    return "\n\n".join(parts) + "\n"


def _year(outcome: dict[str, float], points: float) -> str:
    share = f"{outcome['years_with_a_promotion']:.1%}"
    if points == 0:
        return f"{share} of years, {outcome['epochs_with_a_promotion']:.1%} of epochs"
    return f"{share}, week {outcome['median_week']:.0f}"


def picture(content: dict[str, Any], path: Path) -> None:
    """Power by true difference at three sizes of the test set, and a year of no difference."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = list(content["data"])
    figure, grid = plt.subplots(
        len(names), 2, figsize=(11, 4 * len(names)), layout="constrained", squeeze=False
    )
    styles = dict(zip(RULES, ("-", "--", ":", "-."), strict=True))
    for name, (left, right) in zip(names, grid, strict=True):
        facts = content["data"][name]
        for colour, rows in zip(("#3465a4", "#d9822b", "#4e9a06"), (500, 2000, 20000), strict=True):
            part = [each for each in facts["questions"] if each["rows"] == rows]
            for rule, style in styles.items():
                left.plot(
                    [each["points"] for each in part],
                    [each["promoted"][rule] for each in part],
                    style,
                    color=colour,
                    label=f"{rows:,} rows" if rule == "gate" else None,
                )
        left.axhline(ERROR_RATE, color="#888888", lw=0.8)
        left.set(xlabel="true difference, points", ylabel="share promoted", ylim=(-0.02, 1.02))
        left.set_title(f"{name}: one question")
        left.legend(frameon=False)
        equal = [each for each in facts["years"] if each["points"] == 0]
        rules = list(equal[0]["rules"])
        width = 0.8 / len(rules)
        for place, rule in enumerate(rules):
            right.bar(
                np.arange(len(equal)) + place * width,
                [each["rules"][rule]["epochs_with_a_promotion"] for each in equal],
                width,
                label=rule,
            )
        right.axhline(ERROR_RATE, color="#888888", lw=0.8)
        right.set_xticks(
            np.arange(len(equal)) + width,
            [f"{each['rows']:,}, {each['test set']}" for each in equal],
        )
        right.set(ylabel="epochs with a promotion", ylim=(0, 1.3))
        right.set_title(f"{name}: a year in which no challenger is better")
        right.legend(frameon=False, loc="upper center", ncols=3, fontsize=9)
    figure.suptitle(
        "solid: the gate, dashed: exact conditional McNemar, dotted: usual rule, dash-dot: bare"
        " McNemar",
        fontsize=9,
    )
    figure.savefig(path, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    sys.exit(main())
