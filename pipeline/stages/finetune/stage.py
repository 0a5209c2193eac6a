"""Training of a base encoder on the labels.

    python -m pipeline finetune news

Writes model/ (safetensors, configuration, tokenizer), training.csv and validation.csv (curves) and
fit.json. An interrupted training resumes from its last complete checkpoint. Checkpoints are kept in
`state`, which DVC does not delete before a run, under the hash of everything that the weights
depend on; they are removed when training has ended.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core.files import atomic_write, sha256_of, write_csv, write_json
from pipeline.core.log import Log, no_log
from pipeline.core.records import Fit, Validation
from pipeline.models.bases import BaseParams, base_folder, new_bert
from pipeline.models.encoders import encoder_config
from pipeline.models.heads import head_of
from pipeline.registry.live_run import LiveRun
from pipeline.stages.finetune.checkpoints import abandoned
from pipeline.stages.finetune.params import FinetuneParams
from pipeline.stages.finetune.resume_key import resume_key
from pipeline.stages.finetune.validation import Validator
from pipeline.tasks.base import Task

TRAINING_CURVE = ("step", "loss", "learning_rate", "grad_norm")


def finetune(
    params: FinetuneParams,
    task: Task,
    base: BaseParams,
    validate: Path,
    tokenize: Path,
    out: Path,
    state: Path,
    recipe: str = "",
    tracking: str | None = None,
    *,
    log: Log = no_log,
) -> Fit:
    """Train on the train split; choose the checkpoint and tune decisions on the validation split.

    Raises UserError with the step if the loss is not finite.
    """
    from pipeline.stages.finetune import trainer

    folder = _base(base, task, tokenize / "tokenizer", state, params.seed)
    classes = Validation.read(validate / "validation.json").labels
    validator = Validator(task, validate, tokenize, classes, params.decoder)
    device, precision = trainer.device_and_precision(params.precision)
    environment = [device, precision, trainer.threads()]
    key = resume_key(params, task, validator, folder, tokenize, environment)
    log.info(f"training on {device} in {precision}")
    _report_abandoned(state, key, log)
    with LiveRun(tracking, recipe, key, log) as live:
        job = trainer.Job(
            params, task, folder, base.model, tokenize, validator, state / key, precision
        )
        result = _result(job, validate, log, live.point)
    decided = task.tunes or task.remembers
    decision = validator.decision(result.predict()) if decided else validator.prepared
    _save(result, task, tokenize / "tokenizer", validator.encoder.max_length, out / "model")
    columns = ("step", "loss", *task.metrics)
    training, validation = _curves(result.history, columns)
    write_csv(out / "training.csv", TRAINING_CURVE, training)
    write_csv(out / "validation.csv", columns, validation)
    fit = Fit(
        key=key,
        base=base.model,
        parameters=result.parameters,
        trained=result.trained,
        pooling=result.pooling if head_of(task).pooled else None,
        precision=precision,
        device=device,
        steps=result.steps,
        epochs=result.epochs,
        best_step=result.best_step,
        best_metric=f"validation {params.metric}",
        best_value=result.best_value,
        stopped_early=result.stopped_early,
        weights_sha256=sha256_of(out / "model" / "model.safetensors"),
        decision=dict(decision),
    ).write(out / "fit.json")
    shutil.rmtree(state, ignore_errors=True)
    return fit


def _result(job: Any, validate: Path, log: Log, point: Any) -> Any:
    """Train, or take a model that was trained elsewhere."""
    if job.params.epochs:
        from pipeline.stages.finetune.trainer import train

        return train(job, log, point)
    from pipeline.stages.finetune.adoption import adopted

    return adopted(job, validate, log)


def _base(base: BaseParams, task: Task, tokenizer: Path, state: Path, seed: int) -> Path:
    """Return the base's folder; a base from scratch is created in `state`."""
    if base.network is None:
        return base_folder(base)
    # masked tokens alone do not train the first token
    pooling = "cls" if task.with_neighbour else "mean"
    return new_bert(state / "base", base.network, tokenizer, seed, pooling=pooling)


def _report_abandoned(state: Path, key: str, log: Log) -> None:
    step = abandoned(state, key)
    if step and not (state / key).exists():
        log.info(
            f"an earlier training stopped at step {step}: it had other code, data or settings, so"
            " this one starts anew"
        )


def _save(result: Any, task: Task, tokenizer: Path, max_length: int, folder: Path) -> None:
    """Write the model, its tokenizer and the files that other libraries need."""
    with atomic_write(folder) as temporary:
        result.model.save_pretrained(temporary)
        for file in sorted(tokenizer.iterdir()):
            shutil.copyfile(file, temporary / file.name)
        head = head_of(task)
        typed = head.typed(encoder_config(result.model), task)
        _describe_tokenizer(temporary / "tokenizer_config.json", max_length, typed)
        head.save_extras(temporary, result.pooling, max_length)
        if result.adapter:
            shutil.copytree(result.adapter, temporary / result.adapter.name)


def _describe_tokenizer(path: Path, max_length: int, typed: bool) -> None:
    """Write into a tokenizer's configuration what this model takes: transformers reads it."""
    names = ["input_ids", *(["token_type_ids"] if typed else []), "attention_mask"]
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = (
            "PreTrainedTokenizerFast"  # the same, as transformers 4 knows it
        )
    write_json(path, config | {"model_max_length": max_length, "model_input_names": names})


def _curves(
    history: list[dict[str, float]], columns: Sequence[str]
) -> tuple[list[list[float]], list[list[float]]]:
    training = [[entry[name] for name in TRAINING_CURVE] for entry in history if "loss" in entry]
    names = ("step", *(f"eval_{name}" for name in columns[1:]))
    validation = [[entry[name] for name in names] for entry in history if "eval_loss" in entry]
    return training, validation
