"""Low-rank updates: trained and saved weights, and merging, which changes no output."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from pipeline.models.families import FAMILIES
from pipeline.stages.finetune import lora

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
    "num_labels": 3,
}
DISTILBERT = {"vocab_size": 50, "dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2}
HEADS = {
    "sequence": transformers.AutoModelForSequenceClassification,
    "token": transformers.AutoModelForTokenClassification,
}
TOKENS = torch.tensor([[2, 7, 8, 9, 3], [2, 11, 12, 13, 3]])


def plain(family: str = "bert", head: str = "sequence") -> Any:
    torch.manual_seed(0)
    sizes = DISTILBERT | {"num_labels": 3} if family == "distilbert" else dict(SIZES)
    if family in ("eurobert", "modernbert"):  # their own lies beyond the 50 words
        sizes["pad_token_id"] = 0
    return HEADS[head].from_config(transformers.AutoConfig.for_model(family, **sizes)).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.as_tensor(model.eval()(input_ids=TOKENS).logits)


def learn(model: Any, steps: int = 2) -> None:
    """The first step changes only one of an update's two factors, since the other is 0."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model.train()(input_ids=TOKENS).logits.square().sum().backward()
        optimizer.step()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_merging_changes_no_logit(family: str, head: str) -> None:
    model = plain(family, head)
    names, kind, first = set(model.state_dict()), type(model), logits(model)
    adapted = lora.attach(model, rank=2, alpha=4.0, dropout=0.0)
    assert torch.equal(logits(adapted), first)
    learn(adapted)
    learned = logits(adapted)
    assert not torch.allclose(learned, first, atol=1e-3)
    merged = lora.merged(adapted)
    assert torch.allclose(logits(merged), learned, atol=1e-5)
    assert type(merged) is kind
    assert set(merged.state_dict()) == names


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_moves_is_every_linear_layer_and_the_whole_head(family: str, head: str) -> None:
    model = plain(family, head)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapted = lora.attach(model, rank=2, alpha=4.0, dropout=0.0)
    learn(adapted)
    after = lora.merged(adapted).state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    encoder = f"{model.base_model_prefix}."
    linear = {
        f"{name}.weight"
        for name, module in plain(family, head).named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith(encoder)
    }
    of_head = {name for name in before if not name.startswith(encoder) or "pooler" in name}
    assert moved == linear | of_head


def test_a_fraction_is_trained() -> None:
    def trained(model: Any) -> int:
        return sum(p.numel() for p in model.parameters() if p.requires_grad)

    model = plain()
    whole = trained(model)
    head = 16 * 16 + 16 + 16 * 3 + 3
    # each update has (rank x inputs) + (outputs x rank) numbers
    changes = 2 * 2 * (4 * (16 + 16) + (16 + 32) + (32 + 16))
    adapted = lora.attach(model, rank=2, alpha=4.0, dropout=0.0)
    assert trained(adapted) == head + changes < whole / 2


def test_a_change_is_scaled_by_alpha_over_rank() -> None:
    """The same factors at twice the alpha make an update twice as large."""
    changes = []
    for alpha in (4.0, 8.0):
        model = plain()
        query = model.bert.encoder.layer[0].attention.self.query
        before = query.weight.detach().clone()
        adapted = lora.attach(model, rank=2, alpha=alpha, dropout=0.0)
        torch.manual_seed(1)
        with torch.no_grad():
            for name, value in adapted.named_parameters():
                if "lora_" in name:
                    value.copy_(torch.randn(value.shape))
        merged = lora.merged(adapted)
        changes.append(merged.bert.encoder.layer[0].attention.self.query.weight - before)
    assert torch.allclose(changes[1], 2 * changes[0], atol=1e-5)


def test_what_the_changes_read_is_dropped_out() -> None:
    adapted = lora.attach(plain(), rank=2, alpha=4.0, dropout=0.25)
    rates = {
        module.p
        for name, module in adapted.named_modules()
        if "lora_dropout" in name and isinstance(module, torch.nn.Dropout)
    }
    assert rates == {0.25}


def test_a_checkpoint_holds_no_more_than_what_is_trained(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    adapted = lora.attach(plain(), rank=2, alpha=4.0, dropout=0.0)
    learn(adapted)
    adapted.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert sum(v.numel() for v in saved.values()) == sum(p.numel() for p in trained)
    again = lora.attach(plain(), rank=2, alpha=4.0, dropout=0.0)
    again.load_adapter(tmp_path, "default", is_trainable=True)
    assert torch.equal(logits(again), logits(adapted))
