"""Training with transformers' Trainer: fast, exactly resumable, and stopped by a broken loss.

Import it inside a function: it loads PyTorch.
"""

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.core.errors import UserError
from pipeline.core.locations import HUB
from pipeline.core.log import Log
from pipeline.core.records import SPLITS, Split
from pipeline.models import encoders
from pipeline.models.families import family_of
from pipeline.models.heads import head_of
from pipeline.models.heads.base import Start
from pipeline.models.pooling import first_token_only
from pipeline.stages.finetune.batching import (
    ClassSampler,
    LengthSampler,
    Logits,
    MaskedPassages,
    Order,
    in_order,
    lengths_of,
    unlabelled,
)
from pipeline.stages.finetune.callbacks import (
    EarlyStopping,
    MemoryTrimming,
    Point,
    ProgressCallback,
)
from pipeline.stages.finetune.checkpoints import last_whole
from pipeline.stages.finetune.fast_attention import fast_attention
from pipeline.stages.finetune.fast_dropout import fast_dropout
from pipeline.stages.finetune.losses import Loss
from pipeline.stages.finetune.params import FinetuneParams
from pipeline.stages.finetune.validation import Validator
from pipeline.tasks.base import Task

ADAPTER = "adapter"  # folder of the trained weights of LoRA

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import transformers
from datasets import Dataset, concatenate_datasets
from transformers import Trainer, TrainingArguments


@dataclass(frozen=True)
class Job:
    """Settings, data and validator of a training."""

    params: FinetuneParams
    task: Task
    base: Path
    """Folder of the base."""
    name: str
    """Name of the base in messages."""
    tokenize: Path
    validator: Validator
    state: Path
    """Folder of the checkpoints."""
    precision: str
    """fp32 or bf16."""


@dataclass(frozen=True)
class Result:
    model: Any
    predict: Callable[[], Logits]
    """Function that returns the logits for a `Validator`, by the best weights."""
    history: list[dict[str, float]]
    parameters: int
    trained: int
    pooling: str
    steps: int
    epochs: float
    best_step: int
    best_value: float
    stopped_early: bool
    adapter: Path | None
    """Folder of the weights that LoRA has trained."""


def threads() -> int:
    return int(torch.get_num_threads())


def device_and_precision(precision: str) -> tuple[str, str]:
    """Return the device's name and the precision, in which auto depends on the device."""
    if torch.cuda.is_available():
        device, bf16 = torch.cuda.get_device_name(), torch.cuda.is_bf16_supported(False)
    else:
        features = torch.cpu.get_capabilities()
        device, bf16 = "cpu", bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    if precision == "auto":
        precision = "bf16" if bf16 else "fp32"
    return device, precision


