import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from pipeline.metrics import scoring
from pipeline.tasks import get, multilabel
from pipeline.tasks.base import Labelled, LossOptions, Setting
from pipeline.tasks.base.encoding import Piece
from tests.conftest import SHARED

OPTIONS = LossOptions(torch.empty(0))  # no mask: the loss of a whole text reads no tokens
TASK = get("multilabel")
CLASSES = ["anger", "fear", "joy"]
SETS = st.sets(st.sampled_from(CLASSES)).map(sorted)
PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")


def label(*names):
    return TASK.label(json.dumps(names), "", "")


def pieces(*rows):
    return [Piece(row, SimpleNamespace(ids=[1], type_ids=[0]), [0]) for row in rows]


def flags(labels):
    return np.array([[name in json.loads(each) for name in CLASSES] for each in labels])


def labels_of(matrix, classes=CLASSES):
    return [
        label(*(name for name, flag in zip(classes, row, strict=True) if flag)) for row in matrix
    ]


def logit(probabilities):
    p = np.asarray(probabilities, dtype=np.float64)
    return list(np.log(p / (1 - p)).astype(np.float32))


def answers(probabilities, decision, rows=None):
    rows = list(range(len(probabilities))) if rows is None else rows
    texts = [("a", "")] * (max(rows) + 1)
    return TASK.answers(logit(probabilities), pieces(*rows), texts, CLASSES, decision)


# rows


@pytest.mark.parametrize(
    "cell",
    ['["joy","anger"]', ' [ "joy", " anger ", "joy" ] ', "joy,anger", " anger , joy, anger"],
)
def test_a_list_and_names_with_commas_are_the_same_label(cell):
    assert TASK.label(cell, "", "") == '["anger","joy"]'


def test_an_empty_list_is_a_row_without_labels():
    assert TASK.label("[]", "", "") == "[]"
    assert TASK.classes("[]") == []
    assert TASK.shown("[]", "", "") == "(none)"


@pytest.mark.parametrize("cell", ["joy,,anger", "joy,", ",", '["joy", " "]'])
def test_an_empty_name_is_refused(cell):
    with pytest.raises(ValueError, match="one of its class names is empty"):
        TASK.label(cell, "", "")


@pytest.mark.parametrize("cell", ["['joy'", '["joy"', "[1]", '[["joy"]]', "[null]"])
def test_what_begins_as_a_list_and_is_none_is_refused(cell):
    with pytest.raises(ValueError, match="is no JSON list of names"):
        TASK.label(cell, "", "")


@settings(deadline=None)
@given(st.lists(st.text(PRINTABLE).map(str.strip).filter(bool)))
def test_a_label_reads_back_as_itself(names):
    written = label(*names)
    assert TASK.label(written, "", "") == written
    assert TASK.classes(written) == sorted(set(names))


# learning


def test_each_class_of_a_piece_is_a_target():
    (piece,) = pieces(0)
    assert TASK.target('["anger","joy"]', piece, ("a", ""), CLASSES) == [1.0, 0.0, 1.0]
    assert TASK.target("[]", piece, ("a", ""), CLASSES) == [0.0, 0.0, 0.0]


def test_the_loss_is_the_cross_entropy_of_every_class():

    logits, targets = torch.tensor([[1.0, -2.0], [0.5, 3.0]]), torch.tensor([[1.0, 0], [0, 0]])
    p = 1 / (1 + np.exp(-logits.numpy()))
    expected = -np.log(np.where(targets.numpy() == 1, p, 1 - p)).sum()
    assert float(TASK.loss(logits, targets.double(), OPTIONS)) == pytest.approx(expected, rel=1e-6)
    assert int(TASK.counted(targets)) == 4


def test_a_linear_model_learns_the_classes_of_words():

    random = np.random.default_rng(0)
    features = random.normal(size=(400, 3)).astype(np.float32)
    truths = labels_of(features > 1)
    rows = pieces(*range(200))
    targets = torch.tensor([TASK.target(t, rows[0], ("a", ""), CLASSES) for t in truths[:200]])
    model = torch.nn.Linear(3, 3)
    for _ in range(100):
        model.zero_grad()
        loss = TASK.loss(model(torch.tensor(features[:200])), targets, OPTIONS) / TASK.counted(
            targets
        )
        loss.backward()
        for weights in model.parameters():
            weights.data -= 3 * weights.grad
    logits = list(model(torch.tensor(features)).detach().numpy())
    texts = [("a", "")] * 200
    decision = TASK.decide(logits[:200], rows, Labelled(texts, truths[:200]), CLASSES)
    told = TASK.answers(logits[200:], rows, texts, CLASSES, decision)
    tallied = scoring.tallies(TASK, truths[200:], [a.label for a in told], CLASSES)
    assert scoring.metrics(TASK.measure, tallied)["macro_f1"] > 0.95


