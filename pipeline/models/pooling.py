"""What a head for whole texts is given: the state of the first token, or the mean of all tokens.

Import it inside a function: it loads PyTorch.
"""

from typing import Any

import torch


def by_mean(model: Any) -> None:
    """Give a model's head the mean over the encoder's real tokens, (batch, 1, width), in the place
    of the first token.

    So most bases of sentence-transformers were trained to stand for a text (Reimers and Gurevych
    2019, https://sbert.net/docs/package_reference/sentence_transformer/models.html#pooling); their
    first token was not, and takes epochs to learn it. A pooler, which reads the first token, goes.
    """
    encoder = model.base_model
    pooled = getattr(encoder, "pooler", None) is not None
    if pooled:
        encoder.pooler = None

    def mean(_: Any, __: Any, given: dict[str, Any], output: Any) -> Any:
        states = output.last_hidden_state
        real = given["attention_mask"][:, :, None].to(states.dtype)
        state = (states * real).sum(1, keepdim=True) / real.sum(1, keepdim=True)
        output.last_hidden_state = state
        if pooled:
            output["pooler_output"] = state[:, 0]
        return output

    encoder.register_forward_hook(mean, with_kwargs=True)


def first_token_only(model: Any) -> None:
    """Let an encoder compute its last layer for the first token alone, (batch, 1, width), where
    that is all that the head reads.

    Logits and gradients are what they were but for rounding. Behind its attention the last layer
    then costs next to nothing: an eighth of a step of six layers.
    """
    encoder = model.base_model
    if model.config.model_type == "distilbert":
        behind_attention = encoder.transformer.layer[-1].sa_layer_norm
    else:
        behind_attention = encoder.encoder.layer[-1].attention.output

    def first_tokens(_: Any, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(states[:, :1] for states in given)

    behind_attention.register_forward_pre_hook(first_tokens)
