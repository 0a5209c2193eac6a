"""Fast attention has the values and gradients of attention, and leaves other cases to PyTorch."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import BertConfig, BertLMHeadModel, BertModel

from pipeline.stages.finetune import fast_attention as module
from pipeline.stages.finetune.fast_attention import attended, fast_attention

TENSORS = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def tensors(texts: int, asking: int, asked: int, kind: torch.dtype = torch.bfloat16) -> TENSORS:
    """Queries, keys and values of four heads, as BERT lays them out."""
    torch.manual_seed(7)

    def drawn(tokens: int) -> torch.Tensor:
        return torch.randn(texts, tokens, 4, 16, dtype=kind).transpose(1, 2).requires_grad_()

    return drawn(asking), drawn(asked), drawn(asked)


def padded(texts: int, asking: int, asked: int) -> torch.Tensor:
    """Each text one token shorter than the one before it."""
    real = torch.arange(asked) < asked - torch.arange(texts)[:, None]
    return real[:, None, None].expand(texts, 1, asking, asked)


def both(given: TENSORS, mask: torch.Tensor | None, causal: bool = False) -> list[list[Any]]:
    """Output and gradients of ours, and of PyTorch's own in fp32."""
    found = []
    weights = torch.randn(given[0].shape)
    for exact in (False, True):
        copies = [each.detach().to(torch.float32 if exact else each.dtype) for each in given]
        for each in copies:
            each.requires_grad_()
        if exact:
            output = scaled_dot_product_attention(*copies, attn_mask=mask, is_causal=causal)
        else:
            module = SimpleNamespace(is_causal=causal)
            output = attended(module, *copies, mask)[0].transpose(1, 2)  # type: ignore[arg-type]
        (output.float() * weights).sum().backward()
        found.append(
            [output.float(), *(each.grad.float() for each in copies if each.grad is not None)]
        )
    return found


def near(one: torch.Tensor, other: torch.Tensor) -> bool:
    """True if they differ by no more than eight bits explain."""
    return bool((one - other).detach().norm() < 0.02 * other.detach().norm())


@pytest.mark.parametrize("cached", [1, 10**9])
@pytest.mark.parametrize(("asking", "asked"), [(40, 40), (1, 40), (12, 40)])
@pytest.mark.parametrize("masked", [False, True])
def test_values_and_gradients_are_those_of_attention(
    asking: int, asked: int, masked: bool, cached: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CACHED", cached)
    ours, exact = both(tensors(5, asking, asked), padded(5, asking, asked) if masked else None)
    assert len(ours) == 4
    for own, other in zip(ours, exact, strict=True):
        assert near(own, other)


def test_what_is_behind_a_token_is_not_seen_where_a_decoder_is_given_no_mask() -> None:
    ours, exact = both(tensors(3, 20, 20), None, causal=True)
    for own, other in zip(ours, exact, strict=True):
        assert near(own, other)


def test_padding_has_no_weight_and_no_gradient() -> None:
    query, key, value = tensors(2, 8, 8)
    output, _ = attended(SimpleNamespace(), query, key, value, padded(2, 8, 8))  # type: ignore[arg-type]
    output.sum().backward()  # type: ignore[no-untyped-call]
    for each in (key, value):
        assert each.grad is not None
        assert not each.grad[1, :, 7].any()
        assert each.grad[1, :, 6].any()


@pytest.mark.parametrize(
    "given",
    [
        {"kind": torch.float32},
        {"dropout": 0.1},
        {"tokens": module.LONGEST + 1},
    ],
)
def test_fp32_dropout_and_long_texts_are_pytorchs_matter(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.Products, "apply", None)
    tokens = given.pop("tokens", 8)
    made = tensors(1, 4, tokens, given.pop("kind", torch.bfloat16))
    output, _ = attended(SimpleNamespace(is_causal=False), *made, None, **given)  # type: ignore[arg-type]
    assert output.shape == (1, 4, 4, 16)


@pytest.mark.parametrize("decodes", [False, True])
def test_a_model_computes_the_same_and_is_saved_as_it_was(decodes: bool, tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=90,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        is_decoder=decodes,
    )
    torch.manual_seed(3)
    model = (BertLMHeadModel if decodes else BertModel)(config).eval()
    ids = torch.randint(5, 90, (3, 12))
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    model.save_pretrained(tmp_path / "before")
    with torch.autocast("cpu", torch.bfloat16):
        before = model(ids, attention_mask=mask)[0]
        fast_attention(model)
        seen = []
        apply = module.Products.apply
        module.Products.apply = lambda *all: seen.append(1) or apply(*all)  # type: ignore
        try:
            after = model(ids, attention_mask=mask)[0]
        finally:
            module.Products.apply = apply  # type: ignore[method-assign]
    assert len(seen) == 2
    torch.testing.assert_close(after[mask > 0], before[mask > 0], atol=0.05, rtol=0.05)
    model.save_pretrained(tmp_path / "after")
    written = [(tmp_path / name / "config.json").read_text() for name in ("before", "after")]
    assert written[0] == written[1]
