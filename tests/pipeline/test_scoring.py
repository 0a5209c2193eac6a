"""Our numbers against a second opinion."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import accuracy_score, f1_score

from pipeline import scoring


def answers(rows: int, classes: int, seed: int) -> tuple[scoring.Labels, scoring.Labels]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, rows)
    guess = np.where(random.random(rows) < 0.7, truth, random.integers(0, classes, rows))
    return truth, guess


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed: int) -> None:
    truth, guess = answers(200, 4, seed)
    confusion = scoring.confusion_matrix(truth, guess, 4)
    assert scoring.accuracy(confusion) == pytest.approx(accuracy_score(truth, guess))
    assert scoring.macro_f1(confusion) == pytest.approx(f1_score(truth, guess, average="macro"))


def test_the_interval_is_the_one_that_resampling_rows_gives() -> None:
    truth, guess = answers(300, 3, 1)
    interval = scoring.with_interval("accuracy", scoring.confusion_matrix(truth, guess, 3))
    random = np.random.default_rng(2)
    draws = [np.mean((truth == guess)[random.integers(0, 300, 300)]) for _ in range(4000)]
    low, high = np.quantile(draws, (0.025, 0.975))
    assert interval.low == pytest.approx(low, abs=0.01)
    assert interval.high == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (5, 0), (9, 2), (2, 9), (10, 10)])
def test_mcnemar_is_the_exact_binomial_tail(wins: int, losses: int) -> None:
    expected = float(binom.sf(wins - 1, wins + losses, 0.5)) if wins + losses else 1.0
    assert scoring.mcnemar_p(wins, losses) == pytest.approx(expected)


def test_a_calibrated_model_has_no_calibration_error() -> None:
    assert scoring.calibration_error([(0.5, 0.5, 10), (0.9, 0.9, 5)]) == 0
    assert scoring.calibration_error([(0.9, 0.5, 10)]) == pytest.approx(0.4)
