"""Every family of encoders is trained, saved, loaded and exported, with each head that it takes."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from pipeline import tasks
from pipeline.core.errors import UserError
from pipeline.core.records import Export
from pipeline.models import encoders
from pipeline.models.families import FAMILIES
from pipeline.models.heads import head_of
from pipeline.models.heads.base import Start
from pipeline.models.pooling import first_token_only
from pipeline.runtimes.onnx_runtime import OnnxModel
from pipeline.runtimes.pytorch import TorchModel
from pipeline.stages.export.onnx import export_fused
from pipeline.stages.export.quantize import quantize
from pipeline.stages.export.stage import export
from pipeline.stages.finetune.fast_attention import NAME, fast_attention
from pipeline.stages.finetune.fast_dropout import fast_dropout
from pipeline.stages.finetune.params import Lora
from pipeline.stages.finetune.stage import finetune
from tests.conftest import tiny_config
from tests.pipeline.conftest import up_to_tokens
from tests.pipeline.tasks.test_contract import make
from tests.pipeline.tasks.toys import TOYS

OUTPUTS = {
    "classification": ["a", "b", "c"],
    "ner": ["O", "B-x", "I-x"],
    "pair": ["other", "same"],
    "question_answering": ["start", "end"],
    "retrieval": ["a", "b", "c"],
}
TYPED = ("albert", "bert", "electra", "nomic_bert", "roberta")
BEHIND_PADDING = ("camembert", "mpnet", "roberta", "xlm-roberta")
TWINS = ("camembert", "deberta", "xlm-roberta")  # of the code of another family
HEADS = [
    ("classification", "cls"),
    ("classification", "mean"),
    ("ner", None),
    ("pair", "cls"),
    ("question_answering", None),
    ("retrieval", "mean"),
]
EACH = [
    (family, name, pooling)
    for family in FAMILIES
    for name, pooling in HEADS
    if (family not in TWINS or (name, pooling) == HEADS[0]) and (name != "pair" or family in TYPED)
]


def saved(folder: Path, family: str, pooling: str | None = None) -> Path:
    """A random encoder of 100 words."""
    transformers.AutoModel.from_config(tiny_config(family)).save_pretrained(folder)
    if pooling:
        path = folder / "config.json"
        config = json.loads(path.read_text()) | {"classifier_pooling": pooling}
        path.write_text(json.dumps(config))
    return folder


def toy_base(folder: Path, family: str, words: Path) -> Path:
    """A random encoder for the words of the toy rows."""
    config = tiny_config(family)
    config.vocab_size = json.loads((words / "config.json").read_text())["vocab_size"]
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(words / name, folder / name)
    return folder


@dataclass(frozen=True)
class Text:
    """Token ids of a text, or of two, as the runtimes take them."""

    ids: list[int]
    types: list[int]
    targets: Sequence[int] = ()

    def __len__(self) -> int:
        return len(self.ids)


def texts(*lengths: int) -> list[Text]:
    draw = np.random.default_rng(3)
    return [
        Text(
            [2, *draw.integers(7, 99, length - 2).tolist(), 3],
            [int(place > length // 2) for place in range(length)],
        )
        for length in lengths
    ]


def learn(model: Any, typed: bool) -> None:
    """Take three steps, which change every layer."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for each in texts(12, 20, 7):
        inputs = {"input_ids": torch.tensor([each.ids])}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if typed:
            inputs["token_type_ids"] = torch.tensor([each.types])
        optimizer.zero_grad()
        logits = model.train()(**inputs).logits
        (logits - torch.linspace(-1, 1, logits.numel()).view_as(logits)).square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize(("family", "name", "pooling"), EACH)
def test_every_head_is_trained_saved_loaded_and_exported(
    family: str, name: str, pooling: str | None, tmp_path: Path
) -> None:
    task, folder = tasks.get(name), saved(tmp_path / "base", family, pooling)
    head = head_of(task)
    if not head.supports(FAMILIES[family]):
        with pytest.raises(UserError, match=rf"base: is a {family}, and {name} needs albert or"):
            head.check_base(folder, "base", task)
        return
    head.check_base(folder, "base", task)
    dropouts = FAMILIES[family].dropouts(0.1, 0.1)
    model = head.build(Start(folder, "base", OUTPUTS[name], dropouts, folder, 0.1))
    typed = head.typed(encoders.encoder_config(model), task)
    assert typed == (name in ("pair", "question_answering") and family in TYPED)
    if head.pooled and encoders.pooling(model) == "cls":
        first_token_only(model)
    fast_dropout(model)
    learn(model, typed)
    model.eval().save_pretrained(tmp_path / "model")

    rows = texts(5, 90, 31, 8)
    plain = TorchModel(tmp_path / "model", task)
    expected = plain.logits(rows, 3)
    with torch.inference_mode():
        inputs = {"input_ids": torch.tensor([rows[1].ids])}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        types = {"token_type_ids": torch.tensor([rows[1].types])} if typed else {}
        kept = model(**inputs, **types).logits[0].numpy()
    assert expected[1] == pytest.approx(kept, abs=1e-4)

    eager = TorchModel(tmp_path / "model", task, attention="eager")
    export_fused(eager, tmp_path / "fp32.onnx")
    quantize(tmp_path / "fp32.onnx", tmp_path / "int8.onnx", per_channel=True, reduce_range=True)
    for file, within in (("fp32.onnx", 1e-4), ("int8.onnx", 0.5)):
        found = OnnxModel(tmp_path / file, eager.padding).logits(rows, 3)
        for want, got in zip(expected, found, strict=True):
            assert got.shape == want.shape
            assert np.abs(got - want).max() < within, file


