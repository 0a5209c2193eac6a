"""Pooling for heads on whole texts: the state of the first token, or the mean over all tokens.

Import it inside a function: it loads PyTorch.
"""

from typing import Any

import torch


def by_mean(model: Any) -> None:
    """Replace the encoder's output by the mean over real tokens, (batch, 1, width), which the head
    then reads as its first token.

    Most bases of sentence-transformers were trained with this pooling (Reimers and Gurevych 2019,
    https://sbert.net/docs/package_reference/sentence_transformer/models.html#pooling); their first
    token was not trained and takes epochs to catch up. A pooler, which reads it, is removed.
    """
    encoder = model.base_model
    pooled = getattr(encoder, "pooler", None) is not None
    if pooled:
        encoder.pooler = None

    def mean(_: Any, __: Any, inputs: dict[str, Any], output: Any) -> Any:
        states = output.last_hidden_state
        real = inputs["attention_mask"][:, :, None].to(states.dtype)
        state = (states * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
        output.last_hidden_state = state
        if pooled:
            output["pooler_output"] = state[:, 0]
        return output

    encoder.register_forward_hook(mean, with_kwargs=True)


def first_token_only(model: Any) -> None:
    """Compute an encoder's last layer for the first token only, (batch, 1, width): for heads that
    read nothing else.

    Logits and gradients stay the same but for rounding. The last layer then costs almost nothing
    after its attention, which saves an eighth of a step of six layers.
    """
    encoder = model.base_model
    if model.config.model_type == "distilbert":
        behind_attention = encoder.transformer.layer[-1].sa_layer_norm
    else:
        behind_attention = encoder.encoder.layer[-1].attention.output

    def first_tokens(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(states[:, :1] for states in inputs)

    behind_attention.register_forward_pre_hook(first_tokens)
