"""Every task goes the whole line, from rows to an answer to raw text; one folder makes a task."""

import json
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from pipeline import recipe as recipes
from pipeline import tasks
from pipeline.core.config import parse, read_task
from pipeline.core.records import SPLITS, Benchmark, Export, Fit, Lengths, Scores, Validation
from pipeline.metrics import scoring
from pipeline.registry.versions import Registry
from pipeline.runtimes.onnx_runtime import OnnxModel
from pipeline.runtimes.pytorch import TorchModel
from pipeline.stages import artifacts
from pipeline.stages.benchmark import candidates
from pipeline.stages.benchmark import stage as runtimes
from pipeline.stages.export.stage import FP32
from pipeline.tasks.base.answering import Answering
from pipeline.tasks.base.encoding import Texts
from tests.conftest import toy_block, write_csv
from tests.pipeline.conftest import Home, after_tokens, up_to_tokens
from tests.pipeline.registry.toys import publish_toy
from tests.pipeline.tasks.toys import TOYS, Rows

ROWS = 120


def block_of(name: str, base: Path, source: Path) -> dict[str, Any]:
    task, block = read_task(name, "task"), toy_block(base, str(source))
    main = task.metrics[0]
    block["task"] = name
    block["ingest"]["second"] = "second" if task.two_texts else None
    block["ingest"]["label"] = "label" if task.labelled else None
    block["ingest"]["group"] = "group" if task.by_group else None
    block["ingest"]["validation_percent"] = block["ingest"]["test_percent"] = 20
    block["validate"]["near_duplicates"]["similarity"] = 0.99
    if task.cut == "second":
        block["tokenize"].update({"long_text": "windows", "overlap": 4})
    if task.dynamic_masking:
        block["tokenize"]["long_text"] = "windows"
        block["tokenize"]["masking"] = {
            "probability": 0.15,
            "whole_words": True,
            "packed": not task.with_neighbour,
        }
    if task.head == "seq2seq":
        block["tokenize"]["vocabulary"] = {"size": 200, "lower_case": False, "min_frequency": 1}
        block["finetune"]["decoder"] = {
            "layers": 1,
            "max_length": 24,
            "num_beams": 2,
            "length_penalty": 1.0,
        }
    epochs = 6 if task.head == "seq2seq" else 2  # a decoder begins with nothing
    block["finetune"].update({"epochs": epochs, "metric": main})
    block["evaluate"]["baseline"] = task.baseline[0]
    block["benchmark"].update(
        {"metric": main, "seconds": 0.01, "batches": [1], "max_metric_drop": 1, "max_flip_rate": 1}
    )
    block["gate"].update({"floors": {main: 0.0}, "metrics": [main]})
    return block


def make(name: str, rows: Rows, folder: Path, base: Path) -> Home:
    source = write_csv(folder / "rows.csv", rows)
    block = block_of(name, base, source)
    return Home(folder, parse(recipes.Recipe, block, "recipes.toy"))


class Here(AbstractContextManager["Here"]):
    """Does in this process what a runtime's own would do, and has that one's globals."""

    def __init__(self, *_: object, **__: object) -> None:
        self.rig: Any = None

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, call: Callable[..., Any], *given: Any, **named: Any) -> "Future[Any]":
        vars(candidates)["_rig"] = self.rig
        done: Future[Any] = Future()
        done.set_result(call(*given, **named))
        self.rig = vars(candidates)["_rig"]
        return done


