"""Training loss of a task, with class weights and label smoothing.

Import it inside a function: it loads PyTorch.
"""

import numpy as np
import torch

from pipeline.stages.finetune.params import FinetuneParams
from pipeline.tasks.base import Decision, LossOptions, Task


class Loss:
    """Loss of a task, summed over targets; without weights and smoothing in validation, where there
    are no gradients."""

    def __init__(
        self,
        task: Task,
        params: FinetuneParams,
        prepared: Decision,
        rows: "np.typing.NDArray[np.int64] | None" = None,
    ) -> None:
        """Compute the weights; `rows` counts the rows of each class, if the task has one a row."""
        self.task, self.prepared, self.smoothing = task, prepared, params.label_smoothing
        self.weights = None
        if params.class_weights == "balanced" and rows is not None:
            rows = np.maximum(rows, 1)  # no row may have a class that the recipe lists
            self.weights = torch.from_numpy(rows.sum() / (len(rows) * rows)).float()
        if params.next_sentence_weight != 1:
            self.weights = torch.tensor(params.next_sentence_weight)

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss of `logits`, (pieces, outputs) or (pieces, tokens, outputs); `mask` marks
        real tokens, (pieces, tokens)."""
        targets = self.task.scaled(targets, self.prepared)
        if not logits.requires_grad:
            return self.task.loss(logits, targets, LossOptions(mask))
        weights = None if self.weights is None else self.weights.to(logits.device)
        return self.task.loss(logits, targets, LossOptions(mask, weights, self.smoothing))