class _Trainer(Trainer):
    """Trainer with this project's order of rows, loss and validation.

    `validation` holds the pieces to evaluate in the order of their files; Trainer gets them by
    length.
    """

    def __init__(
        self, *, job: Job, order: Order, loss: Loss, validation: Dataset, **settings: Any
    ) -> None:
        self.lengths = lengths_of(validation)
        self.by_length = np.argsort(self.lengths, kind="stable")
        super().__init__(
            eval_dataset=validation.select(self.by_length),
            compute_metrics=lambda outcome: job.validator.metrics(self.in_order(outcome)),
            **settings,
        )
        self.order, self.loss, self.head = order, loss, head_of(job.task)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> torch.Tensor:
        """Count the targets of all batches whose gradients make one step."""
        counts = [self.loss.task.counted(batch["labels"]) for batch in batch_samples]
        return sum(counts, torch.tensor(0)).to(device)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        targets = inputs.pop("labels")
        outputs = model(**inputs)
        loss = self.loss(outputs.logits.float(), targets, inputs["attention_mask"].bool())
        if not loss.requires_grad:
            self.validated += [loss.item(), int(num_items_in_batch)]
        loss = loss / num_items_in_batch
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self,
        model: Any,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> Any:
        """Return loss, predictions and labels; of a model that writes text, the predictions are
        greedily decoded, not its logits after each true token."""
        if not self.head.generates:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs = self._prepare_inputs(inputs)
        labels = inputs["labels"]
        with torch.inference_mode(), self.compute_loss_context_manager():
            count = self._get_num_items_in_batch([inputs], labels.device)
            loss = self.compute_loss(model, dict(inputs), num_items_in_batch=count)
        tokens = self.head.generate(self.model, inputs["input_ids"], inputs["attention_mask"])
        return loss.detach(), tokens.float(), labels

    def evaluation_loop(self, *arguments: Any, **settings: Any) -> Any:
        """Evaluate, with the mean loss over targets, as in training; transformers' own is a mean
        over batches, in which the tokens of short texts would count more."""
        self.validated = np.zeros(2)  # loss, targets
        output = super().evaluation_loop(*arguments, **settings)
        loss, targets = self.validated
        self._check("validation loss", loss / targets, self.state.global_step)
        output.metrics[f"{settings.get('metric_key_prefix', 'eval')}_loss"] = loss / targets
        return output

    def in_order(self, outcome: Any) -> Logits:
        """Return Trainer's logits, which are by length, in the order of the files."""
        return in_order(outcome.predictions, self.by_length, self.lengths)

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        return self.order

    def training_step(self, *arguments: Any, **settings: Any) -> torch.Tensor:
        loss = super().training_step(*arguments, **settings)
        self._check("loss", loss.item(), self.state.global_step + 1)
        return loss

    def _check(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            raise UserError(
                f"finetune: the {name} is {value} at step {step}: lower finetune.learning_rate, or"
                " set finetune.precision to fp32"
            )


@dataclass(frozen=True)
class _Built:
    """Model that is ready for training, with its number of parameters."""

    model: Any
    parameters: int
    trained: int


def train(job: Job, log: Log, point: Point) -> Result:
    """Train to the end, from the last complete checkpoint in the job's `state` if there is one;
    progress goes to `log`, curves to `point`."""
    transformers.set_seed(job.params.seed)
    built = _build(job)
    data = {
        split: Dataset.from_file(str(job.tokenize / "tokens" / f"{split}.arrow"))
        for split in SPLITS
    }
    trainer = _configure(job, built.model, data, log, point)
    return _run(job, built, trainer, log)


def start_of(job: Job) -> Start:
    """Return what a head needs to build its model."""
    params = job.params
    family = family_of(encoders.read_config(job.base, job.name))
    return Start(
        job.base,
        job.name,
        job.task.outputs(job.validator.classes),
        family.dropouts(params.dropout, params.attention_dropout),
        job.tokenize / "tokenizer",
        params.dropout,
        job.task.problem_type,
        params.decoder,
    )


def _build(job: Job) -> _Built:
    """Build the model: a head on the base, with fast layers, and with LoRA if the recipe has it."""
    params, head = job.params, head_of(job.task)
    model = head.build(start_of(job))
    if head.pooled and encoders.pooling(model) == "cls":
        first_token_only(model)
    parameters = _count(model)
    if params.lora:
        from pipeline.stages.finetune import lora

        model = lora.attach(model, params.lora.rank, params.lora.alpha, params.lora.dropout)
    trained = _count(model, learning=True)
    fast_dropout(model)
    if job.precision == "bf16" and not torch.cuda.is_available():
        fast_attention(model)
    return _Built(model, parameters, trained)


def _configure(job: Job, model: Any, data: dict[Split, Any], log: Log, point: Point) -> _Trainer:
    """Return a Trainer with this project's order of rows, batches, loss and callbacks."""
    params, task, head = job.params, job.task, head_of(job.task)
    validation = data["validation"]
    if task.remembers:
        validation = concatenate_datasets([validation, unlabelled(data["train"])])
    per_device, batch = shares(params.batch_size, torch.cuda.device_count())
    texts_per_step = batch * params.gradient_accumulation
    order: Order = (
        ClassSampler(data["train"], batch, params.seed)
        if head.contrastive
        else LengthSampler(lengths_of(data["train"]), batch, params.seed)
    )
    collator = head.collator(model, head.typed(encoders.encoder_config(model), task))
    if warning := collator.warning(data["train"]):
        log.info(warning)
    rows = _rows_of_each(data["train"], job.validator.classes) if task.exclusive else None
    job.state.mkdir(parents=True, exist_ok=True)
    trainer = _Trainer(
        job=job,
        order=order,
        loss=Loss(task, params, job.validator.prepared, rows),
        validation=validation,
        model=model,
        args=_arguments(job, per_device, math.ceil(len(order) / texts_per_step)),
        train_dataset=MaskedPassages(data["train"], job.validator.encoder, order)
        if task.dynamic_masking
        else data["train"],
        data_collator=collator,
        callbacks=[
            ProgressCallback(log, point, task.metrics),
            EarlyStopping(params.patience),
            *([] if torch.cuda.is_available() else [MemoryTrimming()]),
        ],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _run(job: Job, built: _Built, trainer: _Trainer, log: Log) -> Result:
    """Run the training and return its result."""
    checkpoint = last_whole(job.state)
    if checkpoint:
        log.info(f"going on from step {checkpoint.name.split('-')[1]}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    validator = job.validator
    validator.prepared, scale, offset = job.task.folded(validator.prepared)
    _rescale(trainer.model, scale, offset)
    if job.params.lora:
        from pipeline.stages.finetune import lora

        lora.save(trainer.model, job.name.removeprefix(HUB), job.state / ADAPTER)
        trainer.model = lora.merged(trainer.model)
    state, metric = trainer.state, f"eval_{job.params.metric}"
    evaluations = [entry for entry in state.log_history if metric in entry]
    best = next(entry for entry in evaluations if entry[metric] == state.best_metric)
    last = evaluations[-1]
    return Result(
        model=trainer.model,
        predict=lambda: trainer.in_order(trainer.predict(trainer.eval_dataset)),
        history=state.log_history,
        parameters=built.parameters,
        trained=built.trained,
        pooling=encoders.pooling(built.model),
        steps=int(last["step"]),
        epochs=float(last["epoch"]),
        best_step=int(best["step"]),
        best_value=float(state.best_metric or 0),
        stopped_early=last["step"] < state.max_steps,
        adapter=job.state / ADAPTER if job.params.lora else None,
    )


def _rescale(model: Any, scale: float, offset: float) -> None:
    """Fold a scale and an offset into the layer that outputs a number."""
    if (scale, offset) == (1.0, 0.0):
        return
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module.out_features == 1:
            with torch.no_grad():
                module.weight.mul_(scale)
                module.bias.mul_(scale).add_(offset)


def _arguments(job: Job, batch_size: int, steps_per_epoch: int) -> TrainingArguments:
    """Return Trainer's arguments; `batch_size` is that of one device."""
    params = job.params
    steps = min(steps_per_epoch * params.epochs, params.max_steps or sys.maxsize)
    interval = math.ceil(min(steps_per_epoch, steps) / params.evaluations_per_epoch)
    return TrainingArguments(
        output_dir=str(job.state),
        num_train_epochs=params.epochs,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=4 * batch_size,
        gradient_accumulation_steps=params.gradient_accumulation,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        warmup_steps=params.warmup_ratio,
        max_grad_norm=params.max_grad_norm,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        bf16=job.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        eval_strategy="steps",
        eval_steps=interval,
        save_strategy="steps",
        save_steps=interval,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model=params.metric,
        greater_is_better=params.metric != "loss",
        logging_strategy="steps",
        logging_steps=max(1, steps // 100),
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        seed=params.seed,
        data_seed=params.seed,
        label_names=["labels"],
        remove_unused_columns=False,
    )


def shares(batch_size: int, devices: int) -> tuple[int, int]:
    """Return the texts in a step on each device and on all: PyTorch splits batches evenly."""
    devices = max(devices, 1)
    per_device = math.ceil(batch_size / devices)
    return per_device, per_device * devices


def _count(model: Any, learning: bool = False) -> int:
    """Return the number of parameters of a model: of all, or of those that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not learning)


def _rows_of_each(rows: Dataset, classes: list[str]) -> "np.typing.NDArray[np.int64]":
    return np.bincount(np.asarray(rows["labels"]), minlength=len(classes))
