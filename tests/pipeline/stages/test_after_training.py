"""Evaluate, export and benchmark, on the toy that the fixture trained."""

import csv
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.log import FunctionLog
from pipeline.core.records import Benchmark, Candidate, Export, Scores
from pipeline.models.heads import head_of
from pipeline.models.heads.base import Start
from pipeline.runtimes.onnx_runtime import OnnxModel
from pipeline.runtimes.pytorch import TorchModel
from pipeline.stages import artifacts
from pipeline.stages.benchmark.candidates import CANDIDATES, REFERENCE
from pipeline.stages.benchmark.machine import peak_memory_mb
from pipeline.stages.benchmark.params import BenchmarkParams
from pipeline.stages.benchmark.stage import pick
from pipeline.stages.evaluate.stage import _Scoring, _write_mistakes, evaluate
from pipeline.stages.export.stage import FP32
from pipeline.tasks.base import Answer
from pipeline.tasks.base.answering import Answering
from tests.conftest import tiny_config
from tests.pipeline.conftest import Home


def predictions(line: Home, split: str) -> pd.DataFrame:
    frame = pd.read_parquet(line.evaluate / "predictions.parquet")
    return frame[frame["split"] == split]


def test_scores_are_those_of_the_predictions(line: Home) -> None:
    scores = Scores.read(line.evaluate / "scores.json")
    frame = predictions(line, "test")
    assert len(frame) == scores.test.rows
    expected = (frame["truth"] == frame["answer"]).mean()
    accuracy = scores.test.scores["accuracy"]
    assert accuracy.value == pytest.approx(expected)
    macro = precision_recall_fscore_support(frame["truth"], frame["answer"], average="macro")
    assert scores.test.averages["macro"]["f1"] == pytest.approx(macro[2])
    chances = np.stack(frame["scores"].to_list())
    area = roc_auc_score(frame["truth"], chances, multi_class="ovr", labels=scores.labels)
    assert scores.test.more["roc_auc"] == pytest.approx(area)
    assert accuracy.low <= accuracy.value <= accuracy.high
    counted = sum(sum(row.values()) for row in scores.test.confusions.values())
    assert counted == scores.test.rows


def test_every_validation_and_test_row_is_predicted(line: Home) -> None:
    for split in ("validation", "test"):
        rows = artifacts.kept_rows(line.validate, split)
        assert predictions(line, split)["id"].tolist() == rows["id"].tolist()


def test_slices_are_scored_and_what_is_left_out_is_told(line: Home) -> None:
    frame = predictions(line, "test").rename(columns={"truth": "label"}).assign(group="")
    rows = artifacts.kept_rows(line.validate, "test")
    frame["text"], frame["second"] = rows["text"].tolist(), ""
    frame["author"] = [f"author {min(i, 14)}" for i in range(len(frame))]  # 15: the last wrote most
    told: list[str] = []
    params = line.recipe.evaluate.model_copy(update={"slices": ["author"]})
    judge = _Scoring(params, line.task, None, sorted(set(rows["label"])))
    found = [
        each for each in judge.slices(frame, FunctionLog(told.append)) if "author" in each.name
    ]
    assert (found[0].name, found[0].rows) == ("author: author 14", len(frame) - 14)
    part = frame[14:]
    assert found[0].score.value == pytest.approx((part["label"] == part["answer"]).mean())
    assert len(found) == 12
    assert told == [
        "evaluate.slices: author has 15 values in test rows: the 12 most frequent are scored"
    ]


def test_baselines_stand_beside_the_model(line: Home) -> None:
    scores = Scores.read(line.evaluate / "scores.json")
    majority, regression = scores.baselines
    assert majority.scores["accuracy"].value < 0.6 < regression.scores["accuracy"].value


