"""A head for whole texts reads the mean of real tokens, or the first token only."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pipeline.models import families
from pipeline.models.encoders import pooling
from pipeline.models.heads import sequence, token
from pipeline.models.heads.base import Start
from pipeline.models.pooling import first_token_only
from tests.conftest import tiny_config

FAMILIES = sorted(families.FAMILIES)
IDS = torch.tensor([[7, 8, 9, 10, 11], [12, 13, 14, 1, 1]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_for_one_token_changes_neither_logits_nor_gradients(family: str) -> None:
    config = tiny_config(family)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    out: list[tuple[int, ...]] = []
    encoder = model.base_model
    encoder.register_forward_hook(lambda *given: out.append(given[2].last_hidden_state.shape))

    def asked() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        model.zero_grad()
        logits = model(input_ids=IDS, attention_mask=MASK).logits
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 2])).backward()
        learned = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return logits.detach(), {name: grad.clone() for name, grad in learned.items()}

    before, slopes = asked()
    first_token_only(model)
    after, same = asked()
    cut = families.FAMILIES[family].behind_attention is not None
    assert out == [(2, 5, 32), (2, 1 if cut else 5, 32)]
    assert torch.allclose(before, after, atol=1e-6)
    assert slopes.keys() == same.keys()
    for name, slope in slopes.items():
        assert torch.allclose(slope, same[name], atol=1e-6), name


def save_base(folder: Path, family: str, told: Any) -> Any:
    """Save an encoder as sentence-transformers does, and return it."""
    base = transformers.AutoModel.from_config(tiny_config(family)).eval()
    base.save_pretrained(folder)
    if told is not None:
        modules = [
            {"name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(told))
    return base


def start(base: Path, outputs: list[str]) -> Start:
    return Start(base, "base", outputs, {}, base)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_that_stands_for_a_text_by_its_mean_goes_on_so(family: str, tmp_path: Path) -> None:
    base = save_base(tmp_path / "base", family, {"pooling_mode_mean_tokens": True})
    model = sequence.HEAD.build(start(tmp_path / "base", ["a", "b", "c"])).eval()
    given: list[torch.Tensor] = []
    head = getattr(model, "pre_classifier", model.classifier)
    head.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    with torch.inference_mode():
        logits = model(input_ids=IDS, attention_mask=MASK).logits
        states = base(input_ids=IDS, attention_mask=MASK).last_hidden_state
    expected = torch.stack([states[0].mean(0), states[1, :3].mean(0)])
    assert torch.allclose(given[0].reshape(2, 32), expected, atol=1e-6)
    assert not any("pooler" in name for name, _ in model.named_parameters())

    model.save_pretrained(tmp_path / "model")
    again = sequence.HEAD.load(tmp_path / "model", "model").eval()
    assert pooling(again) == "mean"
    with torch.inference_mode():
        assert torch.equal(again(input_ids=IDS, attention_mask=MASK).logits, logits)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (None, "cls"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        (["mean"], "cls"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
    ],
)
def test_what_a_base_says_of_its_pooling_is_taken(told: Any, expected: str, tmp_path: Path) -> None:
    save_base(tmp_path / "base", "bert", told)
    model = sequence.HEAD.build(start(tmp_path / "base", ["a", "b"]))
    assert pooling(model) == expected
    assert (model.base_model.pooler is None) == (expected == "mean")
    tokens = token.HEAD.build(start(tmp_path / "base", ["O"]))
    assert tokens.base_model.encoder  # a head for tokens reads each of them
    assert tokens(input_ids=IDS, attention_mask=MASK).logits.shape == (2, 5, 1)
