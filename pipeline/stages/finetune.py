"""The base encoder learns the labels.

    python -m pipeline finetune news

Writes model/ (safetensors, configuration, tokenizer), training.csv and validation.csv (curves)
and fit.json. A training that was stopped goes on from its last whole checkpoint; these lie in
`state`, outside of what DVC deletes before a run, under the hash of all that the weights depend
on, and are removed when the training has ended.
"""

import hashlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.config import Settings
from pipeline.files import sha256_of, whole, write_csv
from pipeline.log import Log, no_log
from pipeline.records import Fit, Validation
from pipeline.sources import BaseParams, base_folder

TRAINING_CURVE = ("step", "loss", "learning_rate", "grad_norm")
VALIDATION_CURVE = ("step", "loss", "accuracy", "macro_f1")


class FinetuneParams(Settings):
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    """Texts a step on the device."""
    accumulate: int = Field(ge=1)
    """Steps whose gradients are summed before the weights move."""
    learning_rate: float = Field(gt=0, lt=1)
    """Peak, of AdamW; linear warm-up, then linear decay to 0."""
    warmup: float = Field(ge=0, lt=1)
    """Share of all steps."""
    weight_decay: float = Field(ge=0)
    clip: float = Field(gt=0)
    """Largest norm of the gradient."""
    dropout: float = Field(ge=0, lt=1)
    """Of hidden states and of the classifier's input."""
    attention_dropout: float = Field(ge=0, lt=1)
    """0 lets PyTorch use its fused attention, which on a CPU halves the time of a step."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Share of each target that is spread over all classes (Szegedy et al. 2016)."""
    class_weights: Literal["none", "balanced"]
    """balanced weighs a row by rows / (classes x rows of its class), so that rare classes count
    as much as frequent ones (King and Zeng 2001). Validation is measured without."""
    precision: Literal["auto", "fp32", "bf16"]
    """auto takes bf16 where the processor or GPU computes in it, else fp32."""
    evaluations_per_epoch: int = Field(ge=1)
    """Validation runs and checkpoints."""
    patience: int = Field(ge=1)
    """Evaluations without a better result after which training ends."""
    metric: Literal["loss", "accuracy", "macro_f1"]
    """Validation metric that picks the checkpoint; the loss tells more on few rows."""
    seed: int = Field(ge=0)


def finetune(
    params: FinetuneParams,
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
    """Train on the train split, pick by the validation split.

    Raises UserError where the loss is not a number, naming the step.
    """
    from pipeline.adapters import trainer
    from pipeline.adapters.live_run import LiveRun

    folder = base_folder(base)
    labels = Validation.read(validate / "validation.json").labels
    device, precision = trainer.where_and_how(params.precision)
    key = _key(params, folder, tokenize, labels, device, precision)
    log.say(f"training on {device} in {precision}")
    with LiveRun(tracking, recipe, key, log) as live:
        result = trainer.train(
            params, folder, base.model, labels, tokenize, state / key, precision, log, live.point
        )
    with whole(out / "model") as temporary:
        result.model.save_pretrained(temporary)
        for file in sorted((tokenize / "tokenizer").iterdir()):
            shutil.copyfile(file, temporary / file.name)
    training, validation = _curves(result.history)
    write_csv(out / "training.csv", TRAINING_CURVE, training)
    write_csv(out / "validation.csv", VALIDATION_CURVE, validation)
    fit = Fit(
        key=key,
        base=base.model,
        parameters=result.parameters,
        precision=precision,
        device=device,
        steps=result.steps,
        epochs=result.epochs,
        best_step=result.best_step,
        best_metric=f"validation {params.metric}",
        best_value=result.best_value,
        stopped_early=result.stopped_early,
        weights_sha256=sha256_of(out / "model" / "model.safetensors"),
    ).write(out / "fit.json")
    shutil.rmtree(state, ignore_errors=True)
    return fit


def _key(
    params: FinetuneParams,
    folder: Path,
    tokenize: Path,
    labels: list[str],
    device: str,
    precision: str,
) -> str:
    """Hash of everything that the weights depend on, as hex."""
    from pipeline.adapters import trainer

    parts: dict[str, Any] = {
        "params": params.model_dump(),
        "base": sha256_of(folder / "model.safetensors"),
        "config": sha256_of(folder / "config.json"),
        "tokens": sha256_of(tokenize / "tokens"),
        "labels": labels,
        "how": [device, precision, trainer.threads()],
        "code": [sha256_of(Path(file)) for file in (__file__, trainer.__file__)],
        "versions": [version(name) for name in ("torch", "transformers", "accelerate")],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _curves(history: list[dict[str, float]]) -> tuple[list[list[float]], list[list[float]]]:
    training = [[entry[name] for name in TRAINING_CURVE] for entry in history if "loss" in entry]
    names = ("step", *(f"eval_{name}" for name in VALIDATION_CURVE[1:]))
    validation = [[entry[name] for name in names] for entry in history if "eval_loss" in entry]
    return training, validation
