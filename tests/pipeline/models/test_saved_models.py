"""A trained folder answers in other programs as it does here, or is refused by them."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from pipeline.core.config import read_task
from pipeline.core.records import Fit, Validation
from pipeline.models.families import FAMILIES
from pipeline.models.heads import head_of
from pipeline.models.heads.base import Start
from pipeline.runtimes.pytorch import TorchModel
from pipeline.stages import artifacts
from pipeline.stages.finetune.params import Lora
from pipeline.stages.finetune.stage import finetune
from pipeline.tasks.base.answering import Answering
from pipeline.tasks.base.encoding import Texts
from tests.pipeline.conftest import Home, up_to_tokens
from tests.pipeline.models.test_families import saved
from tests.pipeline.tasks.test_contract import asked_texts, make
from tests.pipeline.tasks.toys import TOYS

BY_TEXT = ("classification", "multilabel", "pair", "ranking", "regression", "similarity")


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
    home.recipe.tokenize.__dict__.update(max_length=64)
    up_to_tokens(home)
    r = home.recipe
    finetune(
        r.finetune, home.task, r.base, home.validate, home.tokenize, home.finetune, folder / "state"
    )
    return home


def asked(home: Home) -> list[Texts]:
    """Test rows that are not cut into several pieces."""
    texts = asked_texts(home)
    pieces = artifacts.encoder(home.tokenize, home.task).pieces(texts)
    count = Counter(piece.row for piece in pieces)
    return [text for row, text in enumerate(texts) if count[row] == 1]


def own(home: Home) -> tuple[list[Any], list[Any]]:
    """Logits and answers of this project to the test rows."""
    encoder = artifacts.encoder(home.tokenize, home.task)
    model = TorchModel(home.finetune / "model", home.task)
    answering = Answering(
        home.task,
        encoder,
        model,
        Validation.read(home.validate / "validation.json").labels,
        Fit.read(home.finetune / "fit.json").decision,
    )
    assert asked(home)
    return model.logits(encoder.pieces(asked(home))), answering(asked(home))


def inputs(home: Home, tokenizer: Any) -> Any:
    firsts, seconds = (list(each) for each in zip(*asked(home), strict=True))
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
        for text, second in asked(home)
    ]
    told = classify(texts, truncation=True, top_k=None)
    for each, answer in zip(told, answers, strict=True):
        scores = {one["label"]: one["score"] for one in each}
        if answer.scores:
            assert scores == pytest.approx(dict(answer.scores), abs=1e-5)
        else:
            assert scores["score"] == pytest.approx(float(answer.label), rel=1e-3, abs=1e-4)


CLASSES = {
    "classification": transformers.AutoModelForSequenceClassification,
    "ner": transformers.AutoModelForTokenClassification,
    "question_answering": transformers.AutoModelForQuestionAnswering,
}


@pytest.mark.parametrize(
    ("task", "pooling"),
    [
        ("classification", "cls"),
        ("classification", "mean"),
        ("ner", ""),
        ("question_answering", ""),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_in_transformers(
    family: str, task: str, pooling: str, tmp_path: Path, code: None
) -> None:
    kind, head = read_task(task, "task"), head_of(read_task(task, "task"))
    if not head.supports(FAMILIES[family]):
        pytest.skip(f"{family} has no class for {task}")
    base = saved(tmp_path / "base", family, pooling)
    outputs = ["start", "end"] if task == "question_answering" else ["a", "b", "c"]
    head.build(Start(base, "base", outputs, {}, base)).save_pretrained(tmp_path / "model")
    ours = TorchModel(tmp_path / "model", kind).model
    plain = CLASSES[task].from_pretrained(tmp_path / "model", trust_remote_code=pooling == "mean")
    ids = torch.tensor([[2, 7, 9, 30, 3], [2, 8, 3, 0, 0]])
    inputs = {"input_ids": ids, "attention_mask": (ids > 0).long()}
    with torch.inference_mode():
        expected, found = ours(**inputs).logits, plain.eval()(**inputs)
    logits = found.logits if "logits" in found else torch.stack([*found.values()], -1)
    real = inputs["attention_mask"].bool() if logits.ndim == 3 else slice(None)
    assert torch.allclose(logits[real], expected[real], atol=1e-5)


def test_words_have_the_same_tags_in_transformers(tiny_base: Path, tmp_path: Path) -> None:
    home = trained("ner", tiny_base, tmp_path / "home", epochs=8)
    logits, answers = own(home)
    folder = home.finetune / "model"
    model = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        found = model(**inputs(home, tokenizer)).logits.numpy()
    for each, mine in zip(found, logits, strict=True):
        assert each[: len(mine)] == pytest.approx(mine, abs=1e-4)
    tag = transformers.pipeline("ner", str(folder), aggregation_strategy="first")
    named = [
        [[each["start"], each["end"], each["entity_group"]] for each in told]
        for told in tag([text for text, _ in asked(home)])
    ]
    same = [json.loads(answer.label) == spans for answer, spans in zip(answers, named, strict=True)]
    assert any(json.loads(answer.label) for answer in answers)
    assert np.mean(same) > 0.9  # this project never lets an I- follow another type


def test_answers_are_the_same_spans_in_transformers(tiny_base: Path, tmp_path: Path) -> None:
    home = trained("question_answering", tiny_base, tmp_path / "home")
    logits, _ = own(home)
    folder = home.finetune / "model"
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        found = model(**inputs(home, tokenizer))
    for start, end, mine in zip(found.start_logits, found.end_logits, logits, strict=True):
        both = torch.stack([start, end], -1)[: len(mine)].numpy()
        assert both == pytest.approx(mine, abs=1e-4)


def test_translations_are_the_same_in_transformers(
    tiny_base: Path, tmp_path: Path, code: None
) -> None:
    home = trained("translation", tiny_base, tmp_path / "home", epochs=20, learning_rate=3e-3)
    folder = home.finetune / "model"
    with pytest.raises(ValueError, match="trust_remote_code"):
        transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    written = model.generate(**inputs(home, tokenizer))
    found = tokenizer.batch_decode(written, skip_special_tokens=True)
    encoder = artifacts.encoder(home.tokenize, home.task)
    decision = Fit.read(home.finetune / "fit.json").decision
    own = TorchModel(folder, home.task)
    answers = Answering(home.task, encoder, own, [], decision)(asked(home))
    same = [mine.label == other for mine, other in zip(answers, found, strict=True)]
    assert len(set(found)) > 1
    assert np.mean(same) > 0.9  # beams differ in ties


@pytest.mark.parametrize("task", ["masked_lm", "pretraining"])
def test_masked_words_are_filled_in_by_transformers(
    task: str, tiny_base: Path, tmp_path: Path
) -> None:
    home = trained(task, tiny_base, tmp_path / "home")
    folder = home.finetune / "model"
    filled = transformers.pipeline("fill-mask", str(folder))("the match [MASK]")
    model = head_of(home.task).load(folder, "model").eval()
    ids = filled and transformers.AutoTokenizer.from_pretrained(folder)("the match [MASK]")
    place = ids["input_ids"].index(4)
    given = {name: torch.tensor([ids[name]]) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        states = model.bert(**given).last_hidden_state[:, place]
        expected = model.cls.predictions(states).softmax(-1)[0]
    assert filled[0]["score"] == pytest.approx(float(expected.max()), abs=1e-5)
    assert filled[0]["token"] == int(expected.argmax())


def test_embeddings_are_the_same_in_sentence_transformers(by_mean: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    home = trained("retrieval", by_mean, tmp_path / "home")
    logits, _ = own(home)
    found = SentenceTransformer(str(home.finetune / "model"), device="cpu").encode(
        [text for text, _ in asked(home)]
    )
    assert found == pytest.approx(np.stack(logits), abs=1e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_the_adapter_of_a_training_with_lora_is_loaded_by_peft(
    pooling: str, tiny_base: Path, by_mean: Path, tmp_path: Path, code: None
) -> None:
    from peft import PeftModel

    base = by_mean if pooling == "mean" else tiny_base
    lora = Lora(rank=2, alpha=4.0, dropout=0.0)
    home = trained("regression", base, tmp_path / "home", lora=lora)
    logits, _ = own(home)
    folder = home.finetune / "model"
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    if pooling == "mean":
        with pytest.raises(ValueError, match="No modules were targeted"):
            PeftModel.from_pretrained(plain, folder / "adapter")
        merged = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, trust_remote_code=True
        )
        encoder = transformers.AutoModel.from_pretrained(base)
        plain = type(merged)(merged.config, encoder)
    model = PeftModel.from_pretrained(plain, folder / "adapter").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        found = model(**inputs(home, tokenizer)).logits.numpy()
    assert found == pytest.approx(np.stack(logits), abs=1e-3)


@pytest.mark.parametrize("task", ["classification", "ner", "retrieval", "masked_lm"])
def test_a_trained_folder_is_a_base(task: str, by_mean: Path, tmp_path: Path) -> None:
    """The encoder of a classifier by the mean begins another training."""
    first = trained("classification", by_mean, tmp_path / "first").finetune / "model"
    start = Start(first, "base", ["a", "b"], {}, first)
    model = head_of(read_task(task, "task")).build(start)
    weights = load_file(first / "model.safetensors")
    built = model.base_model.state_dict()
    names = {name for name in built if not name.startswith("pooler.")}
    assert {f"encoder.{name}" for name in names} == {n for n in weights if "classifier" not in n}
    assert all(torch.equal(built[name], weights[f"encoder.{name}"]) for name in names)
