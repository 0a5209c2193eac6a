import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from pipeline.metrics import scoring
from pipeline.tasks import get
from pipeline.tasks.base import Answer, Labelled, LossOptions, Setting
from pipeline.tasks.base.encoding import Piece
from tests.conftest import SHARED

OPTIONS = LossOptions(torch.empty(0))  # no mask: the loss of a whole text reads no tokens
TASK = get("regression")
PAIRS = get("similarity")
VALUES = st.floats(-1000, 1000).map(lambda value: round(value, 3))


def pieces(*rows):
    return [Piece(row, SimpleNamespace(ids=[1], type_ids=[0]), [0]) for row in rows]


def labels(values):
    return [TASK.label(repr(float(value)), "", "") for value in values]


def measured(truths, told):
    tallied = scoring.tallies(TASK, labels(truths), labels(told), ())
    return scoring.metrics(TASK.measure, tallied)


# rows


@pytest.mark.parametrize(
    ("cell", "written"),
    [("3", "3.0"), (" 1.50 ", "1.5"), ("-0", "0.0"), ("1e3", "1000.0"), ("+.1", "0.1")],
)
def test_a_number_has_one_way_of_writing(cell, written):
    assert TASK.label(cell, "", "") == PAIRS.label(cell, "a", "b") == written


@settings(deadline=None)
@given(st.floats(-1e12, 1e12))
def test_a_label_reads_back_as_itself(value):
    written = TASK.label(repr(value), "", "")
    assert float(written) == value
    assert TASK.label(written, "", "") == written


@pytest.mark.parametrize("cell", ["1,5", "1,234.5"])
def test_a_comma_is_refused_with_a_hint(cell):
    with pytest.raises(ValueError, match="is no number: write decimals with a point"):
        TASK.label(cell, "", "")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("good", "is no number$"),
        ("1_000", "is no number$"),
        ("5%", "is no number$"),
        ("nan", "is no finite number"),
        ("-inf", "is no finite number"),
        ("1e400", "is no finite number"),
        ("1e13", r"is beyond 1e\+12"),
    ],
)
def test_what_is_no_finite_number_is_refused(cell, reason):
    with pytest.raises(ValueError, match=reason):
        TASK.label(cell, "", "")


def test_people_read_whole_numbers_without_a_point():
    assert TASK.shown("3.0", "", "") == "3"
    assert TASK.shown("3.05", "", "") == "3.05"


def test_a_pair_has_two_texts():
    assert PAIRS.two_texts
    assert not TASK.two_texts


def test_a_number_names_no_class():
    assert TASK.classes("3.0") == ()
    assert TASK.outputs(()) == ["score"]


# learning


def test_the_head_learns_deviations_whatever_the_unit():

    stars = [1.0, 2.0, 4.0, 5.0]
    small, large = (
        TASK.scaled(
            torch.tensor([value * unit for value in stars], dtype=torch.float64),
            TASK.prepare(labels(value * unit for value in stars)),
        )
        for unit in (1, 1e6)
    )
    assert small.numpy() == pytest.approx(large.numpy())
    assert float(small.mean()) == pytest.approx(0)
    assert float((small**2).mean()) == pytest.approx(1)


@pytest.mark.parametrize("value", [0.0, 0.1, 7.3e9])
def test_labels_that_are_all_the_same_can_be_learned(value):

    decision = TASK.prepare(labels([value] * 10))
    assert decision == {"mean": pytest.approx(value), "deviation": 1.0}
    targets = torch.full((10,), value, dtype=torch.float64)
    assert TASK.scaled(targets, decision).abs().max() < 1e-5


def test_the_loss_is_the_sum_of_squared_differences():

    logits, targets = torch.tensor([[1.0], [2.0]]), torch.tensor([3.0, 2.5], dtype=torch.float64)
    assert float(TASK.loss(logits, targets, OPTIONS)) == 4.25


def test_minus_one_hundred_counts_as_any_number():

    assert int(TASK.counted(torch.tensor([-100.0, 1.0]))) == 2


