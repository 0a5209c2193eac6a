"""Candidates in order, scored by group."""

import math
from collections.abc import Sequence
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from pipeline.metrics import scoring
from pipeline.tasks import get, ranking
from pipeline.tasks.base import Answer, Labelled, LossOptions, Setting

TASK = get("ranking")
GROUP = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=2, max_size=14)


def of_group(truths: Sequence[object], scores: Sequence[object]) -> dict[str, float]:
    tally = TASK.tally([*map(str, truths)], [*map(str, scores)], ())
    return {name: float(value) for name, value in TASK.measure(tally).items()}


def in_order(grades: Sequence[int]) -> dict[str, float]:
    """The metrics of candidates that a model puts in this order."""
    return of_group(grades, [1 - i / 100 for i in range(len(grades))])


# metrics


def test_ndcg_by_hand() -> None:
    # gains 3, 0, 1 beside the best order's 3, 1, 0
    expected = (3 / math.log2(2) + 1 / math.log2(4)) / (3 / math.log2(2) + 1 / math.log2(3))
    assert in_order([2, 0, 1])["ndcg_at_10"] == pytest.approx(expected)
    assert in_order([2, 1, 0])["ndcg_at_10"] == 1


def test_what_stands_behind_the_tenth_place_gains_nothing() -> None:
    assert in_order([0] * 10 + [1])["ndcg_at_10"] == 0
    assert in_order([0] * 9 + [1])["ndcg_at_10"] == pytest.approx(1 / math.log2(11))


def test_ndcg_is_that_of_the_best_ten() -> None:
    """A full list is perfect if there are more relevant candidates than places."""
    assert in_order([1] * 10 + [0] + [1] * 5)["ndcg_at_10"] == pytest.approx(1)


def test_the_reciprocal_rank_is_of_the_first_relevant_candidate() -> None:
    assert in_order([0, 0, 1, 2])["mrr"] == pytest.approx(1 / 3)
    assert in_order([2, 0, 1])["mrr"] == 1


def test_recall_counts_the_first_five_places() -> None:
    assert in_order([1, 0, 0, 0, 1, 1, 0])["recall_at_5"] == pytest.approx(2 / 3)
    assert in_order([1, 0, 2])["recall_at_5"] == 1


def test_auc_counts_pairs() -> None:
    assert in_order([1, 0, 1, 0])["auc"] == pytest.approx(3 / 4)
    assert of_group([1, 0], [0.5, 0.5])["auc"] == 0.5


@given(GROUP)
@example([(1, 0), (0, 0), (0, 0)])
def test_ndcg_and_auc_are_those_of_scikit_learn(group: list[tuple[int, int]]) -> None:
    grades, scores = (np.array(column) for column in zip(*group, strict=True))
    assume(grades.any())
    own = of_group(grades, scores)
    gains = 2.0**grades - 1
    assert own["ndcg_at_10"] == pytest.approx(ndcg_score([gains], [scores], k=10))
    if not grades.all():
        assert own["auc"] == pytest.approx(roc_auc_score(grades > 0, scores))


@settings(max_examples=30)  # every order of up to six candidates
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=6))
def test_of_equal_scores_every_order_counts_alike(group: list[tuple[int, int]]) -> None:
    grades, scores = zip(*group, strict=True)
    assume(any(grades))
    orders = [
        [grades[i] for i in order]
        for order in permutations(range(len(group)))
        if [scores[i] for i in order] == sorted(scores, reverse=True)
    ]
    own = of_group(grades, scores)
    for name in ("ndcg_at_10", "mrr", "recall_at_5"):
        assert own[name] == pytest.approx(np.mean([in_order(order)[name] for order in orders]))


def test_a_model_that_says_one_thing_gains_nothing_by_it() -> None:
    """Mean of 1, 1/2, 1/3 and 1/4 for four candidates with one relevant."""
    assert of_group([0, 0, 1, 0], [0.9] * 4)["mrr"] == pytest.approx(25 / 48)