@pytest.mark.parametrize(
    ("family", "name", "lora"),
    [
        ("albert", "classification", True),
        ("deberta-v2", "ner", False),
        ("distilbert", "translation", False),
        ("eurobert", "classification", True),
        ("modernbert", "translation", False),
        ("mpnet", "regression", False),
        ("nomic_bert", "retrieval", False),
    ],
)
def test_a_recipe_goes_from_rows_to_files_that_answer_alike(
    family: str, name: str, lora: bool, tiny_base: Path, tmp_path: Path
) -> None:
    folder = toy_base(tmp_path / "base", family, tiny_base)
    home = make(name, TOYS[name](120, Random(3)), tmp_path / "home", folder)
    r = home.recipe
    r.finetune.__dict__.update(max_steps=6)
    if lora:
        r.finetune.__dict__.update(lora=Lora(rank=2, alpha=4.0, dropout=0.0))
    up_to_tokens(home)
    state = tmp_path / "state"
    finetune(r.finetune, home.task, r.base, home.validate, home.tokenize, home.finetune, state)
    export(r.export, home.task, home.validate, home.tokenize, home.finetune, home.export)
    fp32, int8 = Export.read(home.export / "parity.json").parities
    assert fp32.max_difference < 1e-3
    assert fp32.flips == 0
    assert int8.bytes < fp32.bytes


@pytest.mark.parametrize("family", FAMILIES)
def test_each_module_has_the_dropout_of_the_recipe(family: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, family, "cls")
    dropouts = FAMILIES[family].dropouts(0.3, 0.2)
    head = head_of(tasks.get("classification"))
    model = head.build(Start(folder, "base", ["a", "b"], dropouts, folder))
    found = {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)}
    assert found <= {0.0, 0.2, 0.3}  # 0 is the pooler's in DeBERTa, which drops out behind it too
    functional = getattr(model.config, FAMILIES[family].attention_dropout)
    assert functional == 0.2
    assert 0.3 in found or not FAMILIES[family].hidden_dropout


@pytest.mark.parametrize("family", FAMILIES)
def test_the_longest_input_is_known(family: str, tmp_path: Path) -> None:
    config = tiny_config(family)
    config.max_position_embeddings = 34
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    most = encoders.most_tokens(tmp_path, 8, "base")
    assert most == 34 - (config.pad_token_id + 1 if family in BEHIND_PADDING else 0)
    with pytest.raises(UserError, match=f"base: takes at most {most} tokens: set tokenize.max_l"):
        encoders.most_tokens(tmp_path, most + 1, "base")
    model = encoders.load(transformers.AutoModel, tmp_path, "base").eval()
    model(torch.full((1, most), 7))
    if not FAMILIES[family].last_norm and family != "nomic_bert":  # those turn with the position
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, most + 1), 7))


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in TWINS])
def test_attention_in_bf16_gives_the_same_states(family: str, tmp_path: Path) -> None:
    folder, head = saved(tmp_path, family, "mean"), head_of(tasks.get("classification"))
    model = head.build(Start(folder, "base", ["a", "b"], {}, folder)).eval()
    encoder = model.encoder
    ids = torch.tensor([[2, *range(7, 27), 3], [2, *range(30, 40), 3] + [0] * 10])
    mask = torch.tensor([[1] * 22, [1] * 12 + [0] * 10])

    def states() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            return torch.as_tensor(encoder(ids, attention_mask=mask)[0]) * mask[:, :, None]

    before = states()
    fast_attention(model)
    assert torch.allclose(states(), before, atol=0.1)
    # with the mask of another implementation, padding would count a little
    assert encoder.config._attn_implementation == (NAME if FAMILIES[family].sdpa else "eager")


def test_key_heads_that_several_share_are_attended_to(tmp_path: Path) -> None:
    config = tiny_config("eurobert")
    config.num_key_value_heads = 1
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    model = encoders.load(transformers.AutoModel, tmp_path, "base").eval()
    ids = torch.tensor([[2, *range(7, 27), 3]])
    with torch.inference_mode():
        before = model(ids)[0]
        fast_attention(model)
        with torch.autocast("cpu", torch.bfloat16):
            after = model(ids)[0]
    assert torch.allclose(before, after.float(), atol=0.1)
