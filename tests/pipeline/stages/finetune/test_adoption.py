"""A model that was trained elsewhere goes the line as it is, or is refused in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from pipeline.core.errors import UserError
from pipeline.core.records import Fit, Validation
from pipeline.runtimes.pytorch import TorchModel
from pipeline.stages import artifacts
from pipeline.stages.finetune.stage import finetune
from tests.pipeline.conftest import Home
from tests.pipeline.tasks.test_contract import said

AUTO = transformers.AutoModelForSequenceClassification


def elsewhere(base: Path, folder: Path, names: list[str], seed: int = 5) -> Path:
    """A classifier that transformers' own code has saved."""
    torch.manual_seed(seed)
    labels = dict(enumerate(names))
    model = AUTO.from_pretrained(
        base, id2label=labels, label2id={name: i for i, name in labels.items()}
    )
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


def imported(home: Home, model: Path, out: Path, **settings: Any) -> Fit:
    recipe = home.recipe
    metric = home.task.metrics[0]
    params = recipe.finetune.model_copy(update={"epochs": 0, "metric": metric, **settings})
    base = recipe.base.model_copy(update={"model": str(model), "sha256": None})
    return finetune(
        params, home.task, base, home.validate, home.tokenize, out, out.with_name("state")
    )


def classes(home: Home) -> list[str]:
    return Validation.read(home.validate / "validation.json").labels


def test_outputs_come_in_the_order_of_the_rows_classes(
    tokens: Home, tiny_base: Path, tmp_path: Path
) -> None:
    names = classes(tokens)[::-1]
    model = elsewhere(tiny_base, tmp_path / "model", names)
    fit = imported(tokens, model, tmp_path / "out")
    assert (fit.steps, fit.epochs, fit.trained, fit.pooling) == (0, 0.0, 0, "cls")
    texts = artifacts.texts_of(artifacts.kept_rows(tokens.validate, "test"))[:20]
    classify = transformers.pipeline("text-classification", str(model))
    expected = [each["label"] for each in classify([text for text, _ in texts])]
    home = Home(tmp_path, tokens.recipe)
    shutil.copytree(tokens.validate, home.validate)
    shutil.copytree(tokens.tokenize, home.tokenize)
    (tmp_path / "out").rename(home.finetune)
    assert said(home, TorchModel(home.finetune / "model", home.task), texts) == expected
    assert not (tmp_path / "state").exists()
    curve = (home.finetune / "training.csv").read_text()
    assert curve.strip() == "step,loss,learning_rate,grad_norm"


def test_weights_stay_what_they_are(tokens: Home, tiny_base: Path, tmp_path: Path) -> None:
    model = elsewhere(tiny_base, tmp_path / "model", classes(tokens))
    imported(tokens, model, tmp_path / "out")
    before = load_file(model / "model.safetensors")
    after = load_file(tmp_path / "out" / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_model_without_the_head_is_refused(tokens: Home, tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="classifier"):
        imported(tokens, tiny_base, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()


def test_other_classes_are_refused(tokens: Home, tiny_base: Path, tmp_path: Path) -> None:
    model = elsewhere(tiny_base, tmp_path / "model", ["a", "b", "c"])
    with pytest.raises(UserError) as refused:
        imported(tokens, model, tmp_path / "out")
    assert str(refused.value) == (
        f"{model}: its outputs are a, b, c, those of the rows {', '.join(classes(tokens))}: write"
        " the rows' names into id2label of its config.json, or list all in validate.labels"
    )


def test_another_kind_of_classifier_is_refused(
    tokens: Home, tiny_base: Path, tmp_path: Path
) -> None:
    model = elsewhere(tiny_base, tmp_path / "model", classes(tokens))
    config = json.loads((model / "config.json").read_text())
    config["problem_type"] = "multi_label_classification"
    (model / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="'multi_label_classification', and the recipe's task need"):
        imported(tokens, model, tmp_path / "out")


def test_numbered_classes_are_those_of_numbered_rows(
    tokens: Home, tiny_base: Path, tmp_path: Path
) -> None:
    """LABEL_2, transformers' name of a class without one, is the class 2."""
    from pipeline.models.heads import sequence
    from pipeline.models.heads.base import Start

    model = elsewhere(tiny_base, tmp_path / "model", ["LABEL_0", "LABEL_1", "LABEL_2"])
    start = Start(model, "model", ["2", "0", "1"], {}, model)
    adopted = sequence.HEAD.adopt(start)
    weights = load_file(model / "model.safetensors")["classifier.weight"]
    assert torch.equal(adopted.classifier.weight, weights[[2, 0, 1]])
    assert adopted.config.id2label == {0: "2", 1: "0", 2: "1"}
    config = json.loads((model / "config.json").read_text())
    assert config["id2label"]["2"] == "LABEL_2"


def test_a_classifier_without_its_pooler_is_refused(
    tokens: Home, tiny_base: Path, tmp_path: Path
) -> None:
    """transformers would make one up, and every answer would be noise."""
    model = elsewhere(tiny_base, tmp_path / "model", classes(tokens))
    weights = load_file(model / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "pooler" not in name}
    save_file(kept, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="pooler"):
        imported(tokens, model, tmp_path / "out")