# thresholds


def drawn(seed, rows=2000, rates=(0.3, 0.1, 0.02)):
    """Probabilities that tell something of the truth, and are too low, as of rare classes."""
    random = np.random.default_rng(seed)
    wanted = random.random((rows, 3)) < rates
    logits = np.where(wanted, 0.0, -3.0) + random.normal(size=wanted.shape)
    return 1 / (1 + np.exp(-logits)), wanted


def macro(probabilities, wanted, cuts):
    return f1_score(wanted, probabilities >= cuts, average="macro", zero_division=0)


def test_thresholds_reach_nearly_the_best_macro_f1_of_other_rows():
    cuts = multilabel.thresholds(*drawn(0))
    probabilities, wanted = drawn(1)
    tried = np.linspace(0.02, 0.98, 97)
    best = np.mean(
        [
            max(f1_score(wanted[:, c], probabilities[:, c] >= t, zero_division=0) for t in tried)
            for c in range(3)
        ]
    )
    assert macro(probabilities, wanted, cuts) > best - 0.02
    assert macro(probabilities, wanted, 0.5) < best - 0.05


def test_a_rare_class_leans_on_the_shared_threshold():
    random = np.random.default_rng(0)
    wanted = np.zeros((1000, 2), dtype=bool)
    wanted[:500, 0] = True
    wanted[0, 1] = True  # a single row, which lies far below the others
    logits = np.where(wanted, 2.0, -2.0) + random.normal(0, 0.5, wanted.shape)
    logits[:, 1] = -6
    logits[0, 1] = -4
    often, rare = multilabel.thresholds(1 / (1 + np.exp(-logits)), wanted)
    shared = multilabel.thresholds(1 / (1 + np.exp(-logits[:, :1])), wanted[:, :1])[0]
    assert often == pytest.approx(shared, abs=0.1)
    assert 1 / (1 + np.exp(5)) < rare < often  # its own would be at -5
    assert multilabel.PULL > 1


def test_a_class_without_validation_rows_has_the_shared_threshold():
    probabilities, wanted = drawn(0)
    alone = multilabel.thresholds(probabilities[:, :1], wanted[:, :1])
    with_none = multilabel.thresholds(
        probabilities[:, [0, 1]], np.column_stack([wanted[:, 0], np.zeros(len(wanted), bool)])
    )
    assert with_none[0] == alone[0]
    assert 0.01 < with_none[1] < 0.99


def test_without_any_label_the_thresholds_are_a_half():
    assert multilabel.thresholds(np.full((3, 2), 0.2), np.zeros((3, 2), bool)).tolist() == [0.5] * 2


def test_the_curves_count_what_reaches_each_threshold():
    probabilities, wanted = drawn(3, rows=50)
    probabilities[0] = 0.5  # just at a threshold
    hits, reached = multilabel._curves(probabilities, wanted)
    for place in (0, 40, 70, 100, 140):
        chosen = probabilities >= 1 / (1 + np.exp(-multilabel.GRID[place]))
        assert reached[place].tolist() == chosen.sum(0).tolist()
        assert hits[place].tolist() == (chosen & wanted).sum(0).tolist()


def test_a_decision_is_json_and_the_same_each_time():
    probabilities, wanted = drawn(0, rows=300)
    rows = Labelled([("a", "")] * 300, labels_of(wanted))
    first, again = (
        TASK.decide(logit(probabilities), pieces(*range(300)), rows, CLASSES) for _ in range(2)
    )
    assert json.loads(json.dumps(first)) == first == again
    assert list(first["thresholds"]) == CLASSES


