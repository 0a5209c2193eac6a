"""Fast attention in bf16 on CPUs: plain matrix products, a few texts at a time.

Import it inside a function: it loads PyTorch.
"""

from typing import Any

import torch
from torch.amp import custom_bwd, custom_fwd
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from pipeline.models.families import FAMILIES

NAME = "products"  # among transformers' implementations of attention
LONGEST = 512  # tokens; the weights of longer texts take too much memory
CACHED = 2**20  # bytes of weights that a core computes at once, so that they stay in its cache


class Products(torch.autograd.Function):
    """Attention, softmax(query · key + bias) · value, (batch, heads, tokens, width of a head).

    PyTorch's fused attention recomputes the weights for the gradient in tiles, on a CPU in bf16 at
    a tenth of the speed of matrix products. Here weights are stored, (batch, heads, tokens, tokens)
    in bf16, and computed in parts that fit into the cache.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor | None,
        scale: float,
    ) -> torch.Tensor:
        query = query * scale
        output, kept = torch.empty_like(query), []
        for part in _parts(query, key):
            weights = query[part] @ key[part].transpose(-1, -2)
            if bias is not None:
                weights += bias[part]
            weights = weights.softmax(-1)
            output[part] = weights @ value[part]
            kept.append(weights)
        ctx.scale = scale
        ctx.save_for_backward(query, key, value, *kept)
        return output

    @staticmethod
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        of_query, of_key, of_value = map(torch.empty_like, (query, key, value))
        for part, weights in zip(_parts(query, key), kept, strict=True):
            of_value[part] = weights.transpose(-1, -2) @ gradient[part]
            of_weights = gradient[part] @ value[part].transpose(-1, -2)
            of_scores = torch.ops.aten._softmax_backward_data(
                of_weights, weights, -1, weights.dtype
            )
            of_query[part] = of_scores @ key[part] * ctx.scale
            of_key[part] = of_scores.transpose(-1, -2) @ query[part]
        return of_query, of_key, of_value, None, None


def _parts(query: torch.Tensor, key: torch.Tensor) -> list[slice]:
    """Return slices of texts that are computed at once."""
    texts, heads, tokens, _ = query.shape
    bytes_per_text = heads * tokens * key.shape[2] * query.element_size()
    size = max(1, CACHED * torch.get_num_threads() // bytes_per_text)
    return [slice(start, start + size) for start in range(0, texts, size)]


def attended(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention through transformers' interface
    (https://huggingface.co/docs/transformers/attention_interface). PyTorch's own is used in fp32,
    where it is fast, with dropout, for long texts, and for heads that share keys. `more` may hold
    `is_causal`."""
    grouped = key.shape[1] != query.shape[1]
    if query.dtype != torch.bfloat16 or dropout or grouped or key.shape[2] > LONGEST:
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **more
        )
        return output
    allowed = attention_mask
    causal = more.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", False)
    if allowed is None and causal and query.shape[2] > 1:
        allowed = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
        allowed = allowed.expand(len(query), 1, -1, -1)
    bias = None
    if allowed is not None:  # (batch, 1, tokens, tokens)
        bias = torch.zeros(allowed.shape, dtype=query.dtype)
        bias.masked_fill_(~allowed, torch.finfo(query.dtype).min)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attended = Products.apply(query, key, value, bias, scale)
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attended)
AttentionMaskInterface.register(NAME, sdpa_mask)


def fast_attention(model: Any) -> None:
    """Make a model use this attention, but for encoders of families that have only their own.

    The configuration of a composite model would set it for all parts.
    """
    for module in model.modules():
        config = getattr(module, "config", None)
        family = FAMILIES.get(getattr(config, "model_type", ""))
        if config is not None and family is not None and family.sdpa:
            config._attn_implementation = NAME