def test_a_linear_model_learns_prices():

    random = np.random.default_rng(0)
    features = random.normal(size=(400, 3)).astype(np.float32)
    prices = labels(250_000 + features @ [90_000, -20_000, 5_000])
    rows, texts = pieces(*range(200)), [("a", "")] * 200
    raw = torch.tensor([TASK.target(p, rows[0], ("a", ""), ()) for p in prices[:200]])
    decision = TASK.prepare(prices[:200])
    model = torch.nn.Linear(3, 1)
    for _ in range(100):
        model.zero_grad()
        loss = TASK.loss(model(torch.tensor(features[:200])), TASK.scaled(raw, decision), OPTIONS)
        (loss / TASK.counted(raw)).backward()
        for weights in model.parameters():
            weights.data -= 0.1 * weights.grad
    logits = list(model(torch.tensor(features[200:])).detach().numpy())
    told = [answer.label for answer in TASK.answers(logits, rows, texts, (), decision)]
    tallied = scoring.tallies(TASK, prices[200:], told, ())
    assert scoring.metrics(TASK.measure, tallied)["r2"] > 0.99


# answering


def test_answers_are_in_the_labels_own_unit():
    decision = {"mean": 30_000.0, "deviation": 12_000.0}
    logits = [np.array([value], dtype=np.float32) for value in (0, 1, 2, -1)]
    found = TASK.answers(logits, pieces(0, 1, 1, 2), [("a", "")] * 3, (), decision)
    assert [answer.label for answer in found] == ["30000.0", "48000.0", "18000.0"]


def test_answers_are_rounded_finely_in_any_unit():
    for deviation in (1.3, 1.3e6, 1.3e-5):
        decision = {"mean": 0.0, "deviation": deviation}
        logits = [np.array([1 / 3], dtype=np.float32)]
        (answer,) = TASK.answers(logits, pieces(0), [("a", "")], (), decision)
        value = float(answer.label)
        assert value == pytest.approx(deviation / 3, abs=1e-4 * deviation)
        assert len(answer.label.replace("0", "").replace(".", "").partition("e")[0]) <= 4


def test_no_texts_have_no_answers():
    assert TASK.answers([], [], [], (), {}) == []


def test_a_tenth_of_a_deviation_is_the_same_answer():
    others = labels([1, 2, 3, 4])  # standard deviation 1.118
    assert TASK.same(labels([1.11, 2.12, 2.9, 4]), others).tolist() == [True, False, True, True]
    assert TASK.same([], []).tolist() == []


# scores


@settings(deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=3, max_size=30))
def test_summed_tallies_measure_what_the_libraries_do(rows):
    truths, told = (np.array(side) for side in zip(*rows, strict=True))
    assume(truths.std() > 1e-2 and told.std() > 1e-2)
    found = measured(truths, told)
    assert tuple(found) == TASK.metrics
    assert found["pearson"] == pytest.approx(pearsonr(truths, told).statistic, abs=1e-5)
    assert found["r2"] == pytest.approx(r2_score(truths, told), rel=1e-5, abs=1e-5)


def test_large_numbers_close_together_are_measured_well():
    random = np.random.default_rng(0)
    truths = 1e9 + random.normal(0, 1e5, 3000).round()
    told = truths + random.normal(0, 5e4, 3000).round()
    found = measured(truths, told)
    assert found["pearson"] == pytest.approx(pearsonr(truths, told).statistic, abs=1e-4)
    assert found["r2"] == pytest.approx(r2_score(truths, told), abs=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 3.7e8])
@pytest.mark.parametrize("rows", [1, 7, 5000])
def test_answers_that_are_all_one_have_no_correlation(value, rows):
    varied = np.arange(rows) * 0.3
    assert measured(varied, [value] * rows)["pearson"] == 0
    assert measured([value] * rows, varied) == {"pearson": 0, "r2": 0}