def test_a_set_is_never_empty_where_validation_had_no_empty_one():
    rows = Labelled([("a", "")] * 3, ['["anger"]', '["fear"]', '["joy"]'])
    p = np.full((3, 3), 0.3) + 0.5 * np.eye(3)
    assert TASK.decide(logit(p), pieces(0, 1, 2), rows, CLASSES)["least"] == 1
    rows = Labelled(rows.texts, [*rows.labels[:2], "[]"])
    assert TASK.decide(logit(p), pieces(0, 1, 2), rows, CLASSES)["least"] == 0
    low = [[0.1, 0.2, 0.15]]
    assert answers(low, {"thresholds": {}, "least": 1})[0].label == '["fear"]'
    assert answers(low, {"thresholds": {}, "least": 0})[0].label == "[]"


# answering


def test_answers_are_the_classes_at_or_above_their_threshold():
    decision = {"thresholds": {"anger": 0.2, "fear": 0.9, "joy": 0.5}, "least": 0}
    (answer,) = answers([[0.25, 0.8, 0.5]], decision)
    assert answer.label == '["anger","joy"]'
    assert answer.details == {"labels": ["anger", "joy"]}
    assert answer.scores == pytest.approx({"anger": 0.25, "fear": 0.8, "joy": 0.5}, abs=1e-6)
    assert answer.confidence == pytest.approx(0.25 * 0.2 * 0.5, rel=1e-5)


def test_windows_are_answered_by_the_mean_of_their_probabilities():
    found = answers([[0.9, 0.1, 0.1], [0.3, 0.1, 0.5], [0.1, 0.1, 0.8]], {}, rows=[0, 0, 1])
    assert [answer.label for answer in found] == ['["anger"]', '["joy"]']
    assert found[0].scores == pytest.approx({"anger": 0.6, "fear": 0.1, "joy": 0.3}, abs=1e-6)


def test_no_texts_have_no_answers():
    assert TASK.answers([], [], [], CLASSES, {}) == []


def test_classes_that_are_not_in_order_are_answered_in_order():
    (answer,) = TASK.answers(logit([[0.9, 0.9]]), pieces(0), [("a", "")], ["z", "b"], {})
    assert answer.label == '["b","z"]'


# scores


@settings(deadline=None)
@given(st.lists(st.tuples(SETS, SETS), min_size=1, max_size=30))
def test_summed_tallies_measure_what_scikit_learn_does(rows):
    truths, told = ([label(*names) for names in side] for side in zip(*rows, strict=True))
    tallied = scoring.tallies(TASK, truths, told, CLASSES)
    found = scoring.metrics(TASK.measure, tallied)
    wanted, chosen = flags(truths), flags(told)
    present = [c for c in range(3) if (wanted | chosen)[:, c].any()]
    settings = {"zero_division": 0.0, "labels": present}
    macro = f1_score(wanted, chosen, average="macro", **settings) if present else 0.0
    expected = {
        "macro_f1": macro,
        "micro_f1": f1_score(wanted, chosen, average="micro", zero_division=0.0),
        "sample_f1": f1_score(wanted, chosen, average="samples", zero_division=1.0),
        "accuracy": accuracy_score(wanted, chosen),
    }
    assert tuple(found) == TASK.metrics
    assert found == pytest.approx(expected)


def test_the_detail_agrees_with_scikit_learn():
    random = np.random.default_rng(0)
    probabilities, wanted = random.random((200, 3)), random.random((200, 3)) < 0.3
    truths, told = labels_of(wanted), answers(probabilities, {})
    detail = TASK.detail(Labelled([], truths), told, CLASSES)
    chosen = flags([answer.label for answer in told])
    each = precision_recall_fscore_support(wanted, chosen, zero_division=0)
    for i, name in enumerate(CLASSES):
        values = [detail.per_class[name][k] for k in ("precision", "recall", "f1", "rows")]
        assert values == pytest.approx([each[k][i] for k in range(4)])
    for average in ("micro", "macro", "weighted"):
        expected = precision_recall_fscore_support(wanted, chosen, average=average)[:3]
        assert list(detail.averages[average].values()) == pytest.approx(list(expected))
    filled = precision_recall_fscore_support(wanted, chosen, average="samples", zero_division=1)
    assert detail.averages["samples"]["f1"] == pytest.approx(filled[2])
    assert detail.more["roc_auc"] == pytest.approx(
        roc_auc_score(wanted, probabilities, average="macro"), abs=1e-6
    )
    assert detail.more["labels_per_row"] == pytest.approx(wanted.sum(1).mean())
    assert detail.more["answers_per_row"] == pytest.approx(chosen.sum(1).mean())


