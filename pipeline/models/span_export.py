"""Export form of a model that answers with spans.

Import it inside a function: it loads PyTorch.
"""

from collections.abc import Sequence
from typing import Any

import torch


class SpanExport(torch.nn.Module):
    """Model with transformers' own outputs: logits of starts and of ends, (batch, tokens) each."""

    def __init__(self, model: Any, inputs: Sequence[str]) -> None:
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # without the hook that stacks both
        found = self.model.forward(**dict(zip(self.inputs, tensors, strict=True)))
        return found.start_logits, found.end_logits
