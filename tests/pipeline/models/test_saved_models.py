"""A trained folder answers in other programs as it does here, or is refused by them."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from pipeline.core.errors import UserError
from pipeline.core.records import Fit, Validation
from pipeline.models import encoders
from pipeline.runtimes.pytorch import TorchModel
from pipeline.stages import artifacts
from pipeline.stages.finetune.stage import finetune
from pipeline.tasks.base.answering import Answering
from tests.pipeline.conftest import Home, up_to_tokens
from tests.pipeline.tasks.test_contract import asked_texts, make
from tests.pipeline.tasks.toys import TOYS

BY_TEXT = ("classification", "multilabel", "pair", "ranking", "regression", "similarity")
SUMMED = {"add_special_tokens": True, "truncation": True}


@pytest.fixture(scope="module")
def by_mean(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """The toy base as a folder of sentence-transformers, whose embeddings are means."""
    folder = tmp_path_factory.mktemp("mean") / "base"
    folder.mkdir()
    for file in tiny_base.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "classifier_pooling": "mean"}))
    return folder


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies the code of saved models to the test's folder."""
    for module in ("transformers.dynamic_module_utils", "transformers.utils.hub"):
        monkeypatch.setattr(f"{module}.HF_MODULES_CACHE", str(tmp_path / "code"), raising=False)


def trained(task: str, base: Path, folder: Path, **finetuned: Any) -> Home:
    """A toy recipe up to its trained model."""
    home = make(task, TOYS[task](120, Random(3)), folder, base)
    home.recipe.finetune.__dict__.update(finetuned)
    up_to_tokens(home)
    r = home.recipe
    finetune(
        r.finetune, home.task, r.base, home.validate, home.tokenize, home.finetune, folder / "state"
    )
    return home


def own(home: Home) -> tuple[list[Any], list[Any]]:
    """Logits and answers of this project to the test rows."""
    encoder = artifacts.encoder(home.tokenize, home.task)
    model = TorchModel(home.finetune / "model", home.task)
    texts = asked_texts(home)
    answering = Answering(
        home.task,
        encoder,
        model,
        Validation.read(home.validate / "validation.json").labels,
        Fit.read(home.finetune / "fit.json").decision,
    )
    return model.logits(encoder.pieces(texts)), answering(texts)


def inputs(home: Home, tokenizer: Any) -> Any:
    firsts, seconds = (list(each) for each in zip(*asked_texts(home), strict=True))
    texts = (firsts, seconds) if home.task.two_texts else (firsts,)
    return tokenizer(*texts, truncation=True, padding=True, return_tensors="pt")


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("task", BY_TEXT)
def test_a_classifier_of_texts_answers_the_same_in_transformers(
    task: str, pooling: str, tiny_base: Path, by_mean: Path, tmp_path: Path, code: None
) -> None:
    home = trained(task, by_mean if pooling == "mean" else tiny_base, tmp_path / "home")
    logits, answers = own(home)
    folder = home.finetune / "model"
    if pooling == "mean":
        with pytest.raises(ValueError, match="trust_remote_code"):
            transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    trust = pooling == "mean"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, trust_remote_code=trust
    ).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        found = model(**inputs(home, tokenizer)).logits.numpy()
    assert found == pytest.approx(np.stack(logits), abs=1e-4)

    classify = transformers.pipeline("text-classification", str(folder), trust_remote_code=trust)
    texts = [
        {"text": text, "text_pair": second} if home.task.two_texts else text
        for text, second in asked_texts(home)
    ]
    told = classify(texts, truncation=True, top_k=None)
    for each, answer in zip(told, answers, strict=True):
        scores = {one["label"]: one["score"] for one in each}
        if answer.scores:
            assert scores == pytest.approx(dict(answer.scores), abs=1e-5)
        else:
            assert scores["score"] == pytest.approx(float(answer.label), rel=1e-3, abs=1e-4)
