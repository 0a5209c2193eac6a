"""Toy versions: an untrained model that sums scores of words."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pipeline import tasks
from pipeline.registry.publisher import copy_code
from pipeline.registry.versions import digests_of
from pipeline.runtimes import onnx_runtime
from tests.conftest import WORDS

CLASSES = sorted(WORDS)


def make_version(folder: Path, weight: float = 1.0, task: str = "classification") -> dict[str, str]:
    """Write a version that answers the topic of a text; return the SHA-256 of its files.

    A larger `weight` gives more confidence, a negative one wrong answers. Other tasks have
    arbitrary answers.
    """
    artifacts = folder / "artifacts"
    artifacts.mkdir(parents=True)
    own = tasks.get(task)
    outputs = own.outputs(CLASSES)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *(w for name in CLASSES for w in WORDS[name])]
    _write_tokenizer(artifacts / "tokenizer.json", words)
    _write_model(artifacts / "model.onnx", words, weight, len(outputs), own.head)
    serving = {
        "task": task,
        "classes": CLASSES,
        "decision": {
            "mean": 3.0,
            "deviation": 1.0,
            "no_answer": True,
            "threshold": 0.0,
            "centroids": base64.b64encode(np.eye(len(CLASSES), dtype="<f4").tobytes()).decode(),
        },
        "max_length": 16,
        "long_text": "truncate",
        "overlap": 0,
        "masking": {"probability": 0.15, "whole_words": False, "packed": False}
        if own.dynamic_masking
        else None,
        "padding": 0,
    }
    (artifacts / "serving.json").write_text(json.dumps(serving))
    shutil.copyfile(onnx_runtime.__file__, artifacts / "runtime.py")
    copy_code(own, artifacts / "tasks")
    names = {
        "model": "model.onnx",
        "tokenizer": "tokenizer.json",
        "settings": "serving.json",
        "runtime": "runtime.py",
        "tasks": "tasks",
    }
    paths = {name: {"path": f"artifacts/{file}"} for name, file in names.items()}
    described = {"flavors": {"python_function": {"artifacts": paths}}}
    (folder / "MLmodel").write_text(json.dumps(described))  # JSON is YAML
    return digests_of(folder)


def _write_tokenizer(file: Path, words: list[str]) -> None:
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(file))


def _write_model(file: Path, words: list[str], weight: float, outputs: int, head: str) -> None:
    table = np.zeros((len(words), max(outputs, len(CLASSES))), np.float32)
    table[words.index("[CLS]")] = 0 * weight  # a NaN weight affects every text
    for place, name in enumerate(CLASSES):
        table[[words.index(word) for word in WORDS[name]], place] = weight
    ids, mask = (
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    )
    by_token = head in ("token", "span", "masked_lm")
    shape = ["batch", "length", outputs] if by_token else ["batch", outputs]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["logits"])]
    if not by_token:
        nodes[0].output[0] = "each"
        nodes.append(helper.make_node("ReduceSum", ["each", "axes"], ["logits"], keepdims=0))
    constants = [
        numpy_helper.from_array(table[:, :outputs], "table"),
        numpy_helper.from_array(np.array([1], np.int64), "axes"),
    ]
    graph = helper.make_graph(nodes, "toy", [ids, mask], [logits], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(file))


def store_answers(folder: Path, texts: list[list[str]], answers: list[dict[str, object]]) -> None:
    """Write texts and answers to the smoke.json of a version."""
    content = json.dumps({"texts": texts, "answers": answers})
    (folder / "artifacts" / "smoke.json").write_text(content)


class Registry:
    """Fake of the MLflow registry."""

    def __init__(self, tracking: str) -> None:
        self.tracking = tracking
        self.copies: Any = None
        self.fetched: dict[str, Path] = {}
        self.number: str | None = None
        self.away = False
        self.fetches = 0
        self.folders: dict[str, Path] = {}
        self.listed: dict[str, dict[str, str]] = {}

    def champion(self, recipe: str) -> str | None:
        return None if self.away else self.number

    def files(self, recipe: str, number: str) -> dict[str, str]:
        return self.listed[number]

    def folder(self, recipe: str, number: str) -> Path:
        self.fetches += 1
        return self.folders[number]

    def add(self, folder: Path, number: str) -> None:
        self.listed[number] = make_version(folder)
        self.folders[number] = folder
        self.number = number
