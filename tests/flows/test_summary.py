"""Summary of a run."""

from flows.summary import (
    base_lines,
    behaviour_rows,
    runtime_rows,
    score_rows,
    table,
    validation_text,
    verdict_lines,
)
from pipeline.core.records import Behaviour
from tests.pipeline.promotion.toys import verdict
from tests.pipeline.report.records import answers, fit, lengths, runtimes, scores, validation


def test_a_behaviour_test_that_fails_is_marked() -> None:
    one = Behaviour(
        name="typos",
        suite="topic",
        kind="invariance",
        cases=20,
        failed=3,
        share=0.15,
        allowed=0.1,
        examples=[],
    )
    other = one.model_copy(update={"allowed": 0.15})
    none = one.model_copy(update={"cases": 0, "share": 0.0})
    rows = behaviour_rows(scores(["film"]).model_copy(update={"behaviour": [one, other, none]}))
    assert [row[""] for row in rows] == ["fails", "", "no row to change"]
    assert rows[0]["failed"] == "15.0%"


def test_the_model_stands_beside_its_baselines_in_the_metrics_of_its_task() -> None:
    model, baseline = score_rows(answers()["scores"])
    assert list(model) == ["model", "exact match", "F1", ""]
    assert model["F1"] == "0.8634 [0.8534, 0.8734]"
    assert baseline["exact match"] == "0.8800 [0.8700, 0.8900]"
    assert baseline[""] == "it is better on 5 rows, this one on 12"
    classes = score_rows(scores(["film", "money"]))
    assert list(classes[0]) == ["model", "accuracy", "macro-F1", ""]
    assert table(classes)[0].split() == ["model", "accuracy", "macro-F1"]


def test_a_runtime_is_told_with_the_main_metric() -> None:
    reference, picked = runtime_rows(runtimes({"ndcg@10": 0.4123, "mrr@10": 0.3911}))
    assert reference["ndcg@10"] == "0.4123"
    assert "mrr@10" not in reference
    assert picked["runtime"] == "> onnx-int8"


def test_a_promotion_that_awaits_a_person_says_so() -> None:
    better = verdict("2", "1")
    assert verdict_lines(better, "2") == ["verdict on toy/2: promote: reason 2"]
    assert verdict_lines(better, "1")[1:] == [
        "  it awaits a person: bertline promote toy/2 --reason TEXT"
    ]
    assert len(verdict_lines(verdict("2", "1", "hold"), "1")) == 1


def test_notes_on_classes_stand_below_the_counts_of_rows() -> None:
    record = validation(["film", "Film"]).model_copy(update={"notes": ["are they one class?"]})
    assert validation_text(record).endswith("\nare they one class?")


def test_a_vocabulary_that_covers_little_and_cut_texts_are_told() -> None:
    few = lengths().model_copy(update={"coverage": 0.6123})
    assert base_lines(few, fit()) == [
        "vocabulary of package:toy/model: knows 61.2% of the tokens of the texts",
        "5.0% of the test texts are cut to 64 tokens",
    ]
    assert len(base_lines(few.model_copy(update={"long_text": "windows"}), fit())) == 1
