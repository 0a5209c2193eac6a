"""The gate is a pure function: each of its answers, and why."""

import random

import pytest

from pipeline.promotion.gate import Champion, GateParams, judge

PARAMS = GateParams(floor_accuracy=0.6, floor_macro_f1=0.5, significance=0.05)
TRUTH = ["a", "b"] * 100


def wrong_on(*places: int) -> list[str]:
    """Answers that are wrong at these places."""
    return [("b" if t == "a" else "a") if i in places else t for i, t in enumerate(TRUTH)]


def decide(challenger: list[str], champion: list[str] | None) -> tuple[str, str]:
    rival = Champion("7", champion) if champion is not None else None
    verdict = judge(PARAMS, "8", ["a", "b"], TRUTH, challenger, rival)
    return verdict.decision, verdict.reason


def test_without_a_champion_the_floors_decide() -> None:
    assert decide(wrong_on(1), None)[0] == "promote"
    decision, reason = decide(wrong_on(*range(90)), None)
    assert (decision, reason) == ("reject", "test accuracy 0.5500 is below the floor 0.6")


def test_one_class_answered_alone_falls_below_the_f1_floor() -> None:
    truth = ["a"] * 180 + ["b"] * 20
    verdict = judge(PARAMS, "8", ["a", "b"], truth, ["a"] * 200, None)
    assert verdict.decision == "reject"
    assert "macro-F1" in verdict.reason


def test_a_tie_never_replaces_a_champion() -> None:
    assert decide(wrong_on(1, 2), wrong_on(1, 2))[0] == "hold"
    assert "a tie changes nothing" in decide(wrong_on(1), wrong_on(1))[1]
    assert decide(wrong_on(1, 2), wrong_on(3, 4))[0] == "hold"


def test_significance_is_needed_to_promote() -> None:
    assert decide(wrong_on(), wrong_on(1, 2, 3, 4))[0] == "hold"  # p = 1/16
    decision, reason = decide(wrong_on(), wrong_on(1, 2, 3, 4, 5))  # p = 1/32
    assert decision == "promote"
    assert "alone right on 5 rows, the champion on 0 (p = 0.031)" in reason


def test_a_worse_one_is_rejected() -> None:
    decision, reason = decide(wrong_on(*range(10)), wrong_on())
    assert decision == "reject"
    assert "worse than champion 7" in reason


def test_other_labels_cannot_be_compared() -> None:
    decision, reason = decide(wrong_on(), ["c"] * 200)
    assert decision == "hold"
    assert "'c' is answered, which is no class of these rows" in reason
    older = ["c"] * 20 + wrong_on()[20:]
    assert decide(older, wrong_on())[0] == "hold"


def test_the_floor_counts_also_against_a_poor_champion() -> None:
    assert decide(wrong_on(*range(90)), wrong_on(*range(199)))[0] == "reject"


def test_the_same_inputs_give_the_same_verdict_in_any_order_of_rows() -> None:
    challenger, champion = wrong_on(1, 5, 9), wrong_on(1, 2, 3, 4)
    order = list(range(200))
    random.Random(0).shuffle(order)
    first = judge(PARAMS, "8", ["a", "b"], TRUTH, challenger, Champion("1", champion))
    again = judge(
        PARAMS,
        "8",
        ["a", "b"],
        [TRUTH[i] for i in order],
        [challenger[i] for i in order],
        Champion("1", [champion[i] for i in order]),
    )
    assert first == again


@pytest.mark.parametrize("seed", range(3))
def test_an_equal_rival_is_seldom_promoted(seed: int) -> None:
    draw = random.Random(seed)
    promoted = 0
    for _ in range(300):
        ours = wrong_on(*draw.sample(range(200), 10))
        theirs = wrong_on(*draw.sample(range(200), 10))
        promoted += decide(ours, theirs)[0] == "promote"
    assert promoted / 300 <= 0.07  # 5 % and chance