def test_resamples_of_few_rows_have_finite_intervals():
    tallied = scoring.tallies(TASK, labels([1, 2]), labels([1.5, 1.7]), ())
    found = scoring.intervals(TASK.measure, tallied)
    assert (found["pearson"].low, found["pearson"].high) == (0, 1)
    assert np.isfinite([found["r2"].low, found["r2"].high]).all()


def test_a_row_alone_is_better_the_nearer_it_is():
    tallied = scoring.tallies(TASK, labels([1, 1, 1]), labels([3, 1.5, 1]), ())
    assert TASK.per_unit_score(tallied.rows).tolist() == [-2, -0.5, 0]


def test_the_detail_agrees_with_the_libraries():
    random = np.random.default_rng(0)
    truths = random.integers(1, 6, 300).astype(float)
    told = (truths + random.normal(0, 1, 300)).round(1)
    answers = [Answer(each, 1.0) for each in labels(told)]
    assert TASK.detail(Labelled([], labels(truths)), answers, ()).more == pytest.approx(
        {
            "mae": mean_absolute_error(truths, told),
            "rmse": root_mean_squared_error(truths, told),
            "spearman": spearmanr(truths, told).statistic,
        }
    )
    assert TASK.detail(Labelled([], []), [], ()).more == {}


def test_a_decision_is_json():
    decision = TASK.prepare(labels([1, 2, 4]))
    assert json.loads(json.dumps(decision)) == decision


# baselines


def toy(rows, seed, pairs=False):
    random = np.random.default_rng(seed)
    words = np.array([f"word{i}" for i in range(30)])
    texts, numbers = [], []
    for _ in range(rows):
        first = random.choice(words, 8, replace=False)
        shared = int(random.integers(0, 9))
        others = random.choice(np.setdiff1d(words, first), 8 - shared, replace=False)
        second = " ".join([*first[:shared], *others])
        texts.append((" ".join(first), second if pairs else ""))
        numbers.append(shared if pairs else float(np.sum(first < "word2")))
    return Labelled(texts, labels(numbers))


@pytest.mark.parametrize(("task", "pairs"), [(TASK, False), (PAIRS, True)])
@pytest.mark.parametrize("kind", ["words", "characters"])
def test_ridge_regression_learns_what_words_tell(task, pairs, kind):
    train, test = toy(300, 0, pairs), toy(100, 1, pairs)
    blind = Labelled(test.texts, [])
    mean, learned = task.baselines(Setting(train, blind, blind, (), kind, 0, None)).values()
    assert float(mean[0]) == pytest.approx(np.mean([float(each) for each in train.labels]))
    scores = [
        scoring.metrics(task.measure, scoring.tallies(task, test.labels, told, ()))
        for told in (mean, learned)
    ]
    assert scores[0]["pearson"] == 0
    assert scores[1]["r2"] > 0.5 > 0.1 > scores[0]["r2"]


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_ridge_regression_learns_of_texts_without_a_word(kind):
    rows = Labelled([("😀 🎉", "🎉 😀"), ("😀 !", "🎉 ?")] * 5, labels([1, 0] * 5))
    _, learned = PAIRS.baselines(Setting(rows, rows, rows, (), kind, 0, None)).values()
    assert float(learned[0]) > 0.9 > 0.1 > float(learned[1])


def test_ridge_regression_tells_ratings_of_films():
    import pandas as pd

    folder = SHARED / "imdb"
    if not folder.is_dir():
        pytest.skip(f"no real rows: {folder} is missing")
    frame = pd.read_parquet(folder / "train.parquet").sample(3000, random_state=0)
    texts = [(text[:1000], "") for text in frame["text"]]
    ratings = labels(frame["rating"])
    train, test = Labelled(texts[:2000], ratings[:2000]), Labelled(texts[2000:], ratings[2000:])
    _, learned = TASK.baselines(Setting(train, test, test, (), "words", 0, None)).values()
    tallied = scoring.tallies(TASK, test.labels, learned, ())
    assert scoring.metrics(TASK.measure, tallied)["pearson"] > 0.5
