"""Our numbers against a second opinion."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import accuracy_score, f1_score

from pipeline import tasks
from pipeline.metrics import scoring
from pipeline.metrics.calibration import calibration_error
from pipeline.tasks.base import Floats

CLASSES = ["a", "b", "c", "d"]


def answers(rows: int, classes: int, seed: int) -> tuple[list[str], list[str]]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, rows)
    guess = np.where(random.random(rows) < 0.7, truth, random.integers(0, classes, rows))
    return [CLASSES[i] for i in truth], [CLASSES[i] for i in guess]


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed: int) -> None:
    task, (truth, guess) = tasks.get("classification"), answers(200, 4, seed)
    scores = scoring.metrics(task.measure, scoring.tallies(task, truth, guess, CLASSES))
    assert scores["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"))


def test_the_interval_is_the_one_that_resampling_rows_gives() -> None:
    task, (truth, guess) = tasks.get("classification"), answers(300, 3, 1)
    tallied = scoring.tallies(task, truth, guess, CLASSES[:3])
    right, random = np.array(truth) == np.array(guess), np.random.default_rng(2)
    places = random.integers(0, 300, (4000, 300))
    draws = {
        "accuracy": right[places].mean(1),
        "macro_f1": task.measure(tallied.rows[places].sum(1))["macro_f1"],
    }
    for name, interval in scoring.intervals(task.measure, tallied).items():
        low, high = np.quantile(draws[name], (0.025, 0.975))
        assert interval.low == pytest.approx(low, abs=0.01)
        assert interval.high == pytest.approx(high, abs=0.01)


def test_rows_are_tallied_alone_and_slices_add_up() -> None:
    task, (truth, guess) = tasks.get("classification"), answers(100, 4, 3)
    tallied = scoring.tallies(task, truth, guess, CLASSES)
    right = np.array(truth) == np.array(guess)
    assert scoring.per_unit_score(task, tallied).tolist() == right.tolist()
    first = np.arange(100) < 40
    parts = tallied.of(first).total() + tallied.of(~first).total()
    assert parts == pytest.approx(tallied.total())
    assert len(tallied.table) <= 16  # each different tally once


class Grouped:
    """True if the best of a group was answered."""

    by_group = True
    exact = "best"

    def tally(self, truths: list[str], answers: list[str], classes: list[str]) -> Floats:
        return np.array([truths.index("1") == answers.index(max(answers)), 1.0])

    def measure(self, tallies: Floats) -> dict[str, Floats]:
        return {"best": tallies[..., 0] / np.maximum(tallies[..., 1], 1)}


def test_a_group_is_one_unit_where_a_task_scores_groups() -> None:
    task = Grouped()
    groups = ["x", "y", "x", "y", "y"]
    tallied = scoring.tallies(
        task, ["0", "1", "1", "0", "0"], ["0.1", "0.2", "0.9", "0.8", "0.3"], [], groups
    )
    assert len(tallied) == 2
    assert scoring.metrics(task.measure, tallied) == {"best": 0.5}


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (9, 2), (2, 9), (10, 10)])
def test_mcnemar_is_the_exact_binomial_tail(wins: int, losses: int) -> None:
    expected = float(binom.sf(wins - 1, wins + losses, 0.5)) if wins + losses else 1.0
    assert scoring.mcnemar_p(wins, losses) == pytest.approx(expected)


def test_rows_of_one_group_are_one_witness() -> None:
    difference = np.array([-1.0] * 8 + [1.0] + [0.0] * 3)
    assert scoring.worse_p(difference, None) == pytest.approx(scoring.mcnemar_p(8, 1))
    assert scoring.worse_p(difference, ["a"] * 8 + ["b", "c", "d", "e"]) == pytest.approx(0.75)
    assert scoring.worse_p(-difference, ["a"] * 8 + ["b"] * 4) == pytest.approx(0.75)


def test_rows_are_parted_by_length_from_the_shortest_on() -> None:
    lengths = np.array([9, 1200, 30, 9, 200, 10, 31, 1000])
    parts = scoring.by_length(lengths)
    assert list(parts) == [
        "characters: 9–9",
        "characters: 10–30",
        "characters: 31–200",
        "characters: 1,000–1,200",
    ]
    assert np.sum(list(parts.values()), axis=0).tolist() == [1] * 8
    assert lengths[parts["characters: 31–200"]].tolist() == [200, 31]


def test_rows_of_one_length_are_one_part() -> None:
    parts = scoring.by_length(np.array([7, 7, 7]))
    assert {name: part.all() for name, part in parts.items()} == {"characters: 7–7": True}
    assert scoring.by_length(np.array([], int)) == {}


def test_a_calibrated_model_has_no_calibration_error() -> None:
    assert calibration_error([(0.5, 0.5, 10), (0.9, 0.9, 5)]) == 0
    assert calibration_error([(0.9, 0.5, 10)]) == pytest.approx(0.4)