def test_groups_without_a_relevant_candidate_are_left_out_of_the_means() -> None:
    truths = ["1", "0", "0", "0", "0", "1"]
    answers = ["0.9", "0.1", "0.5", "0.4", "0.8", "0.3"]
    groups = ["a", "a", "b", "b", "c", "c"]
    tallied = scoring.tallies(TASK, truths, answers, (), groups)
    assert len(tallied) == 3
    found = scoring.metrics(TASK.measure, tallied)
    assert found["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert found["auc"] == pytest.approx((1 + 0) / 2)


def test_groups_that_are_relevant_throughout_have_no_auc() -> None:
    truths, groups = ["1", "0", "1", "1"], ["a", "a", "b", "b"]
    tallied = scoring.tallies(TASK, truths, ["0.1", "0.2", "0.3", "0.4"], (), groups)
    found = scoring.metrics(TASK.measure, tallied)
    assert found["auc"] == 0
    assert found["mrr"] == pytest.approx((1 / 2 + 1) / 2)


def test_no_group_at_all_scores_nothing() -> None:
    assert set(in_order([0, 0]).values()) == {0.0}


def test_intervals_come_of_groups() -> None:
    random = np.random.default_rng(0)
    groups = [f"q{i // 5}" for i in range(300)]
    truths = [str(int(i % 5 == 0)) for i in range(300)]
    answers = [f"{score:.8f}" for score in random.random(300)]
    tallied = scoring.tallies(TASK, truths, answers, (), groups)
    assert len(tallied) == 60
    for interval in scoring.intervals(TASK.measure, tallied).values():
        assert interval.low <= interval.value <= interval.high
    assert tuple(scoring.intervals(TASK.measure, tallied)) == TASK.metrics


# labels and answers


@pytest.mark.parametrize(
    ("cell", "label"), [("0", "0"), ("3", "3"), (" 01 ", "1"), ("1.0", "1"), ("10", "10")]
)
def test_a_grade_is_a_whole_number(cell: str, label: str) -> None:
    assert TASK.label(cell, "query", "item") == label


@pytest.mark.parametrize("cell", ["-1", "0.5", "yes", "1e3", "11", "1_0", "²", "nan", "347"])
def test_what_is_no_grade_is_refused(cell: str) -> None:
    with pytest.raises(ValueError, match="is no grade of relevance"):
        TASK.label(cell, "query", "item")


def said(logits: list[float], rows: list[int]) -> list[Answer]:
    pieces: Any = [SimpleNamespace(row=row) for row in rows]
    given = [np.array([logit], np.float32) for logit in logits]
    return TASK.answers(given, pieces, [("q", "c")] * (max(rows, default=-1) + 1), (), {})


def test_an_answer_is_the_probability_of_being_relevant() -> None:
    answers = said([0.0, 100.0, -100.0], [0, 1, 2])
    assert [answer.label for answer in answers] == ["0.50000000", "1.00000000", "0.00000000"]
    assert [answer.confidence for answer in answers] == pytest.approx([0.5, 1, 0])
    assert said([], []) == []


def test_a_candidate_is_as_relevant_as_its_best_window() -> None:
    assert [a.label for a in said([-1.0, 2.0, -3.0], [0, 0, 1])] == [
        a.label for a in said([2.0, -3.0], [0, 1])
    ]


def test_order_survives_in_answers() -> None:
    logits = [-12.0, -12.5, -9.0, 9.0, 9.1]
    scores = [float(answer.label) for answer in said(logits, [0, 1, 2, 3, 4])]
    assert np.argsort(scores).tolist() == np.argsort(logits).tolist()
    assert len(set(scores)) == len(logits)


def test_a_score_is_shown_in_short() -> None:
    assert TASK.shown("0.73124532", "q", "c") == "0.731"
    assert TASK.shown("2", "q", "c") == "2"


def test_scores_that_hardly_move_are_the_same() -> None:
    before = ["0.10000000", "0.50000000", "0.90000000"]
    assert TASK.same(["0.11000000", "0.45000000", "0.90000000"], before).tolist() == [
        True,
        False,
        True,
    ]
    assert TASK.same(before[:1], before[:1]).tolist() == [True]
    assert TASK.same([], []).tolist() == []


def test_a_grade_and_a_score_agree_on_one_side_of_a_half() -> None:
    grades, scores = ["0", "2", "0", "1"], ["0.10000000", "0.90000000", "0.90000000", "0.40000000"]
    assert TASK.same(grades, scores).tolist() == [True, True, False, False]


# learning


def test_the_loss_is_binary_cross_entropy_summed() -> None:
    grades = ["0", "1", "3"]
    targets = torch.tensor([TASK.target(g, None, ("q", "c"), ()) for g in grades])  # type: ignore[arg-type]
    logits = torch.tensor([[-1.0], [0.5], [2.0]])
    loss = TASK.loss(logits, targets.double(), LossOptions(torch.ones(3, 4, dtype=torch.bool)))
    chances = [1 / (1 + math.exp(-x)) for x in (-1.0, 0.5, 2.0)]
    expected = -math.log(1 - chances[0]) - math.log(chances[1]) - math.log(chances[2])
    assert float(loss) == pytest.approx(expected)
    assert loss.dtype == torch.float32


# baselines


def metrics_of(test: Labelled, answers: Sequence[str]) -> dict[str, float]:
    tallied = scoring.tallies(TASK, test.labels, answers, (), test.groups)
    return scoring.metrics(TASK.measure, tallied)


def test_baselines_find_what_shares_rare_terms_and_what_was_liked() -> None:
    items = [
        ("gold coin fair", "the old coin of gold"),
        ("gold coin fair", "the old house of the town"),
        ("town house", "the old coin of gold"),
        ("town house", "the old house of the town"),
    ]
    test = Labelled(items, ["1", "0", "0", "1"], ["a", "a", "b", "b"])
    train = Labelled(
        [("the", "the old coin of gold"), ("a", "the old coin of gold"), ("x", "a thing")],
        ["1", "1", "0"],
        ["t", "u", "u"],
    )
    found = TASK.baselines(Setting(train, Labelled([], []), test, (), "words", 0, None))
    assert list(found) == ["random order", "BM25 of words", "popularity in training"]
    scores = {name: metrics_of(test, answers) for name, answers in found.items()}
    assert scores["random order"]["mrr"] == pytest.approx(3 / 4)
    assert scores["BM25 of words"]["mrr"] == 1
    assert scores["popularity in training"]["mrr"] == pytest.approx(3 / 4)
    assert float(found["popularity in training"][0]) == pytest.approx((2 + 2 / 3) / 3)
    assert float(found["popularity in training"][1]) == pytest.approx(2 / 3)


def test_bm25_by_hand() -> None:
    texts = [("b", "a b b"), ("b", "a"), ("a", "a a")]
    rarity = math.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    fit = rarity * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / 2))
    found = ranking.bm25([], texts, "words")
    assert found[:2] == pytest.approx([fit / (1 + fit), 0])


