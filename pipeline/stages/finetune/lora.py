"""Low-rank updates of an encoder's weights with peft (LoRA, Hu et al. 2022).

Import it inside a function: it loads PyTorch.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

POOLER = "pooler"  # is inside the encoder of some families, but counts as part of the head


def attach(model: Any, rank: int, alpha: float, dropout: float) -> Any:
    """Freeze a model except its head, and add an update of that rank, scaled by alpha / rank, to
    every linear layer of its encoder, which Dettmers et al. (2023) found best.

    Layers between the encoder and the logits are trained in full, the pooler included. The model is
    changed in place; the returned `PeftModel` around it saves only trained weights.
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
        # peft uses names that transformers has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        return get_peft_model(model, config)


def save(model: Any, base: str, folder: Path) -> None:
    """Save the trained weights as `PeftModel.from_pretrained` loads them on the base, whose name is
    `base`."""
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # a template


def merged(model: Any) -> Any:
    """Return the plain model with the updates merged into its weights."""
    return model.merge_and_unload()
