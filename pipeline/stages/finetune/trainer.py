"""transformers' Trainer, made fast, exactly resumable and quick to stop on a broken loss.

Import it inside a function: it loads PyTorch.
"""

import math
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pipeline.core.errors import UserError
from pipeline.core.log import Log
from pipeline.core.records import SPLITS
from pipeline.models import encoders as adapter
from pipeline.models.heads import seq2seq
from pipeline.models.pooling import narrow
from pipeline.stages.finetune.batching import (
    ClassSampler,
    Collator,
    Drawn,
    LengthSampler,
    Logits,
    Order,
    Writing,
    in_order,
    lengths_of,
    longer_than,
    unlabelled,
)
from pipeline.stages.finetune.callbacks import Patience, Point, Teller, Thrift
from pipeline.stages.finetune.checkpoints import last_whole
from pipeline.stages.finetune.fast_attention import by_products
from pipeline.stages.finetune.fast_dropout import quicken
from pipeline.stages.finetune.losses import Loss
from pipeline.tasks.base.encoding import WRITTEN
from pipeline.tasks.base.masked_lm import Hider

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import transformers
from datasets import Dataset, concatenate_datasets
from tokenizers import Tokenizer
from transformers import Trainer, TrainingArguments

if TYPE_CHECKING:
    from pipeline.stages.finetune.stage import FinetuneParams
    from pipeline.tasks.base import Decision, Task
    from pipeline.tasks.base.encoding import Encoder

Measure = Callable[[Logits], dict[str, float]]
"""From the logits of every validation piece, and of every training piece where the task remembers
them, in the order of their files, to metrics."""


@dataclass(frozen=True)
class Result:
    model: Any
    predict: Callable[[], Logits]
    """The logits that a `Measure` is given, by the kept weights."""
    history: list[dict[str, float]]
    parameters: int
    trained: int
    pooling: str
    steps: int
    epochs: float
    best_step: int
    best_value: float
    stopped_early: bool


def threads() -> int:
    return int(torch.get_num_threads())


def where_and_how(precision: str) -> tuple[str, str]:
    """The device's name, and fp32 or bf16: asked of the device, not assumed."""
    if torch.cuda.is_available():
        device, able = torch.cuda.get_device_name(), torch.cuda.is_bf16_supported(False)
    else:
        features = torch.cpu.get_capabilities()
        device, able = "cpu", bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    if precision == "auto":
        precision = "bf16" if able else "fp32"
    return device, precision


class _Trainer(Trainer):
    def __init__(self, *, order: Order, loss: Loss, **settings: Any) -> None:
        super().__init__(**settings)
        self.order, self.loss = order, loss

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> torch.Tensor:
        """Targets of all batches whose gradients make one step."""
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
        """Of a model that writes: not what it would say behind each word of the truth, but what it
        writes by itself, the likeliest token each time; behind a score, which nobody asks here."""
        writing = self.data_collator.writing
        if writing is None:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        inputs = self._prepare_inputs(inputs)
        labels = inputs["labels"]
        with torch.inference_mode(), self.compute_loss_context_manager():
            count = self._get_num_items_in_batch([inputs], labels.device)
            loss = self.compute_loss(model, dict(inputs), num_items_in_batch=count)
        written = seq2seq.written(self.model, inputs["input_ids"], inputs["attention_mask"])
        return loss.detach(), written.float(), labels

    def evaluation_loop(self, *arguments: Any, **settings: Any) -> Any:
        """Its loss is the mean over targets, as in training; transformers' own is a mean over
        batches, in which the words of short texts would count more."""
        self.validated = np.zeros(2)  # loss, targets
        output = super().evaluation_loop(*arguments, **settings)
        loss, targets = self.validated
        self._check("validation loss", loss / targets, self.state.global_step)
        output.metrics[f"{settings.get('metric_key_prefix', 'eval')}_loss"] = loss / targets
        return output

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


def _dropouts(folder: Path, name: str, params: "FinetuneParams") -> dict[str, float]:
    """Dropout under the names that the base's family gives it."""
    if adapter.read_config(folder, name)["model_type"] == "distilbert":
        return {
            "dropout": params.dropout,
            "attention_dropout": params.attention_dropout,
            "seq_classif_dropout": params.dropout,
        }
    return {
        "hidden_dropout_prob": params.dropout,
        "attention_probs_dropout_prob": params.attention_dropout,
        "classifier_dropout": params.dropout,
    }


