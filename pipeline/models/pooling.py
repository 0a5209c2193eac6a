"""Shortcut of heads that read the first token only.

Import it inside a function: it loads PyTorch.
"""

from typing import Any

import torch

from pipeline.models.encoders import encoder_config
from pipeline.models.families import family_of


def first_token_only(model: Any) -> None:
    """Compute an encoder's last layer for the first token only, (batch, 1, width): for heads that
    read nothing else.

    Logits and gradients stay the same but for rounding. The last layer then costs almost nothing
    after its attention, which saves an eighth of a step of six layers. A family whose layers cannot
    be cut so is left as it is.
    """
    family = family_of(encoder_config(model))
    if family.layers is None or family.behind_attention is None:
        return
    last = model.base_model.get_submodule(family.layers)[-1]

    def first_tokens(_: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(states[:, :1] for states in inputs)

    last.get_submodule(family.behind_attention).register_forward_pre_hook(first_tokens)
