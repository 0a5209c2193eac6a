"""Parameters of finetune."""

from typing import Literal

from pydantic import Field

from pipeline.core.config import Settings, nearest
from pipeline.models.heads import head_of
from pipeline.models.heads.seq2seq import Decoder
from pipeline.tasks.base import Task


class Lora(Settings):
    """Settings of low-rank adaptation (Hu et al. 2022): the encoder's weights are frozen, and each
    of its linear layers learns an update of low rank, which is merged in the end. The optimizer's
    state is a fraction of the usual; about ten times the learning rate is usual (Biderman et al.
    2024)."""

    rank: int = Field(ge=1)
    """Rank of each update: 8 or 16 do for most tasks."""
    alpha: float = Field(gt=0)
    """Scale of the updates, which are multiplied by alpha / rank; twice the rank is usual."""
    dropout: float = Field(ge=0, lt=1)
    """Dropout on the input of the updates."""


class FinetuneParams(Settings):
    epochs: int = Field(ge=0)
    """Passes over the training rows; 0 takes the base with its own head, as trained elsewhere."""
    max_steps: int | None = Field(ge=1)
    """Most steps, if the epochs have more: the learning rate decays to 0 by then."""
    batch_size: int = Field(ge=1)
    """Texts a step, over all devices."""
    gradient_accumulation: int = Field(ge=1)
    """Batches whose gradients are summed for one update of the weights."""
    learning_rate: float = Field(gt=0, lt=1)
    """Peak learning rate of AdamW; linear warm-up, then linear decay to 0."""
    warmup_ratio: float = Field(ge=0, lt=1)
    """Share of all steps that warm up."""
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    """Largest norm of the gradient."""
    dropout: float = Field(ge=0, lt=1)
    """Dropout of hidden states and of the classifier's input."""
    attention_dropout: float = Field(ge=0, lt=1)
    """Dropout of attention weights; 0 allows PyTorch's fused attention and, in bf16 on a CPU, the
    faster one of fast_attention.py; on a CPU it halves the time of a step."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Share of each target that is spread over all classes (Szegedy et al. 2016)."""
    class_weights: Literal["none", "balanced"]
    """Class weights; balanced weighs a row by rows / (classes x rows of its class), so that rare
    classes count as much as frequent ones (King and Zeng 2001); each window of a row counts as a
    row. The validation loss has no weights."""
    next_sentence_weight: float = Field(gt=0)
    """Weight of the next-sentence loss in pretraining relative to that of masked tokens; 1 in BERT.
    The validation loss always uses 1."""
    decoder: Decoder | None
    """Decoder of tasks that write text; else null."""
    precision: Literal["auto", "fp32", "bf16"]
    """Precision of training; auto takes bf16 if the processor or GPU supports it, else fp32."""
    evaluations_per_epoch: int = Field(ge=1)
    """Validation runs, each with a checkpoint, in an epoch."""
    patience: int = Field(ge=1)
    """Evaluations without a better result after which training ends."""
    lora: Lora | None
    """Settings of LoRA; null trains all weights."""
    metric: str
    """Measure on validation rows that picks the checkpoint: one of the task's metrics, or loss,
    which is less noisy on few rows."""
    seed: int = Field(ge=0)


def check(params: FinetuneParams, task: Task) -> None:
    """Raise ValueError, beginning with the key, for settings that do not fit the task."""
    known = ("loss", *task.metrics)
    if params.metric not in known:
        raise ValueError(
            f"metric: {task.name} has no {params.metric!r}{nearest(params.metric, known)}"
        )
    head = head_of(task)
    head.check(params, task)
    if not params.epochs and params.metric == "loss":
        raise ValueError(
            f"metric: nothing is trained in 0 epochs: set it to {' or '.join(task.metrics)}"
        )
    if not params.epochs and params.lora:
        raise ValueError("lora: nothing is trained in 0 epochs: set it to null")
    for key, plain in (("class_weights", "none"), ("label_smoothing", 0.0)):
        fits = task.exclusive or (head.generates and key == "label_smoothing")
        if getattr(params, key) != plain and not fits:
            raise ValueError(
                f"{key}: is for tasks with one class a row, not for {task.name}: set it to {plain}"
            )
    if params.next_sentence_weight != 1 and not (task.dynamic_masking and task.with_neighbour):
        raise ValueError(f"next_sentence_weight: {task.name} has no sentence pairs: set it to 1")