def test_pictures_are_the_same_bytes_again(line: Home, tmp_path: Path) -> None:
    r, h = line.recipe, line
    evaluate(r.evaluate, h.task, h.validate, h.tokenize, h.finetune, tmp_path)
    for file in sorted(line.evaluate.rglob("*")):
        if file.is_file():
            again = tmp_path / file.relative_to(line.evaluate)
            assert again.read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(
    ("task", "answers", "header", "order"),
    [
        (
            "classification",
            [("9.0", 0.3), ("4.0", 0.9)],
            ["id", "truth", "answer", "confidence", "file", "line", "excerpt"],
            ["b", "a"],
        ),
        (
            "regression",
            [("9.0", 1.0), ("4.0", 1.0)],
            ["id", "truth", "answer", "file", "line", "excerpt"],
            ["a", "b"],
        ),
    ],
)
def test_confidence_stands_where_it_puts_mistakes_in_order(
    tmp_path: Path,
    task: str,
    answers: list[tuple[str, float]],
    header: list[str],
    order: list[str],
) -> None:
    frame = pd.DataFrame({"id": ["a", "b"], "text": "t", "second": "", "file": "f", "line": [1, 2]})
    frame["label"], frame["answer"], frame["confidence"] = "3.0", *zip(*answers, strict=True)
    frame["whole"] = [Answer(*answer) for answer in answers]
    _write_mistakes(frame, tasks.get(task), 10, tmp_path / "mistakes.csv")
    found = pd.read_csv(tmp_path / "mistakes.csv")
    assert found.columns.tolist() == header
    assert found["id"].tolist() == order


SUITE = """
about: Toy topics.
tests:
  - name: words of a class
    kind: minimum functionality
    texts: {sport: [goal match striker league], money: [bank shares profit market]}
  - name: what is false
    kind: minimum functionality
    texts: {film: [goal match striker league, bank shares profit market]}
  - name: capital letters
    kind: invariance
    change: {case: upper}
  - name: a match makes it sport
    kind: direction
    label: sport
    moves: up
    texts: [the bank after this]
    change: {after: [goal match striker coach]}
"""


def behave(line: Home, suite: str, out: Path) -> Scores:
    params = line.recipe.evaluate.model_copy(update={"behaviour": [suite]})
    return evaluate(params, line.task, line.validate, line.tokenize, line.finetune, out)


