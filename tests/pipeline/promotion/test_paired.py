"""Paired tests: against enumeration, against the textbook, and by their error rates."""

from itertools import product
from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.promotion import paired
from pipeline.scoring import accuracy, confusion_matrix


def test_the_exact_p_is_the_enumerated_one() -> None:
    rows, wins, losses = 12, 6, 1
    seen = (wins - losses) / np.sqrt(wins + losses)

    def chance(share: float) -> float:
        total = 0.0
        for b, c in product(range(rows + 1), repeat=2):
            if b + c <= rows and b + c and (b - c) / np.sqrt(b + c) >= seen - 1e-9:
                ways = comb(rows, b) * comb(rows - b, c)
                total += ways * (share / 2) ** (b + c) * (1 - share) ** (rows - b - c)
        return total

    worst = max(chance(share) for share in np.linspace(0.001, 1, 2000))
    assert paired.exact_p(wins, losses, rows) == pytest.approx(worst, rel=2e-3)


@pytest.mark.parametrize("level", [0.025, 0.05 / 6])
@pytest.mark.parametrize(("rows", "share"), [(200, 0.02), (400, 0.05), (2000, 0.03)])
def test_the_exact_test_keeps_its_level_and_finds_more_than_the_conditional(
    rows: int, share: float, level: float
) -> None:
    random = np.random.default_rng(1)
    draws = random.multinomial(rows, [share / 2, share / 2, 1 - share], 3000)
    alarms = np.mean([paired.exact_p(int(b), int(c), rows) < level for b, c, _ in draws])
    assert alarms <= level + 3 * np.sqrt(level / 3000)
    better = random.multinomial(rows, [0.75 * share, 0.25 * share, 1 - share], 500)
    ours = np.mean([paired.exact_p(int(b), int(c), rows) < level for b, c, _ in better])
    conditional = np.mean(
        [
            binomtest(int(b), int(b + c), 0.5, alternative="greater").pvalue < level
            for b, c, _ in better
            if b + c
        ]
    )
    assert ours >= conditional - 0.02


def test_no_difference_and_a_loss_show_nothing() -> None:
    assert paired.exact_p(0, 0, 100) == 1
    assert paired.exact_p(3, 9, 100) == 1
    assert paired.exact_p(100, 0, 100) < 1e-6


def test_the_margin_test_is_tangos() -> None:
    # at no margin it is McNemar's z; with one it grows easier to pass
    wins, losses, rows = 16, 8, 300
    assert paired.margin_p(wins, losses, rows, 1e-12) == pytest.approx(0.0512, abs=2e-4)
    values = [paired.margin_p(wins, losses, rows, m) for m in (0.0, 0.01, 0.02, 0.05)]
    assert values == sorted(values, reverse=True)
    # its estimate of the share solves the likelihood equation under the null
    random = np.random.default_rng(2)
    draws = random.multinomial(400, [0.03, 0.05, 0.92], 4000)  # worse by exactly 0.02
    alarms = np.mean([paired.margin_p(int(b), int(c), 400, 0.02) < 0.025 for b, c, _ in draws])
    assert alarms == pytest.approx(0.025, abs=0.01)


def test_resamples_agree_with_resampled_rows() -> None:
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, 300)
    new = np.where(random.random(300) < 0.9, truth, random.integers(0, 3, 300))
    old = np.where(random.random(300) < 0.85, truth, random.integers(0, 3, 300))
    quick = paired.resampled("accuracy", truth, new, old, 3, None, 5)
    slow = []
    for _ in range(2000):
        rows = np.concatenate(
            [random.choice(np.flatnonzero(truth == c), (truth == c).sum()) for c in range(3)]
        )
        slow.append(np.mean(new[rows] == truth[rows]) - np.mean(old[rows] == truth[rows]))
    assert quick.mean() == pytest.approx(np.mean(slow), abs=0.002)
    assert quick.std() == pytest.approx(np.std(slow), rel=0.08)
    gap = accuracy(confusion_matrix(truth, new, 3)) - accuracy(confusion_matrix(truth, old, 3))
    assert quick.mean() == pytest.approx(float(gap), abs=0.002)


def test_groups_that_move_together_widen_the_interval() -> None:
    truth = np.zeros(400, dtype=np.int64)
    new, old = truth.copy(), truth.copy()
    old[:40] = 1
    apart = paired.resampled("accuracy", truth, new, old, 2, None, 1).std()
    groups = [str(row // 20) for row in range(400)]
    together = paired.resampled("accuracy", truth, new, old, 2, groups, 1).std()
    assert together > 3 * apart


def test_holm_by_hand() -> None:
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired.holm([0.9, 0.9]) == [1.0, 1.0]


def test_all_questions_of_an_epoch_spend_its_error_rate_and_no_more() -> None:
    total = sum(paired.spent(0.05, question) for question in range(1, 5000))
    assert 0.0499 < total <= 0.05
