"""Paired tests: against enumeration, against the textbook, and by their error rates."""

from itertools import product
from math import comb

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline import tasks
from pipeline.metrics import scoring
from pipeline.metrics.scoring import Floats, Labels, Tallies
from pipeline.promotion import paired

TASK = tasks.get("classification")


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


def tallied(truth: Labels, answers: Labels) -> Tallies:
    classes = list("abc")
    truths, said = ([classes[i] for i in labels] for labels in (truth, answers))
    return scoring.tallies(TASK, truths, said, classes)


def three_classes() -> tuple[Labels, Tallies, Tallies]:
    random = np.random.default_rng(3)
    truth = random.integers(0, 3, 300)
    new = np.where(random.random(300) < 0.9, truth, random.integers(0, 3, 300))
    old = np.where(random.random(300) < 0.85, truth, random.integers(0, 3, 300))
    return truth, tallied(truth, new), tallied(truth, old)


@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_resamples_agree_with_resampled_rows(metric: str, by_class: bool) -> None:
    truth, new, old = three_classes()
    strata = list(map(str, truth)) if by_class else None
    quick = paired.resampled(TASK.measure, new, old, strata, 5)[metric]
    random = np.random.default_rng(4)
    parts = [np.flatnonzero(truth == c) for c in range(3)] if by_class else [np.arange(300)]
    slow = []
    for _ in range(2000):
        rows = np.concatenate([random.choice(part, len(part)) for part in parts])
        ours, theirs = (TASK.measure(side.rows[rows].sum(0))[metric] for side in (new, old))
        slow.append(ours - theirs)
    assert quick.shape == (paired.RESAMPLES,)
    assert quick.mean() == pytest.approx(np.mean(slow), abs=0.002)
    assert quick.std() == pytest.approx(np.std(slow), rel=0.08)
    gap = scoring.metrics(TASK.measure, new)[metric] - scoring.metrics(TASK.measure, old)[metric]
    assert quick.mean() == pytest.approx(gap, abs=0.002)


def test_groups_that_move_together_widen_the_interval() -> None:
    truth = np.zeros(400, dtype=np.int64)
    wrong = truth.copy()
    wrong[:40] = 1
    new, old = tallied(truth, truth), tallied(truth, wrong)
    apart = paired.resampled(TASK.measure, new, old, None, 1)["accuracy"].std()
    groups = [str(row // 20) for row in range(400)]
    new, old = (scoring.grouped(side, groups) for side in (new, old))
    together = paired.resampled(TASK.measure, new, old, None, 1)["accuracy"].std()
    assert together > 3 * apart


def test_a_group_holds_the_sum_of_its_rows() -> None:
    _, new, _ = three_classes()
    groups = [str(row % 7) for row in range(300)]
    whole = scoring.grouped(new, groups)
    assert len(whole) == 7
    assert whole.rows[3] == pytest.approx(new.rows[3::7].sum(0))
    assert whole.total() == pytest.approx(new.total())


def test_randomization_is_the_sign_test_where_rows_are_right_or_wrong() -> None:
    truth = np.zeros(200, dtype=np.int64)
    ours, theirs = truth.copy(), truth.copy()
    ours[:4], theirs[4:16] = 1, 1  # twelve to four
    new, old = tallied(truth, ours), tallied(truth, theirs)
    chance = paired.exchanged(TASK.measure, new, old, 1, 40_000)["accuracy"]
    exact = binomtest(12, 16, 0.5, alternative="greater").pvalue
    assert paired.randomization_p(chance, 8 / 200) == pytest.approx(exact, rel=0.05)
    assert paired.randomization_p(-chance, -8 / 200) > 0.9
    assert chance.mean() == pytest.approx(0, abs=0.001)


def test_what_differs_nowhere_is_no_difference() -> None:
    _, new, old = three_classes()
    assert paired.differ(new, old)
    assert not paired.differ(new, new)
    assert not paired.exchanged(TASK.measure, new, new, 1, 10)["macro_f1"].any()


def test_randomization_keeps_the_level_that_the_bootstrap_breaks() -> None:
    """Means of 100 units of which 8 differ, by any amount, and neither side is better."""
    level, draws = 0.025, 400
    random = np.random.default_rng(6)
    alarms = np.zeros(2)

    def mean(sums: Floats) -> dict[str, Floats]:
        return {"mean": sums[..., 0] / 100}

    for _ in range(draws):
        gaps = random.normal(size=100) * (random.random(100) < 0.08)
        new, old = (Tallies(*scoring.distinct(each[:, None])) for each in (gaps, 0 * gaps))
        drawn = paired.resampled(mean, new, old, None, 1)["mean"]
        chance = paired.exchanged(mean, new, old, 1)["mean"]
        p_values = paired.bootstrap_p(drawn), paired.randomization_p(chance, float(gaps.mean()))
        alarms += np.array(p_values) < level
    bootstrap, randomization = alarms / draws
    assert randomization <= level + 2.5 * np.sqrt(level / draws) < bootstrap


def test_a_resample_on_the_margin_itself_is_not_better() -> None:
    drawn = np.full(9, 0.9 - 0.95)
    assert drawn[0] > -0.05  # in floating point
    assert paired.bootstrap_p(drawn, 0.05) == 1
    assert paired.bootstrap_p(drawn, 0.06) == 0.1


def test_holm_by_hand() -> None:
    assert paired.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert paired.holm([0.9, 0.9]) == [1.0, 1.0]


def test_all_questions_of_an_epoch_spend_its_error_rate_and_no_more() -> None:
    total = sum(paired.spent(0.05, question) for question in range(1, 5000))
    assert 0.0499 < total <= 0.05