def test_a_suite_is_put_to_the_model(line: Home, tmp_path: Path) -> None:
    from mlflow.utils.validation import _validate_metric_name

    from pipeline.stages.publish.records import Records
    from pipeline.stages.publish.stage import _metrics

    (tmp_path / "toy.yaml").write_text(SUITE)
    scores = behave(line, str(tmp_path / "toy.yaml"), tmp_path / "one")
    passed = {test.name: test.passed for test in scores.behaviour}
    assert passed == {
        "words of a class": True,
        "what is false": False,
        "capital letters": True,
        "a match makes it sport": True,
    }
    assert [test.cases for test in scores.behaviour] == [2, 2, 20, 1]
    assert scores.behaviour_failed == 0.25
    with (tmp_path / "one" / "behaviour.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [row["text"] for row in lines] == [
        "goal match striker league",
        "bank shares profit market",
    ]
    assert lines[0]["expected"] == "film"
    assert lines[0]["answered"].startswith("sport (")

    assert behave(line, str(tmp_path / "toy.yaml"), tmp_path / "two") == scores
    for name in ("behaviour.csv", "scores.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

    made = Records.read(
        *(line.ingest, line.validate, line.tokenize, line.finetune, line.evaluate),
        *(line.export, line.benchmark),
    )
    metrics = _metrics(replace(made, scores=scores))
    assert metrics["behaviour.failed_share"] == 0.25
    assert metrics["behaviour.toy_what_is_false"] == 1.0
    for name in metrics:
        _validate_metric_name(name)


def test_a_suite_for_other_labels_is_refused(line: Home, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"suite topic, test .* no label 'business', it has film,"):
        behave(line, "topic", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_suite_no_case_has_failed(line: Home) -> None:
    assert Scores.read(line.evaluate / "scores.json").behaviour == []
    assert (line.evaluate / "behaviour.csv").read_text().count("\n") == 1


def test_attention_is_fused_and_fp32_answers_as_pytorch(line: Home) -> None:
    fp32, int8 = Export.read(line.export / "parity.json").parities
    assert fp32.fused["Attention"] == 2
    assert fp32.max_difference < 1e-4
    assert fp32.flips == 0
    assert int8.bytes < fp32.bytes


def test_raw_text_is_answered_as_in_pytorch(line: Home) -> None:
    texts = artifacts.texts_of(artifacts.kept_rows(line.validate, "test"))
    asked = [*texts, ("", ""), ("goal " * 5000, "")]
    pieces = artifacts.encoder(line.tokenize, line.task).pieces(asked)
    reference = TorchModel(line.finetune / "model", line.task).logits(pieces)
    answer = OnnxModel(line.export / FP32, padding=0).logits(pieces)
    assert np.abs(np.stack(answer) - np.stack(reference)).max() < 1e-4


@dataclass
class Tokens:
    ids: list[int]
    types: list[int]

    def __len__(self) -> int:
        return len(self.ids)


@pytest.mark.parametrize("family", ["roberta", "distilbert", "electra"])
@pytest.mark.parametrize(
    ("head", "pooling"),
    [("sequence", "cls"), ("sequence", "mean"), ("token", "cls"), ("span", "cls")],
)
def test_other_encoder_families_fuse_too(
    family: str, head: str, pooling: str, tmp_path: Path
) -> None:
    import onnx
    import transformers

    from pipeline.stages.export.onnx import export_fused

    config = tiny_config(family)
    config.classifier_pooling = pooling
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "base")
    task = SimpleNamespace(head=head, two_texts=family == "electra")
    start = Start(tmp_path / "base", "base", ["start", "end"], {}, tmp_path)
    head_of(task).build(start).save_pretrained(tmp_path / "model")
    eager = TorchModel(tmp_path / "model", task, attention="eager")
    assert eager.typed == (family == "electra")
    fused = export_fused(eager, tmp_path / "fp32.onnx")
    assert fused.get("Attention", 0) + fused.get("MultiHeadAttention", 0) == 2
    nodes = onnx.load(tmp_path / "fp32.onnx").graph.node
    cut = {name for node in nodes for name in node.output if name.endswith("_first_token")}
    reads = [node.op_type for node in nodes if cut & {*node.input}]
    # the last attention's output and its skip connection: later nodes see only the first token
    narrow = head == "sequence" and pooling == "cls"
    assert sorted(reads) == (["MatMul", "Sum"] if narrow else [])
    assert "SkipLayerNormalization" not in {node.op_type for node in nodes}
    types = [[0, 0, 1, 1, 1], [0, 0, 1]]
    pieces = [
        Tokens([2, 7, 9, 30, 3], types[0]),
        Tokens([2, 8, 3], types[1]),
    ]
    runtime = OnnxModel(tmp_path / "fp32.onnx", eager.padding)
    assert runtime.typed == eager.typed
    for answer, expected in zip(runtime.logits(pieces), eager.logits(pieces), strict=True):
        assert answer.shape == expected.shape
        assert np.abs(answer - expected).max() < 1e-4


def test_the_ladder_is_measured_rung_by_rung(line: Home) -> None:
    runtimes = Benchmark.read(line.benchmark / "benchmark.json")
    assert [candidate.name for candidate in runtimes.candidates] == list(CANDIDATES)
    assert runtimes.candidate(REFERENCE).speedup == 1
    assert runtimes.picked != REFERENCE
    assert all(
        candidate.verdict and candidate.peak_memory_mb > 50 for candidate in runtimes.candidates
    )
    assert runtimes.candidate("onnx-fp32").test_flips == 0
    assert all(
        candidate.single.p50_ms <= candidate.single.p99_ms for candidate in runtimes.candidates
    )
    frame = predictions(line, "test")
    expected = (frame["truth"] == frame["answer"]).mean()
    assert runtimes.candidate(REFERENCE).test["accuracy"] == pytest.approx(expected)


def test_made_up_texts_are_kept_with_what_the_picked_rung_answers(line: Home) -> None:
    smoke = json.loads((line.benchmark / "smoke.json").read_text())
    runtimes = Benchmark.read(line.benchmark / "benchmark.json")
    serving = json.loads((line.export / "serving.json").read_text())
    file = runtimes.candidate(runtimes.picked).file
    assert file
    task = tasks.get("classification")
    runtime = OnnxModel(line.export / file, serving["padding"])
    encoder = artifacts.encoder(line.tokenize, task)
    answering = Answering(task, encoder, runtime, serving["classes"], serving["decision"])
    texts = [(text, second) for text, second in smoke["texts"]]
    assert len(set(texts)) == len(texts) >= 10
    for answer, told in zip(answering(texts), smoke["answers"], strict=True):
        assert (answer.label, answer.confidence) == (told["label"], pytest.approx(told["score"]))
        assert answer.scores == pytest.approx(told["scores"])


def test_what_is_answered_in_parts_is_told(line: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks.get("classification")
    serving = json.loads((line.export / "serving.json").read_text())
    answering = Answering(
        task,
        artifacts.encoder(line.tokenize, task),
        OnnxModel(line.export / FP32, serving["padding"]),
        serving["classes"],
        serving["decision"],
    )
    texts = artifacts.texts_of(artifacts.kept_rows(line.validate, "validation"))[:25]
    at_once = [answer.label for answer in answering(texts)]
    monkeypatch.setattr("pipeline.tasks.base.answering.AT_ONCE", 10)
    told: list[tuple[int, int]] = []
    in_parts = answering(texts, progress=lambda *each: told.append(each))
    assert told == [(10, 25), (20, 25), (25, 25)]
    assert [answer.label for answer in in_parts] == at_once


def candidate(
    template: Candidate, name: str, ms: float, accuracy: float, flips: float
) -> Candidate:
    single = template.single.model_copy(update={"p50_ms": ms})
    turns = [round(ms * speed, 6) for speed in (1, 3, 0.9, 1.1, 1.3, 0.8, 2, 1.2)]
    values = {"validation": {"accuracy": accuracy}, "validation_flips": flips}
    values |= {"single": single, "turns": turns}
    # test scores that would choose another candidate must not count
    test = {"accuracy": 1 - accuracy}
    return template.model_copy(update={**values, "name": name, "test": test})


BUDGET = BenchmarkParams(
    threads=0, batches=[1], seconds=1, metric="accuracy", max_metric_drop=0.01, max_flip_rate=0.02
)


def test_the_fastest_candidate_within_the_budget_is_picked_on_validation(line: Home) -> None:
    one = Benchmark.read(line.benchmark / "benchmark.json").candidates[0]
    candidates = [
        candidate(one, REFERENCE, 1, 0.95, 0),
        candidate(one, "whole", 20, 0.95, 0),
        candidate(one, "quick", 10, 0.945, 0.01),
        candidate(one, "just", 15, 0.95 - 0.01, 1 / 50),  # equal to the budget but for rounding
        candidate(one, "drops", 2, 0.9, 0.0),
        candidate(one, "flips", 2, 0.95, 0.05),
    ]
    picked, reasons = pick(candidates, BUDGET)
    assert picked == "quick"
    slower = "within the budget, but slower than quick"
    assert reasons["whole"] == reasons["just"] == slower
    assert "drops by 0.0500" in reasons["drops"]
    assert "5.00% of validation answers flip" in reasons["flips"]
    assert "reference" in reasons[REFERENCE]


def test_a_pick_within_the_noise_is_the_safer_one(line: Home) -> None:
    one = Benchmark.read(line.benchmark / "benchmark.json").candidates[0]
    safer = candidate(one, "safer", 10, 0.95, 0)
    quick = candidate(one, "quick", 9, 0.95, 0.01)
    noisy = quick.model_copy(update={"turns": [9, 31, 8, 12, 11, 9, 18, 13]})
    for each, expected in ((quick, "quick"), (noisy, "safer")):
        picked, reasons = pick([candidate(one, REFERENCE, 1, 0.95, 0), each, safer], BUDGET)
        assert picked == expected
    assert reasons["quick"] == "within the budget, but not faster than safer by more than the noise"


def test_no_candidate_within_the_budget_is_told(line: Home) -> None:
    one = Benchmark.read(line.benchmark / "benchmark.json").candidates[0]
    candidates = [candidate(one, REFERENCE, 1, 0.95, 0), candidate(one, "bad", 1, 0.5, 0.5)]
    with pytest.raises(UserError, match="no runtime stays within the budget"):
        pick(candidates, BUDGET)


def test_the_records_hold_no_clock_but_the_ladder(line: Home) -> None:
    for name in ("evaluate/scores.json", "finetune/fit.json", "export/parity.json"):
        content = json.loads((line.folder / name).read_text())
        assert not [key for key in content if "time" in key or "seconds" in key]


def test_the_memory_of_a_runtime_is_its_own() -> None:
    held = np.ones(100_000_000)  # 800 MB
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        assert 20 < alone.submit(peak_memory_mb).result() < held.nbytes / 1e6
