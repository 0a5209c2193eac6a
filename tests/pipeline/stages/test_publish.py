"""Names of metrics in MLflow, for every task and for earlier runs."""

import pytest

from pipeline.core.records import Export
from pipeline.stages.publish.records import Records
from pipeline.stages.publish.stage import _metrics, _shorts
from tests.pipeline.report.records import (
    KINDS,
    Kind,
    answers,
    behaviour,
    emotions,
    fit,
    intake,
    lengths,
    runtimes,
    scores,
    validation,
)


def metrics_of(kind: Kind) -> dict[str, float]:
    made = Records(
        intake(),
        kind.get("validation") or validation(kind["labels"]),
        kind.get("lengths") or lengths(),
        fit(),
        kind["scores"],
        Export(parities=[]),
        kind["benchmark"],
    )
    return _metrics(made)


def test_classification_keeps_the_names_that_it_had() -> None:
    labels = ["film", "money", "sport"]
    found = scores(labels).model_copy(update={"behaviour": behaviour()})
    metrics = metrics_of({"labels": labels, "scores": found, "benchmark": runtimes()})
    averages = [f"{a}_{b}" for a in ("micro", "macro", "weighted") for b in ("precision", "recall")]
    of_split = [
        *("accuracy", "accuracy_low", "accuracy_high"),
        *("macro_f1", "macro_f1_low", "macro_f1_high", "micro_f1", "weighted_f1"),
        *averages,
        *("roc_auc", "calibration_error"),
    ]
    assert set(metrics) == {
        *(f"data.{name}" for name in ("rows", "kept", "quarantined", "leak_share")),
        "tokens.truncated_share",
        *("served.test_accuracy", "served.test_macro_f1", "served.test_flips"),
        *("served.p50_ms", "served.p95_ms", "served.speedup", "served.megabytes"),
        *(f"{split}.{name}" for split in ("validation", "test") for name in of_split),
        *("baseline.tf-idf_accuracy", "baseline.tf-idf_macro_f1"),
        *("behaviour.failed_share", "behaviour.common_typos", "behaviour.common_ci_ties"),
        *(
            f"runtime.{candidate}.{name}"
            for candidate in ("pytorch", "onnx-int8")
            for name in ("p50_ms", "test_accuracy", "validation_flips")
        ),
    }
    assert metrics["test.accuracy"] == 0.9123
    assert metrics["test.macro_f1"] == 0.9045  # the metric, not the average of the same name
    assert metrics["runtime.onnx-int8.test_accuracy"] == 0.9123


def test_a_tasks_own_metrics_have_their_own_names() -> None:
    metrics = metrics_of(answers())
    assert metrics["test.exact_match"] == 0.7812
    assert metrics["validation.f1_low"] == pytest.approx(0.8534)
    assert metrics["test.answerable_rows"] == 1532
    assert metrics["served.test_f1"] == 0.8634
    assert metrics["baseline.tf-idf_exact_match"] == 0.88
    assert "runtime.pytorch.test_exact_match" in metrics
    assert not [name for name in metrics if "accuracy" in name or "calibration" in name]
    assert metrics_of(emotions())["test.samples_f1"] == 0.9


@pytest.mark.parametrize("name", [*KINDS, "ranking"])
def test_mlflow_takes_every_name(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    ranks = {"ndcg@10": 0.41, "mrr@10": 0.39}
    ranking = {"labels": [], "scores": scores([], metrics=ranks), "benchmark": runtimes(ranks)}
    metrics = metrics_of(KINDS[name]() if name in KINDS else ranking)
    for each in metrics:
        _validate_metric_name(each)
    assert ("test.ndcg_at_10_low" in metrics) == (name == "ranking")


def test_baselines_that_begin_alike_are_told_apart() -> None:
    assert _shorts(["majority class", "TF-IDF words + logistic regression"]) == [
        "majority",
        "tf-idf",
    ]
    assert _shorts(["BM25", "TF-IDF of the question", "TF-IDF of both", "BM25 + words"]) == [
        "bm25",
        "tf-idf_of_the",
        "tf-idf_of_both",
        "bm25_words",
    ]