def test_areas_are_of_the_classes_that_some_rows_have_and_some_have_not():
    told = answers([[0.9, 0.9, 0.1], [0.2, 0.4, 0.1]], {})
    more = TASK.detail(Labelled([], ['["anger","fear"]', '["fear"]']), told, CLASSES).more
    assert more["roc_auc"] == 1.0
    assert "roc_auc" not in TASK.detail(Labelled([], ['["fear"]', '["fear"]']), told, CLASSES).more


def test_a_class_missed_and_one_invented_are_confused():
    told = answers([[0.9, 0.9, 0.1], [0.1, 0.1, 0.1], [0.9, 0.1, 0.9]], {})
    truths = ['["anger","joy"]', '["anger","joy"]', "[]"]
    assert TASK.detail(Labelled([], truths), told, CLASSES).confusions == [
        ("anger", "anger"),
        ("joy", "fear"),
        ("anger", ""),
        ("joy", ""),
        ("", "anger"),
        ("", "joy"),
    ]


def test_no_rows_have_a_detail():
    assert TASK.detail(Labelled([], []), [], CLASSES).more == {
        "labels_per_row": 0.0,
        "answers_per_row": 0.0,
    }


# baselines


def toy(rows, seed):
    random = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(rows):
        names = [name for name in CLASSES if random.random() < 0.4] or ["joy"]
        filler = random.choice(["today", "again", "here", "there"], 3)
        texts.append((" ".join([*names, *filler]), ""))
        labels.append(label(*names))
    return Labelled(texts, labels)


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_regressions_learn_what_words_tell(kind):
    train, validation, test = toy(200, 0), toy(60, 1), toy(60, 2)
    found = TASK.baselines(Setting(train, validation, test, CLASSES, kind, 0, None))
    frequent, learned = found.values()
    assert set(frequent) == {max(set(train.labels), key=train.labels.count)}
    scores = [
        scoring.metrics(TASK.measure, scoring.tallies(TASK, test.labels, told, CLASSES))
        for told in (frequent, learned)
    ]
    assert scores[1]["macro_f1"] > 0.95 > scores[0]["macro_f1"]


def test_baselines_do_not_look_at_test_labels():
    train, validation, test = toy(100, 0), toy(40, 1), toy(40, 2)
    blind = Labelled(test.texts, ["[]"] * 40)
    assert TASK.baselines(
        Setting(train, validation, test, CLASSES, "words", 0, None)
    ) == TASK.baselines(Setting(train, validation, blind, CLASSES, "words", 0, None))


def test_a_class_of_all_or_no_training_rows_is_no_hindrance():
    train = Labelled(
        [("one two three", ""), ("two three four", ""), ("one two four", "")] * 4,
        ['["joy"]', '["joy"]', '["fear","joy"]'] * 4,
    )
    found = TASK.baselines(Setting(train, train, train, CLASSES, "words", 0, None))
    assert all("anger" not in told and "joy" in told for told in list(found.values())[1])


def test_real_emotions_are_told_better_than_by_the_most_frequent():
    folder = SHARED / "goemotions"
    if not folder.is_dir():
        pytest.skip(f"no real rows: {folder} is missing")
    names = (folder / "labels.txt").read_text().split()

    def read(split, most):
        with (folder / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:most]
        cells = [",".join(names[int(i)] for i in row["label"].split(",")) for row in rows]
        labels = [TASK.label(cell, "", "") for cell in cells]
        return Labelled([(row["text"], "") for row in rows], labels)

    train, validation, test = read("train", 6000), read("dev", 2000), read("test", 2000)
    found = TASK.baselines(Setting(train, validation, test, sorted(names), "words", 0, None))
    frequent, learned = (
        scoring.metrics(TASK.measure, scoring.tallies(TASK, test.labels, told, sorted(names)))
        for told in found.values()
    )
    assert '["neutral"]' in found["most frequent label"]
    assert frequent["macro_f1"] < 0.02 < 0.3 < learned["macro_f1"]
    assert learned["micro_f1"] > frequent["micro_f1"]
