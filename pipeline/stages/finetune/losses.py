"""A task's loss as training takes it, with its weights and smoothing.

Import it inside a function: it loads PyTorch.
"""

import numpy as np
import torch

from pipeline.stages.finetune.params import FinetuneParams
from pipeline.tasks.base import Decision, LossOptions, Task


class Loss:
    """A task's loss, summed over targets; in validation, where there are no gradients, without
    weights and smoothing."""

    def __init__(
        self,
        task: Task,
        params: FinetuneParams,
        prepared: Decision,
        rows: "np.typing.NDArray[np.int64] | None" = None,
    ) -> None:
        """`rows` of each class, where the task has one class a row."""
        self.task, self.prepared, self.smoothing = task, prepared, params.label_smoothing
        self.weights = None
        if params.class_weights == "balanced" and rows is not None:
            rows = np.maximum(rows, 1)  # a class of the recipe that no row has
            self.weights = torch.from_numpy(rows.sum() / (len(rows) * rows)).float()
        if params.next_sentence_weight != 1:
            self.weights = torch.tensor(params.next_sentence_weight)

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """`logits` (pieces, outputs) or (pieces, tokens, outputs); `mask` of real tokens, (pieces,
        tokens)."""
        targets = self.task.scaled(targets, self.prepared)
        if not logits.requires_grad:
            return self.task.loss(logits, targets, LossOptions(mask))
        weights = None if self.weights is None else self.weights.to(logits.device)
        return self.task.loss(logits, targets, LossOptions(mask, weights, self.smoothing))
