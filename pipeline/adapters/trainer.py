"""transformers' Trainer, made fast, exactly resumable and quick to stop on a broken loss.

Import it inside a function: it loads PyTorch.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Sampler

from pipeline.adapters import transformers as adapter
from pipeline.adapters.dropout import quicken
from pipeline.errors import UserError
from pipeline.files import sha256_of, write_json
from pipeline.log import Log
from pipeline.records import SPLITS
from pipeline.scoring import METRICS, confusion_matrix

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import transformers
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

if TYPE_CHECKING:
    from pipeline.stages.finetune import FinetuneParams

Point = Callable[[int, Mapping[str, float]], None]
WHOLE = "whole.json"  # stands in a checkpoint once all of its files are on the disk
MEGABATCH = 50  # batches whose rows are sorted together


@dataclass(frozen=True)
class Result:
    model: Any
    history: list[dict[str, float]]
    parameters: int
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


class LengthSampler(Sampler[int]):
    """Rows in an order whose batches hold texts of like length; another order each epoch.

    The order depends on seed and epoch alone, so that a training that goes on sees the rows that
    an undisturbed one would have seen.
    """

    def __init__(self, lengths: "np.typing.NDArray[np.int64]", batch: int, seed: int) -> None:
        self.lengths, self.batch, self.seed, self.epoch = lengths, batch, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self.seed, self.epoch))
        order = random.permutation(len(self.lengths))
        mega = self.batch * MEGABATCH
        batches = []
        for start in range(0, len(order), mega):
            part = order[start : start + mega]
            part = part[np.argsort(self.lengths[part], kind="stable")]
            batches += [part[i : i + self.batch] for i in range(0, len(part), self.batch)]
        ragged = batches.pop() if len(batches[-1]) < self.batch else None
        batches = [batches[i] for i in random.permutation(len(batches))]
        for rows in batches if ragged is None else [*batches, ragged]:
            yield from rows.tolist()


class _Trainer(Trainer):
    def __init__(self, *, order: LengthSampler, **settings: Any) -> None:
        super().__init__(**settings)
        self.order = order

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthSampler:
        return self.order

    def training_step(self, *arguments: Any, **settings: Any) -> torch.Tensor:
        loss = super().training_step(*arguments, **settings)
        if not torch.isfinite(loss):
            raise UserError(
                f"finetune: the loss is {loss.item()} at step {self.state.global_step + 1}:"
                " lower finetune.learning_rate, or set finetune.precision to fp32"
            )
        return loss


class _Teller(TrainerCallback):
    """Tells progress and curves, and seals each checkpoint once it is whole."""

    def __init__(self, log: Log, point: Point) -> None:
        self.log, self.point, self.note = log, point, ""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.log.progress(state.global_step, state.max_steps, self.note)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.note = f"loss {logs['loss']:.3f}"
            self.point(state.global_step, {"training.loss": logs["loss"]})
        if "eval_loss" in logs:
            values = {name: logs[f"eval_{name}"] for name in ("loss", *METRICS)}
            self.point(state.global_step, {f"validation.{k}": v for k, v in values.items()})
            told = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            self.log.say(f"step {state.global_step:,}: validation {told}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


def seal(checkpoint: Path) -> None:
    """Write down the digest of every file of a finished checkpoint."""
    files = sorted(file for file in checkpoint.iterdir() if file.name != WHOLE)
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
    write_json(checkpoint / WHOLE, {file.name: sha256_of(file) for file in files})


def last_whole(state: Path) -> Path | None:
    """The latest checkpoint with all its bytes; whatever else lies there is removed.

    Trainer's own search takes the highest number, whole or not, and goes on without an
    optimizer's state when that file is missing.
    """
    for leftover in state.glob(".*.partial"):
        leftover.unlink()
    checkpoints = sorted(state.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    while checkpoints:
        checkpoint = checkpoints.pop()
        try:
            listed = json.loads((checkpoint / WHOLE).read_text())
            best = json.loads((checkpoint / "trainer_state.json").read_text())
            model = best["best_model_checkpoint"]
            if all(sha256_of(checkpoint / name) == digest for name, digest in listed.items()) and (
                model is None or (state / Path(model).name / WHOLE).exists()
            ):
                return checkpoint
        except (OSError, ValueError):
            pass  # cut short: remove it
        shutil.rmtree(checkpoint)
    return None


def _measure(outcome: Any) -> dict[str, float]:
    logits, labels = outcome
    confusion = confusion_matrix(labels, logits.argmax(-1), logits.shape[-1])
    return {name: float(metric(confusion)) for name, metric in METRICS.items()}


def objective(
    params: "FinetuneParams", rows: "np.typing.NDArray[np.int64]"
) -> Callable[..., torch.Tensor] | None:
    """The loss to train on, for `rows` of each class; None where it is the model's own.

    It takes the model's output, labels (batch,), and over how many rows the gradients of this and
    other batches are summed. In validation, where there are no gradients, it is the plain mean.
    """
    if params.class_weights == "none" and not params.label_smoothing:
        return None
    weights = torch.ones(len(rows))
    if params.class_weights == "balanced":
        weights = torch.from_numpy(rows.sum() / (len(rows) * rows)).float()

    def loss(output: Any, labels: torch.Tensor, num_items_in_batch: Any) -> torch.Tensor:
        logits = output.logits.float()
        if not logits.requires_grad:
            return torch.nn.functional.cross_entropy(logits, labels)
        total = torch.nn.functional.cross_entropy(
            logits,
            labels,
            weight=weights.to(logits.device),
            label_smoothing=params.label_smoothing,
            reduction="sum",
        )
        return total / num_items_in_batch

    return loss


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
    labels: list[str],
    tokenize: Path,
    state: Path,
    precision: str,
    log: Log,
    point: Point,
) -> Result:
    """Train to the end, from the last whole checkpoint in `state` where there is one."""
    transformers.set_seed(params.seed)
    model = adapter.load_classifier(folder, name, labels=labels, **_dropouts(folder, name, params))
    quicken(model)
    data = {
        split: Dataset.from_file(str(tokenize / "tokens" / f"{split}.arrow")) for split in SPLITS
    }
    data = {split: rows.remove_columns("id") for split, rows in data.items()}
    lengths = {split: _lengths(rows) for split, rows in data.items()}
    validation = data["validation"].select(np.argsort(lengths["validation"], kind="stable"))
    steps_per_epoch = math.ceil(len(data["train"]) / (params.batch_size * params.accumulate))
    steps = steps_per_epoch * params.epochs
    interval = math.ceil(steps_per_epoch / params.evaluations_per_epoch)
    state.mkdir(parents=True, exist_ok=True)
    arguments = TrainingArguments(
        output_dir=str(state),
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size,
        per_device_eval_batch_size=4 * params.batch_size,
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
    )
    trainer = _Trainer(
        order=LengthSampler(lengths["train"], params.batch_size, params.seed),
        model=model,
        args=arguments,
        train_dataset=data["train"],
        eval_dataset=validation,
        data_collator=DataCollatorWithPadding(adapter.load_tokenizer(tokenize / "tokenizer", name)),
        compute_metrics=_measure,
        compute_loss_func=objective(params, _rows_of_each(data["train"], len(labels))),
        callbacks=[
            _Teller(log, point),
            transformers.EarlyStoppingCallback(early_stopping_patience=params.patience),
        ],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    checkpoint = last_whole(state)
    if checkpoint:
        log.say(f"going on from step {checkpoint.name.split('-')[1]}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    reached = trainer.state
    best = min(
        (e for e in reached.log_history if e.get(f"eval_{params.metric}") == reached.best_metric),
        key=lambda e: e["step"],
    )
    return Result(
        model=trainer.model,
        history=reached.log_history,
        parameters=sum(p.numel() for p in model.parameters()),
        steps=reached.global_step,
        epochs=float(reached.epoch or 0),
        best_step=int(best["step"]),
        best_value=float(reached.best_metric or 0),
        stopped_early=reached.global_step < reached.max_steps,
    )


def _rows_of_each(rows: Dataset, classes: int) -> "np.typing.NDArray[np.int64]":
    return np.bincount(np.asarray(rows["labels"]), minlength=classes)


def _lengths(rows: Dataset) -> "np.typing.NDArray[np.int64]":
    import pyarrow.compute as pc

    return np.asarray(pc.list_value_length(rows.data["input_ids"]), dtype=np.int64)
