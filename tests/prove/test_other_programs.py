"""Exported folders answer in transformers.js and in optimum as they do here."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from pipeline.core.records import SPLITS, Validation
from pipeline.runtimes.onnx_runtime import OnnxModel
from pipeline.stages import artifacts
from pipeline.stages.export.stage import FP32, INT8, export
from pipeline.stages.finetune.stage import finetune
from tests.pipeline.conftest import Home, up_to_tokens
from tests.pipeline.tasks.test_contract import make
from tests.pipeline.tasks.toys import TOYS

pytestmark = pytest.mark.prove
TRANSFORMERS_JS = "@huggingface/transformers@4.3.2"
OPTIMUM = ("optimum-onnx==0.1.0", "onnxruntime==1.32.0", "torch==2.13.0")
ROWS = 200
KINDS = {
    "classification": "text-classification",
    "multilabel": "AutoModelForSequenceClassification",
    "pair": "AutoModelForSequenceClassification",
    "ranking": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "ner": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
    "retrieval": "feature-extraction",
}


OF_OPTIMUM = {
    "ner": "TokenClassification",
    "question_answering": "QuestionAnswering",
    "retrieval": "CustomTasks",
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with transformers.js."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("no Node.js here")
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text("{}")
    install = ["npm", "install", "--ignore-scripts", "--no-audit", TRANSFORMERS_JS]
    subprocess.run(install, cwd=folder, check=True, capture_output=True, timeout=600)
    shutil.copy(Path(__file__).with_name("answers.mjs"), folder)
    return folder


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> dict[str, Path]:
    """The toy base, and the same with the mean of its states as embeddings."""
    by_mean = tmp_path_factory.mktemp("mean") / "base"
    shutil.copytree(tiny_base, by_mean)
    config = json.loads((by_mean / "config.json").read_text())
    (by_mean / "config.json").write_text(json.dumps({**config, "classifier_pooling": "mean"}))
    return {"cls": tiny_base, "mean": by_mean}


def exported(task: str, base: Path, folder: Path) -> Home:
    home = make(task, TOYS[task](ROWS, Random(3)), folder, base)
    home.recipe.tokenize.__dict__.update(max_length=64)
    up_to_tokens(home)
    r, t = home.recipe, home.task
    finetune(r.finetune, t, r.base, home.validate, home.tokenize, home.finetune, folder / "state")
    export(r.export, t, home.validate, home.tokenize, home.finetune, home.export)
    return home


def texts_of(home: Home) -> list[tuple[str, str]]:
    """Texts of all splits that are not cut into several pieces."""
    rows = [
        text
        for split in SPLITS
        for text in artifacts.texts_of(artifacts.kept_rows(home.validate, split))
    ]
    pieces = artifacts.encoder(home.tokenize, home.task).pieces(rows)
    count = Counter(piece.row for piece in pieces)
    return [text for row, text in enumerate(rows) if count[row] == 1]


def own(home: Home, file: str, texts: list[tuple[str, str]]) -> list[Any]:
    """Logits of this project's runtime."""
    padding = json.loads((home.export / "serving.json").read_text())["padding"]
    pieces = artifacts.encoder(home.tokenize, home.task).pieces(texts)
    return OnnxModel(home.export / file, padding).logits(pieces, batch_size=1)


def read(told: Any, labels: list[str]) -> Any:
    """Logits or scores of one text in the order of the outputs."""
    if isinstance(told, list) and told and isinstance(told[0], dict):
        scores = {each["label"]: each["score"] for each in told}
        return [scores[name] for name in labels]
    if isinstance(told, dict) and "start_logits" in told:
        return np.stack([told["start_logits"], told["end_logits"]], -1)
    return told["logits"] if isinstance(told, dict) else told


@pytest.fixture(scope="module")
def optimum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with optimum, which needs transformers 4."""
    folder = tmp_path_factory.mktemp("optimum")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=300)
    python = folder / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", *OPTIMUM]
    subprocess.run(install, check=True, capture_output=True, timeout=1200)
    return python


def softmax(logits: Any) -> Any:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("task", KINDS)
def test_transformers_js_answers_the_same(
    task: str, pooling: str, node: Path, bases: dict[str, Path], tmp_path: Path
) -> None:
    home = exported(task, bases[pooling], tmp_path / "toy")
    texts = texts_of(home)
    assert len(texts) > ROWS / 2
    labels = home.task.outputs(Validation.read(home.validate / "validation.json").labels)
    for dtype, file in (("fp32", FP32), ("q8", INT8)):
        command = ["node", "answers.mjs", str(home.folder), "export", KINDS[task], dtype]
        told = subprocess.run(
            command, cwd=node, input=json.dumps(texts), capture_output=True, text=True, timeout=300
        )
        assert told.returncode == 0, told.stderr
        expected = own(home, file, texts)
        for each, mine in zip(json.loads(told.stdout), expected, strict=True):
            wanted = softmax(mine) if KINDS[task] == "text-classification" else mine
            assert read(each, labels) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("task", KINDS)
def test_optimum_answers_the_same(
    task: str, optimum: Path, bases: dict[str, Path], tmp_path: Path
) -> None:
    home = exported(task, bases["mean"], tmp_path / "toy")
    texts = texts_of(home)
    kind = OF_OPTIMUM.get(task, "SequenceClassification")
    script = Path(__file__).with_name("answers_of_optimum.py")
    for name in (Path(FP32).name, Path(INT8).name):
        told = subprocess.run(
            [optimum, script, home.export, f"ORTModelFor{kind}", name],
            input=json.dumps(texts),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert told.returncode == 0, told.stderr
        expected = own(home, f"onnx/{name}", texts)
        for each, mine in zip(json.loads(told.stdout), expected, strict=True):
            assert read(each, []) == pytest.approx(mine, abs=1e-4)