def test_characters_find_text_without_spaces() -> None:
    texts = [("花呗还款", "怎么还款"), ("花呗还款", "天气很好")]
    found = ranking.bm25([], texts, "characters")
    assert found[0] > found[1] == 0


def test_candidates_without_a_word_fit_alike() -> None:
    pairs = [("which one", "😀 !"), ("which one", "?")]
    assert ranking.bm25(pairs, pairs, "words").tolist() == [0, 0]


def test_popularity_is_left_out_where_no_candidate_comes_again() -> None:
    train = Labelled([("q", "one thing")], ["1"], ["t"])
    test = Labelled([("q", "another"), ("q", "third")], ["1", "0"], ["a", "a"])
    found = TASK.baselines(Setting(train, Labelled([], []), test, (), "words", 0, None))
    assert list(found) == ["random order", "BM25 of words"]


def test_baselines_write_scores_as_answers_are_written() -> None:
    test = Labelled([("one", "one"), ("one", "two")], ["1", "0"], ["a", "a"])
    for answers in TASK.baselines(Setting(test, test, test, (), "words", 0, None)).values():
        assert all(0 <= float(a) < 1 and len(a) == len("0.12345678") for a in answers)


# report


def test_the_report_counts_groups() -> None:
    rows = Labelled([("q", "c")] * 5, ["1", "0", "0", "0", "2"], ["a", "a", "b", "b", "c"])
    answers = [Answer("0.50000000", 0.5)] * 5
    assert TASK.detail(rows, answers, ()).more == pytest.approx(
        {
            "groups": 3,
            "groups_without_relevant": 1,
            "candidates_per_group": 5 / 3,
            "relevant_share": 2 / 5,
        }
    )
    assert TASK.detail(Labelled([], []), [], ()).more["groups"] == 0
