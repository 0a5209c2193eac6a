"""Records of made-up runs, for three kinds of tasks."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.core.records import (
    Baseline,
    Behaviour,
    Benchmark,
    Candidate,
    Fit,
    Intake,
    Interval,
    Lengths,
    Machine,
    Publication,
    Scores,
    Slice,
    SplitScores,
    Timing,
    Validation,
)
from pipeline.registry.records import Comparison, Guardrail, Verdict

DIGEST = "0123456789abcdef" * 4
FEELINGS = ("admiration", "anger", "disappointment", "fear", "joy", "sadness", "surprise")
SPLITS = {"train": 700, "validation": 100, "test": 200}
ONE_OF_SEVERAL = {"accuracy": 0.9123, "macro_f1": 0.9045}
AVERAGE = {"precision": 0.9, "recall": 0.9, "f1": 0.9}


def around(value: float) -> Interval:
    return Interval(value=value, low=value - 0.01, high=min(1.0, value + 0.01))


def intake() -> Intake:
    return Intake(
        source="data/raw/toy.csv", rows=1000, undecodable=1, by_split=SPLITS, rows_sha256=DIGEST
    )


def validation(labels: Sequence[str]) -> Validation:
    return Validation(
        rows=1001,
        kept=1000,
        quarantined=1,
        by_rule={"undecodable": 1, "leak": 0, "near_duplicate": 2},
        policies={"undecodable": "quarantine", "leak": "quarantine", "near_duplicate": "warn"},
        quarantined_by_rule={"undecodable": 1},
        kept_by_split=SPLITS,
        kept_by_label=dict(zip(labels, [1001 - len(labels), *[1] * len(labels)], strict=False)),
        leaks={"train > test": 2},
        share_lost_to_leaks=0.002,
        labels=list(labels),
        expectations=22,
        expectations_met=22,
    )


def lengths() -> Lengths:
    quantiles = {"p5": 8, "p25": 12, "p50": 20, "p75": 30, "p95": 60, "p99": 80, "max": 90}
    return Lengths(
        maximum=64,
        long_text="truncate",
        overlap=0,
        truncated_share=dict.fromkeys(SPLITS, 0.05),
        pieces=SPLITS,
        quantiles=quantiles,
        rows=SPLITS,
    )


def fit(base: str = "package:toy/model", device: str = "cpu") -> Fit:
    return Fit(
        key=DIGEST,
        base=base,
        parameters=22_000_000,
        precision="fp32",
        device=device,
        steps=88,
        epochs=2.0,
        best_step=88,
        best_metric="validation loss",
        best_value=0.1234,
        stopped_early=False,
        weights_sha256=DIGEST,
        decision={},
        trained=22_000_000,
    )


def split_scores(labels: Sequence[str], metrics: Mapping[str, float]) -> SplitScores:
    """Classes of a task with one class a row."""
    after = dict(pairwise(labels))  # each is taken for the next
    return SplitScores(
        rows=200,
        scores={name: around(value) for name, value in metrics.items()},
        per_class={label: {**AVERAGE, "rows": 10.0} for label in labels},
        averages=dict.fromkeys(("micro", "macro", "weighted"), AVERAGE),
        more={"roc_auc": 0.99},
        calibration_error=0.034,
        confusions={
            label: {label: 9} | ({after[label]: 1} if label in after else {}) for label in labels
        },
    )


def scores(
    labels: Sequence[str],
    slices: Sequence[str] = ("characters: 1–20",),
    metrics: Mapping[str, float] = ONE_OF_SEVERAL,
    **changed: Any,
) -> Scores:
    """Scores of a task with one class a row; `changed` replaces fields of both splits."""
    part = split_scores(labels, metrics).model_copy(update=changed)
    first, *others = metrics
    baseline = Baseline(
        name="TF-IDF words + logistic regression",
        scores={first: around(0.88)} | {name: around(0.2) for name in others},
        only_model_right=12,
        only_baseline_right=5,
        p_model_worse=0.97,
    )
    return Scores(
        task="any",
        labels=list(labels),
        validation=part,
        test=part,
        baselines=[baseline],
        slices=[Slice(name=name, rows=50, score=around(0.9)) for name in slices],
    )


def behaviour(answered: str = "money") -> list[Behaviour]:
    case = {"text": "a text", "changed": "a txet", "expected": "film", "answered": answered}
    broken = Behaviour(
        name="typos",
        suite="common",
        kind="invariance",
        cases=40,
        failed=4,
        share=0.1,
        allowed=0.05,
        examples=[case],
    )
    idle = {"name": "ci|ties", "cases": 0, "failed": 0, "share": 0.0, "examples": []}
    return [broken, broken.model_copy(update=idle)]


def runtimes(metrics: Mapping[str, float] = ONE_OF_SEVERAL) -> Benchmark:
    timing = Timing(
        batch=1, length=20, p50_ms=12.3, p95_ms=14.0, p99_ms=15.0, texts_per_second=80.0
    )
    pytorch = Candidate(
        name="pytorch",
        file=None,
        bytes=90_000_000,
        load_ms=900.0,
        peak_memory_mb=700.0,
        provider="PyTorch cpu sdpa",
        single=timing,
        grid=[timing],
        speedup=1.0,
        validation={name: value + 0.02 for name, value in metrics.items()},
        validation_flips=0.0,
        test=dict(metrics),
        test_flips=0.0,
        verdict="the reference",
    )
    int8 = pytorch.model_copy(
        update={"name": "onnx-int8", "file": "onnx/model.onnx", "speedup": 1.9}
    )
    machine = Machine(
        processor="A processor",
        cores=2,
        memory_gb=8,
        gpu=None,
        features=["avx2"],
        system="Linux",
        versions={"torch": "2.13.0"},
    )
    return Benchmark(
        reference="pytorch",
        picked="onnx-int8",
        threads=2,
        candidates=[pytorch, int8],
        machine=machine,
    )


def publication(version: str = "2") -> Publication:
    return Publication(
        model="toy",
        version=version,
        key=DIGEST,
        lineage=DIGEST,
        run="run1",
        experiment="toy",
        tracking="sqlite:///mlflow.db",
    )


def verdict(
    version: str = "2",
    champion: str | None = "1",
    metrics: Mapping[str, float] = ONE_OF_SEVERAL,
) -> Verdict:
    compared = Comparison(
        metric=next(iter(metrics)),
        challenger=0.9123,
        champion=0.9,
        difference=Interval(value=0.0123, low=-0.004, high=0.028),
        test="exact McNemar",
        p_better=0.08,
        p_worse=0.95,
        detectable=0.031,
    )
    guardrail = Guardrail(
        name="latency", value=12.3, limit=10, unit="ms", held=False, note="12.3 ms"
    )
    return Verdict(
        model="toy",
        version=version,
        decision="hold" if champion else "promote",
        unfit=False,
        reason="not shown to be better" if champion else "no champion yet",
        champion=champion,
        epoch=1,
        question=1 if champion else 0,
        level=0.025,
        rows=200,
        scores=dict(metrics),
        comparisons=[compared] if champion else [],
        only_challenger_right=9,
        only_champion_right=5,
        guardrails=[guardrail],
        rule={"margin": 0.01, "guardrails": {"latency_ms": 10}},
        evidence={"rows": DIGEST},
    )


Kind = dict[str, Any]
"""Arguments of `make_home` for a kind of task."""


def kind(
    labels: Sequence[str],
    metrics: Mapping[str, float],
    mistakes: Sequence[Sequence[str]],
    trained: Mapping[str, Any],
    **changed: Any,
) -> Kind:
    points = [(step, 0.4 - step / 500, *metrics.values()) for step in (44, 88)]
    best = {"best_metric": f"validation {next(iter(metrics))}"}
    return {
        "labels": labels,
        "scores": scores(labels, metrics=metrics, **changed),
        "benchmark": runtimes(metrics),
        "verdict": verdict(metrics=metrics),
        "fit": fit().model_copy(update={**best, **trained}),
        "mistakes": mistakes,
        "curves": (tuple(metrics), points),
    }


def answers() -> Kind:
    """Stretches of a text that answer a question: no classes, no confusion, long texts."""
    found = kind(
        [],
        {"exact_match": 0.7812, "f1": 0.8634},
        [
            ("1", "in the spring of 1889", "1889", "0.97", "a.json", "9", "When was it opened?"),
            ("2", "none", "the second half of the nineteenth century, as most of the others in"
             " that part of the town were", "0.91", "a.json", "12", "Who paid for the bridge?"),
        ],
        {"decision": {"null_threshold": -1.375}},
        per_class={},
        averages={},
        more={"exact_match_of_answerable": 0.8021, "answerable_rows": 1532.0},
        calibration_error=None,
        confusions={},
    )  # fmt: skip
    pieces = {"train": 1904, "validation": 260, "test": 517}
    windows = {"long_text": "windows", "overlap": 16, "pieces": pieces}
    return found | {"lengths": lengths().model_copy(update=windows)}


EMOTIONS = [f"{mood} {kind}" for mood in ("mild", "plain", "strong", "mixed") for kind in FEELINGS]


def emotions() -> Kind:
    """Any number of 28 classes a row, each with a threshold of its own; few weights trained."""
    thresholds = {name: 0.15 + 0.02 * place for place, name in enumerate(EMOTIONS)}
    after = dict(pairwise(EMOTIONS))
    confusions = {name: {name: 40, "": 7, after.get(name, EMOTIONS[0]): 3} for name in EMOTIONS}
    found = kind(
        EMOTIONS,
        {"micro_f1": 0.5873, "macro_f1": 0.4921, "sample_f1": 0.5712, "exact_match": 0.4633},
        [("1", "anger, annoyance", "none of them", "0.97", "a.tsv", "9", "Well, that went well.")],
        {"decision": {"thresholds": thresholds}, "trained": 294_912},
        averages=dict.fromkeys(("micro", "macro", "weighted", "samples"), AVERAGE),
        more={"roc_auc": 0.91, "pr_auc": 0.5211, "labels_per_row": 1.1723},
        calibration_error=None,
        confusions={**confusions, "": dict.fromkeys(EMOTIONS[:9], 4)},
    )
    rows = {"kept_by_label": dict.fromkeys(EMOTIONS, 42)}
    return found | {"validation": validation(EMOTIONS).model_copy(update=rows)}


def spans() -> Kind:
    """Names of four classes inside a text, which can be missed and made up; one metric."""
    labels = ["LOC", "MISC", "ORG", "PER"]
    return kind(
        labels,
        {"entity_f1": 0.8835},
        [
            (
                "1",
                "ORG: Northern Rowing Club; LOC: Ely; PER: A. Whitmore",
                "LOC: Northern; LOC: Ely; PER: A. Whitmore",
                "0.93",
                "a.conll",
                "120",
                "Northern Rowing Club beat Ely by two lengths, said A. Whitmore.",
            )
        ],
        {},
        per_class={label: {**AVERAGE, "rows": 412.0} for label in labels},
        averages=dict.fromkeys(("micro", "macro"), AVERAGE),
        more={"token_accuracy": 0.9812},
        calibration_error=None,
        confusions={
            "LOC": {"LOC": 380, "ORG": 20, "": 12},
            "MISC": {"MISC": 300, "": 60},
            "ORG": {"ORG": 371, "LOC": 31, "": 10},
            "PER": {"PER": 405, "": 7},
            "": {"LOC": 8, "MISC": 44, "ORG": 12},
        },
    )


KINDS = {"answers": answers, "emotions": emotions, "spans": spans}

MakeHome = Callable[..., Path]
