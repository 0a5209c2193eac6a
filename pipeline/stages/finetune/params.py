"""Parameters of a training."""

from typing import Literal

from pydantic import Field

from pipeline.core.config import Settings, nearest
from pipeline.models.heads import head_of
from pipeline.models.heads.seq2seq import Decoder
from pipeline.tasks.base import Task


class Lora(Settings):
    """Low-rank adaptation (Hu et al. 2022): the encoder's weights stand still, and each of its
    linear layers learns a change of low rank, which is added to them in the end. The optimizer
    holds a fraction of the numbers; about ten times the learning rate is usual (Biderman et al.
    2024)."""

    rank: int = Field(ge=1)
    """Rank of each update: 8 or 16 do for most tasks."""
    alpha: float = Field(gt=0)
    """The change is scaled by alpha / rank; twice the rank is usual."""
    dropout: float = Field(ge=0, lt=1)
    """Dropout on the input of the updates."""


class FinetuneParams(Settings):
    epochs: int = Field(ge=1)
    max_steps: int | None = Field(ge=1)
    """Most of them, where the epochs would be more: the learning rate has come down by then."""
    batch_size: int = Field(ge=1)
    """Texts a step, of all devices together."""
    gradient_accumulation: int = Field(ge=1)
    """Steps whose gradients are summed before the weights move."""
    learning_rate: float = Field(gt=0, lt=1)
    """Peak, of AdamW; linear warm-up, then linear decay to 0."""
    warmup_ratio: float = Field(ge=0, lt=1)
    """Share of all steps."""
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    """Largest norm of the gradient."""
    dropout: float = Field(ge=0, lt=1)
    """Dropout of hidden states and of the classifier's input."""
    attention_dropout: float = Field(ge=0, lt=1)
    """0 lets PyTorch use its fused attention, and a CPU in bf16 what is faster still
    (fast_attention.py); on a CPU it halves the time of a step."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Share of each target that is spread over all classes (Szegedy et al. 2016)."""
    class_weights: Literal["none", "balanced"]
    """balanced weighs a row by rows / (classes x rows of its class), so that rare classes count
    as much as frequent ones (King and Zeng 2001); where a row is cut into windows, each counts as a
    row. Validation is measured without."""
    next_sentence_weight: float = Field(gt=0)
    """How much the loss of pairs counts in pretraining, beside that of masked tokens; in BERT as
    much, 1. Validation is measured with 1."""
    decoder: Decoder | None
    """Decoder of tasks that write; else null."""
    precision: Literal["auto", "fp32", "bf16"]
    """auto takes bf16 where the processor or GPU computes in it, else fp32."""
    evaluations_per_epoch: int = Field(ge=1)
    """Validation runs and checkpoints."""
    patience: int = Field(ge=1)
    """Evaluations without a better result after which training ends."""
    lora: Lora | None
    """null trains all weights."""
    metric: str
    """What picks the checkpoint, on validation rows: loss, which tells more on few rows, or one of
    the task's metrics."""
    seed: int = Field(ge=0)


def check(params: FinetuneParams, task: Task) -> None:
    """Raises ValueError, beginning with the key, for what the task has no use of."""
    known = ("loss", *task.metrics)
    if params.metric not in known:
        raise ValueError(
            f"metric: {task.name} has no {params.metric!r}{nearest(params.metric, known)}"
        )
    head = head_of(task)
    head.check(params, task)
    for key, plain in (("class_weights", "none"), ("label_smoothing", 0.0)):
        fits = task.exclusive or (head.generates and key == "label_smoothing")
        if getattr(params, key) != plain and not fits:
            raise ValueError(
                f"{key}: is for tasks with one class a row, not for {task.name}: set it to {plain}"
            )
    if params.next_sentence_weight != 1 and not (task.dynamic_masking and task.with_neighbour):
        raise ValueError(f"next_sentence_weight: {task.name} asks of no pairs: set it to 1")
