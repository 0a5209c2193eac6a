"""Simulation of the gate's error rates with champions and challengers of known true difference.

    python bench/gate.py
    python bench/gate.py --years 50 --draws 500 --out /tmp/bench    # a quick look

Rows are drawn to match the accuracy and the correlation of mistakes of real trainings that differ
only in the seed (bench/seeds.json, from `python bench/seeds.py`). The chance of being right on a
row follows a Beta distribution that gives this correlation. A model that is better by some points
has a proportionally higher chance on every row.

1. One question: the share of promoted challengers, by true difference and number of test rows,
   under four rules: the gate at its first question, the exact conditional McNemar test at the same
   error rate, the usual rule (the point estimate is as good or better), and a bare McNemar test at
   5 % for each question.
2. A year of 52 weekly questions: how often a model that is not better is promoted at least once,
   and how long a better one waits, on a constant and on a growing test set. The same for metrics
   without an exact test: macro-F1 of five classes (drawn by class), and micro-F1 over the entities
   of documents (drawn by row), each entity found by the chance of its document.

The fast rules of the simulation are compared with `judge` itself on a sample of draws; the command
fails if they differ. Writes gate.json, gate.md and gate.png.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from gate_games import ERROR_RATE, PARAMS, RULES, Documents, FiveClasses, Game, RightRows, World
from gate_page import markdown, picture
from report import RESULTS, write

from pipeline.promotion.gate import judge
from pipeline.promotion.question import Question, Side

SEEDS = Path(__file__).with_name("seeds.json")
ROWS = (200, 500, 1000, 2000, 5000, 20000)
POINTS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)  # true differences
YEAR = 52  # weeks, with one question each
YEAR_ROWS = (400, 2000)
YEAR_RULES = ("gate", "usual rule", "bare McNemar at 5 %")
DRAWN_ROWS = 400  # of years in which the bootstrap decides, which take longer
MOST_DRAWN_YEARS = 500
DRAWN_CHECKED = 20
GROWTH = 0.02  # new test rows a week, as a share of the first test set
CHECKED = 200  # draws of each kind on which the fast rule is compared with judge


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--draws", type=int, default=2000, help="single questions of each kind (2000)"
    )
    parser.add_argument("--years", type=int, default=2000, help="years of each kind (2000)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    measured = json.loads(SEEDS.read_text(encoding="utf-8"))
    content: dict[str, Any] = {
        "draws": args.draws,
        "years": args.years,
        "error_rate": ERROR_RATE,
        "data": {},
    }
    for place, (name, facts) in enumerate(measured.items()):
        world = _world(facts, 17 + place)
        content["data"][name] = {
            "accuracy": round(world.accuracy, 4),
            "correlation": facts["correlation"],
            "questions": questions(world, args.draws, name),
            "years": [
                *years(world, args.years, name),
                *drawn_years(facts, 170 + place, min(args.years, MOST_DRAWN_YEARS), name),
            ],
            "held_against_judge": check(world, RightRows(), CHECKED)
            + sum(check(world, game, DRAWN_CHECKED) for game in (FiveClasses(), Documents())),
        }
    write(args.out, "gate", content, markdown(content))
    picture(content, args.out / "gate.png")
    return 0


def _world(facts: dict[str, Any], seed: int) -> World:
    return World(float(np.mean(facts["accuracies"])), facts["correlation"], seed)


def questions(world: World, draws: int, name: str) -> list[dict[str, Any]]:
    """Return the share of challengers that each rule promotes."""
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
    """Return the outcome of years of weekly questions, by rule."""
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
    """Return the outcome of years on a constant test set in which no challenger is better, for
    metrics that the bootstrap decides."""
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
    """Return the shares of years and of epochs with a promotion, and the median week of the first.

    If the challengers are better, a year ends with the first promotion.
    """
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
    """Compare the fast rule with `judge`. Returns the number of draws; exits if they differ."""
    metric = {"floors": {game.metric: 0.0}, "metrics": [game.metric]}
    params = PARAMS.model_copy(update=metric)
    for draw in range(draws):
        rows, points = (200, 500, 1000)[draw % 3], (0.0, 0.5, 2.0)[draw % 3]
        sheet, question = game.sheet(world, rows), 1 + draw % 5
        old, new = game.answers(world, sheet, 0.0), game.answers(world, sheet, points)
        ours, theirs = (
            Side(version, game.labels, game.as_labels(answers), np.ones(rows))
            for version, answers in (("2", new), ("1", old))
        )
        ids = [str(row) for row in range(rows)]
        truth = game.truths(sheet)
        full = Question("toy", game.task, game.labels, ids, truth, ours, theirs, number=question)
        promoted = judge(params, full).decision == "promote"
        if promoted != game.promotes("gate", sheet, new, old, question):
            raise SystemExit(f"error: judge and the simulation differ: {game.metric}, draw {draw}")
    return draws


if __name__ == "__main__":
    sys.exit(main())
