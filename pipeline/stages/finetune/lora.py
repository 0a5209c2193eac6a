"""peft: low-rank changes to an encoder's weights (LoRA, Hu et al. 2022).

Import it inside a function: it loads PyTorch.
"""

import warnings
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

POOLER = "pooler"  # stands in the encoder of some families, and is part of the head


def attach(model: Any, rank: int, alpha: float, dropout: float) -> Any:
    """Freeze a model but for its head, and put a change of that rank, scaled by alpha / rank, on
    every linear layer of its encoder, as Dettmers et al. (2023) found best.

    What stands between the encoder's layers and the logits is trained in full, the pooler included.
    The model itself is changed; the `PeftModel` around it saves no more than what is trained.
    """
    encoder = model.base_model
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
        and name.startswith(f"{model.base_model_prefix}.")
        and POOLER not in name.split(".")
    ]
    head = [
        name
        for name, module in model.named_children()
        if module is not encoder and any(True for _ in module.parameters())
    ]
    if getattr(encoder, POOLER, None) is not None:
        head.append(POOLER)
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=linear, modules_to_save=head
    )
    with warnings.catch_warnings():
        # it asks transformers for what that has renamed
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, config)


def merged(model: Any) -> Any:
    """The plain model whose weights hold the changes: it computes the same, and faster."""
    return model.merge_and_unload()