def train(
    params: "FinetuneParams",
    folder: Path,
    name: str,
    task: "Task",
    classes: list[str],
    tokenize: Path,
    encoder: "Encoder",
    prepared: "Decision",
    measure: Measure,
    state: Path,
    precision: str,
    log: Log,
    point: Point,
) -> Result:
    """Train to the end, from the last whole checkpoint in `state` where there is one."""
    transformers.set_seed(params.seed)
    dropouts = _dropouts(folder, name, params)
    writing = None
    if params.decoder:
        words = Tokenizer.from_file(str(tokenize / "tokenizer" / WRITTEN))
        model = seq2seq.new(folder, params.decoder, words, dropouts)
        begins, fills = model.decoder.config.bos_token_id, model.decoder.config.pad_token_id
        writing = Writing(begins, fills, params.decoder.longest)
    else:
        outputs = task.outputs(classes)
        model = adapter.load_model(folder, name, task.head, outputs=outputs, **dropouts)
    if task.head in adapter.OF_WHOLE_TEXTS and adapter.pooling(model) == "cls":
        narrow(model)
    parameters = _count(model)
    if params.lora:
        from pipeline.stages.finetune import lora

        model = lora.attach(model, params.lora.rank, params.lora.alpha, params.lora.dropout)
    trained = _count(model, learning=True)
    quicken(model)
    if precision == "bf16" and not torch.cuda.is_available():
        by_products(model)
    data = {
        split: Dataset.from_file(str(tokenize / "tokens" / f"{split}.arrow")) for split in SPLITS
    }
    if writing and (cut := longer_than(data["train"], writing.longest)):
        log.say(
            f"{cut:,} of {len(data['train']):,} translations have more tokens than decoder.longest,"
            f" {writing.longest}: they are cut"
        )
    asked = data["validation"]  # after each part of the training
    if task.remembers:
        asked = concatenate_datasets([asked, unlabelled(data["train"])])
    lengths = lengths_of(asked)
    order = np.argsort(lengths, kind="stable")
    own, batch = shares(params.batch_size, torch.cuda.device_count())
    shuffled: Order = (
        ClassSampler(data["train"], batch, params.seed)
        if task.head == "embedding"
        else LengthSampler(lengths_of(data["train"]), batch, params.seed)
    )
    steps_per_epoch = math.ceil(len(shuffled) / (batch * params.accumulate))
    steps = min(steps_per_epoch * params.epochs, params.steps or sys.maxsize)
    interval = math.ceil(min(steps_per_epoch, steps) / params.evaluations_per_epoch)
    state.mkdir(parents=True, exist_ok=True)
    arguments = TrainingArguments(
        output_dir=str(state),
        num_train_epochs=params.epochs,
        max_steps=steps,
        per_device_train_batch_size=own,
        per_device_eval_batch_size=4 * own,
        gradient_accumulation_steps=params.accumulate,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        warmup_steps=params.warmup,
        max_grad_norm=params.clip,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        bf16=precision == "bf16",
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
    trainer = _Trainer(
        order=shuffled,
        model=model,
        args=arguments,
        train_dataset=Drawn(data["train"], encoder, shuffled)
        if isinstance(encoder, Hider)
        else data["train"],
        eval_dataset=asked.select(order),
        data_collator=Collator(
            model.config.pad_token_id or 0,
            adapter.takes_types(model.config, task),
            guessing=task.head == "guess",
            writing=writing,
        ),
        compute_metrics=lambda given: measure(in_order(given.predictions, order, lengths)),
        loss=Loss(
            task,
            params,
            prepared,
            _rows_of_each(data["train"], classes) if task.exclusive else None,
        ),
        callbacks=[
            Teller(log, point, task.metrics),
            Patience(params.patience),
            *([] if torch.cuda.is_available() else [Thrift()]),
        ],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    checkpoint = last_whole(state)
    if checkpoint:
        log.say(f"going on from step {checkpoint.name.split('-')[1]}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    reached = trainer.state
    if params.lora:
        trainer.model = lora.merged(trainer.model)

    def predict() -> Logits:
        outcome = trainer.predict(trainer.eval_dataset)
        return in_order(outcome.predictions, order, lengths)

    evaluations = [e for e in reached.log_history if f"eval_{params.metric}" in e]
    best = next(e for e in evaluations if e[f"eval_{params.metric}"] == reached.best_metric)
    last = evaluations[-1]
    return Result(
        model=trainer.model,
        predict=predict,
        history=reached.log_history,
        parameters=parameters,
        trained=trained,
        pooling=adapter.pooling(model),
        steps=int(last["step"]),
        epochs=float(last["epoch"]),
        best_step=int(best["step"]),
        best_value=float(reached.best_metric or 0),
        stopped_early=last["step"] < reached.max_steps,
    )


def shares(batch_size: int, devices: int) -> tuple[int, int]:
    """Texts a device, and of all devices, in a step: PyTorch cuts each batch into even parts."""
    devices = max(devices, 1)
    own = math.ceil(batch_size / devices)
    return own, own * devices


def _count(model: Any, learning: bool = False) -> int:
    """Parameters of a model: all, or those that are trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not learning)


def _rows_of_each(rows: Dataset, classes: list[str]) -> "np.typing.NDArray[np.int64]":
    return np.bincount(np.asarray(rows["labels"]), minlength=len(classes))