def all_stages(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    # a process of its own for each runtime is the benchmark's matter, and takes seconds
    monkeypatch.setattr(runtimes, "ProcessPoolExecutor", Here)
    after_tokens(up_to_tokens(home))


def asked_texts(home: Home) -> list[Texts]:
    texts = artifacts.texts_of(artifacts.kept_rows(home.validate, "test"))
    return texts if home.task.two_texts else [(text, "") for text, _ in texts]


def publish_and_promote(home: Home, tracking: str) -> Registry:
    published = publish_toy(home, tracking, home.folder)
    registry = Registry(tracking)
    registry.move("toy", published.version)
    return registry


def test_every_task_has_a_toy() -> None:
    assert sorted(TOYS) == tasks.known()


@pytest.mark.parametrize("name", sorted(TOYS))
def test_a_task_goes_the_whole_line(
    name: str,
    tiny_base: Path,
    tmp_path: Path,
    tracking: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = make(name, TOYS[name](ROWS, Random(3)), tmp_path / "data", tiny_base)
    all_stages(home, monkeypatch)
    _records_fit(home)
    texts = asked_texts(home)[:8]
    fp32 = said(home, TorchModel(home.finetune / "model", home.task), texts)
    assert home.task.same(fp32, said(home, OnnxModel(home.export / FP32, 0), texts)).all()

    registry = publish_and_promote(home, tracking)
    served = Benchmark.read(home.benchmark / "benchmark.json")
    file = served.candidate(served.picked).file
    assert file is not None
    expected = said(home, OnnxModel(home.export / file, 0), texts)
    assert registry.table("toy", "1", texts)["label"].tolist() == expected
    assert predicted(home, texts, capsys) == expected


def _records_fit(home: Home) -> None:
    """Check that the records of all stages are complete and agree."""
    task = home.task
    scores = Scores.read(home.evaluate / "scores.json")
    assert tuple(scores.test.scores) == task.metrics
    assert scores.baselines
    assert all(tuple(each.scores) == task.metrics for each in scores.baselines)
    for interval in scores.test.scores.values():
        assert interval.low <= interval.value <= interval.high
    fp32, _ = Export.read(home.export / "parity.json").parities
    assert fp32.max_difference < 1e-3
    assert fp32.flips == 0
    assert Fit.read(home.finetune / "fit.json").best_value > 0
    lengths = Lengths.read(home.tokenize / "lengths.json")
    kept_by_split = Validation.read(home.validate / "validation.json").kept_by_split
    assert {split: lengths.rows[split] for split in SPLITS} == kept_by_split
    # a model that is always right scores highest
    rows = artifacts.labelled(artifacts.kept_rows(home.validate, "test"))
    if not task.by_group:
        perfect = scoring.tallies(task, rows.labels, rows.labels, scores.labels, rows.groups)
        best = scoring.metrics(task.measure, perfect)
        assert all(best[name] >= scores.test.scores[name].value for name in task.metrics)


def said(home: Home, runtime: Any, texts: list[Texts]) -> list[str]:
    classes = Validation.read(home.validate / "validation.json").labels
    decision = Fit.read(home.finetune / "fit.json").decision
    encoder = artifacts.encoder(home.tokenize, home.task)
    answers = Answering(home.task, encoder, runtime, classes, decision)(texts)
    return [answer.label for answer in answers]


def predicted(home: Home, texts: list[Texts], capsys: pytest.CaptureFixture[str]) -> list[str]:
    from flows.cli import main

    given = [part for pair in texts for part in (pair if home.task.two_texts else pair[:1])]
    capsys.readouterr()
    assert main.main(["predict", "toy", "--json", "--", *given]) == 0
    return [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]


MADE_UP = '''
"""True if a text names more sport than anything else: made up, and whole in this one folder."""

import numpy as np

from ..base import Answer, Task


class Loudest(Task):
    head = "sequence"
    metrics = ("agreement",)
    exact = "agreement"

    def label(self, cell, text, second):
        if cell not in ("yes", "no"):
            raise ValueError(f"{cell!r} is neither yes nor no")
        return cell

    def outputs(self, classes):
        return ["yes"]

    def target(self, label, piece, texts, classes):
        return float(label == "yes")

    def loss(self, logits, targets, options):
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(logits[:, 0], targets, reduction="sum")

    def decide(self, logits, pieces, rows, classes):
        return {"at": float(np.median([row[0] for row in logits]))}

    def answers(self, logits, pieces, texts, classes, decision):
        sure = [float(1 / (1 + np.exp(-row[0]))) for row in logits]
        return [
            Answer("yes" if row[0] >= decision["at"] else "no", max(p, 1 - p), details={"loud": p})
            for row, p in zip(logits, sure)
        ]

    def tally(self, truths, answers, classes):
        return np.array([truths[0] == answers[0], 1.0])

    def measure(self, tallies):
        return {"agreement": tallies[..., 0] / np.maximum(tallies[..., 1], 1)}

    def baselines(self, on):
        return {"always yes": ["yes"] * len(on.test.texts)}
'''


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """One more folder among the tasks."""
    assert len(MADE_UP.splitlines()) <= 60
    folder = tmp_path / "more" / "loudest"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(MADE_UP)
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(folder.parent)])
    return tasks


def test_a_task_is_one_folder(
    made_up: ModuleType,
    tiny_base: Path,
    tmp_path: Path,
    tracking: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = TOYS["classification"](ROWS, Random(5))
    rows = [row | {"label": "yes" if row["label"] == "sport" else "no"} for row in rows]
    home = make("loudest", rows, tmp_path / "data", tiny_base)
    all_stages(home, monkeypatch)
    assert Scores.read(home.evaluate / "scores.json").test.scores["agreement"].value > 0.5
    assert set(Fit.read(home.finetune / "fit.json").decision) == {"at"}
    registry = publish_and_promote(home, tracking)
    texts = asked_texts(home)[:3]
    assert [set(row) for row in registry.scores("toy", "1", texts)] == [
        {"label", "score", "loud"}
    ] * 3
    assert predicted(home, texts, capsys) == registry.table("toy", "1", texts)["label"].tolist()
    from pipeline.report.page import build

    assert "agreement" in build(home.folder, "toy")
