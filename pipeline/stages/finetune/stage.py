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
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.core.config import Settings, nearest
from pipeline.core.files import sha256_of, whole, write_csv
from pipeline.core.log import Log, no_log
from pipeline.core.records import Fit, Validation
from pipeline.metrics import scoring
from pipeline.models.bases import BaseParams, base_folder
from pipeline.stages import artifacts
from pipeline.tasks.base import Decision, Logits, Task, encoding
from pipeline.tasks.base.encoding import WRITTEN

TRAINING_CURVE = ("step", "loss", "learning_rate", "grad_norm")


class Lora(Settings):
    """Low-rank adaptation (Hu et al. 2022): the encoder's weights stand still, and each of its
    linear layers learns a change of low rank, which is added to them in the end. The optimizer
    holds a fraction of the numbers; about ten times the learning rate is usual (Biderman et al.
    2024)."""

    rank: int = Field(ge=1)
    """Of each change: 8 or 16 do for most tasks."""
    alpha: float = Field(gt=0)
    """The change is scaled by alpha / rank; twice the rank is usual."""
    dropout: float = Field(ge=0, lt=1)
    """Of what the changes read."""


class Decoder(Settings):
    """What writes a text of what the encoder has read: of random weights, and as wide."""

    layers: int = Field(ge=1)
    longest: int = Field(ge=4)
    """Tokens that it can write, those that begin and end a text included."""
    beams: int = Field(ge=1)
    """Hypotheses that are followed at once."""
    length_penalty: float
    """A hypothesis's log probability is divided by its length to this power: more makes longer
    texts (Wu et al. 2016)."""


class FinetuneParams(Settings):
    epochs: int = Field(ge=1)
    steps: int | None = Field(ge=1)
    """Most of them, where the epochs would be more: the learning rate has come down by then."""
    batch_size: int = Field(ge=1)
    """Texts a step, of all devices together."""
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
    """0 lets PyTorch use its fused attention, and a CPU in bf16 what is faster still
    (adapters/attention.py); on a CPU it halves the time of a step."""
    label_smoothing: float = Field(ge=0, lt=1)
    """Share of each target that is spread over all classes (Szegedy et al. 2016)."""
    class_weights: Literal["none", "balanced"]
    """balanced weighs a row by rows / (classes x rows of its class), so that rare classes count
    as much as frequent ones (King and Zeng 2001); where a row is cut into windows, each counts as a
    row. Validation is measured without."""
    next_sentence_weight: float = Field(gt=0)
    """How much the loss of pairs counts in pretraining, beside that of hidden words; in BERT as
    much, 1. Validation is measured with 1."""
    decoder: Decoder | None
    """Of tasks that write; else null."""
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
    writes = task.head == "writer"
    if writes != bool(params.decoder):
        what = "say what writes" if writes else "set it to null"
        raise ValueError(f"decoder: {task.name} {'writes' if writes else 'writes nothing'}: {what}")
    if params.lora and (task.head == "guess" or writes):
        raise ValueError(f"lora: {task.name} learns all weights: set it to null")
    if task.head == "embedding" and params.metric == "loss":
        raise ValueError(
            f"metric: the loss of {task.name} is of the texts that share a batch, and tells little:"
            f" set it to {task.metrics[0]}"
        )
    if task.head == "embedding" and (params.batch_size < 4 or params.batch_size % 2):
        raise ValueError(
            f"batch_size: {task.name} learns from two texts a class: make it even, 4 or more"
        )
    for key, plain in (("class_weights", "none"), ("label_smoothing", 0.0)):
        fits = task.exclusive or (writes and key == "label_smoothing")
        if getattr(params, key) != plain and not fits:
            raise ValueError(
                f"{key}: is for tasks with one class a row, not for {task.name}: set it to {plain}"
            )
    if params.next_sentence_weight != 1 and not (task.fresh and task.beside):
        raise ValueError(f"next_sentence_weight: {task.name} asks of no pairs: set it to 1")


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
    """Train on the train split, pick and tune by the validation split.

    Raises UserError where the loss is not a number, naming the step.
    """
    from pipeline.models import encoders as adapter
    from pipeline.registry.live_run import LiveRun
    from pipeline.stages.finetune import trainer

    folder = (
        adapter.new_bert(
            state / "base",
            base.network,
            tokenize / "tokenizer",
            params.seed,
            # of hidden words alone the first token learns nothing
            pooling="cls" if task.beside else "mean",
        )
        if base.network
        else base_folder(base)
    )
    classes = Validation.read(validate / "validation.json").labels
    device, precision = trainer.where_and_how(params.precision)
    judge = _Judge(task, validate, tokenize, classes, params.decoder)
    key = _key(params, judge, folder, tokenize, device, precision)
    log.say(f"training on {device} in {precision}")
    with LiveRun(tracking, recipe, key, log) as live:
        result = trainer.train(
            params,
            folder,
            base.model,
            task,
            classes,
            tokenize,
            judge.encoder,
            judge.prepared,
            judge.metrics,
            state / key,
            precision,
            log,
            live.point,
        )
    decided = task.tunes or task.remembers
    decision = judge.decision(result.predict()) if decided else judge.prepared
    with whole(out / "model") as temporary:
        result.model.save_pretrained(temporary)
        for file in sorted((tokenize / "tokenizer").iterdir()):
            shutil.copyfile(file, temporary / file.name)
        if task.head == "embedding":
            from pipeline.models.heads.embedding import describe

            describe(temporary, result.pooling, judge.encoder.max_length)
    columns = ("step", "loss", *task.metrics)
    training, validation = _curves(result.history, columns)
    write_csv(out / "training.csv", TRAINING_CURVE, training)
    write_csv(out / "validation.csv", columns, validation)
    fit = Fit(
        key=key,
        base=base.model,
        parameters=result.parameters,
        trained=result.trained,
        pooling=result.pooling if task.head in adapter.OF_WHOLE_TEXTS else None,
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


class _Judge:
    """Scores the model on validation rows while it learns, and tunes what its answers need."""

    def __init__(
        self,
        task: Task,
        validate: Path,
        tokenize: Path,
        classes: list[str],
        decoder: Decoder | None,
    ) -> None:
        self.task, self.classes = task, classes
        labels = artifacts.kept_rows(validate, "train", ["label"])["label"]
        self.prepared = task.prepare(labels.tolist())
        if decoder:
            words = (tokenize / "tokenizer" / WRITTEN).read_text(encoding="utf-8")
            self.prepared = {**self.prepared, **decoder.model_dump(), "target": words}
        self.rows = artifacts.labelled(artifacts.kept_rows(validate, "validation"))
        self.encoder = artifacts.encoder(tokenize, task)
        self.pieces = self.encoder.pieces(self.rows.texts)
        self.known = artifacts.targets(tokenize, "train") if task.remembers else []

    def decision(self, logits: list[Logits]) -> Decision:
        """`logits` are those of the validation pieces, in their order, and of the training pieces
        where the task remembers them."""
        own, others = logits[: len(self.pieces)], logits[len(self.pieces) :]
        decided = self.task.decide(own, self.pieces, self.rows, self.classes)
        if self.task.remembers:
            decided = {**decided, **self.task.remember(others, self.known, self.classes)}
        return {**self.prepared, **decided}

    def metrics(self, logits: list[Logits]) -> dict[str, float]:
        rows, decision = self.rows, self.decision(logits)
        own = logits[: len(self.pieces)]
        answers = self.task.answers(own, self.pieces, rows.texts, self.classes, decision)
        said = [answer.label for answer in answers]
        tallied = scoring.tallies(self.task, rows.labels, said, self.classes, rows.groups)
        return scoring.metrics(self.task.measure, tallied)


def _key(
    params: FinetuneParams,
    judge: "_Judge",
    folder: Path,
    tokenize: Path,
    device: str,
    precision: str,
) -> str:
    """Hash of everything that the weights, and the choice among them, depend on, as hex."""
    from pipeline.models.encoders import pooling_of
    from pipeline.stages.finetune import trainer

    code = [__file__, str(scoring.__file__), str(artifacts.__file__)]
    code += map(str, sorted(Path(encoding.__file__).parent.glob("*.py")))
    used = ["trainer", "callbacks", "loss", "batches", "transformers", "pooling", "attention"]
    packages = ["torch", "transformers", "accelerate"]
    used += ["dropout", *{"guess": ["guess"], "writer": ["translator"]}.get(judge.task.head, [])]
    if judge.task.head == "embedding":
        used.append("sentence_transformers")
        packages.append("sentence-transformers")
    if params.lora:
        used.append("lora")
        packages.append("peft")
    code += [str(Path(trainer.__file__).with_name(f"{name}.py")) for name in used]
    parts: dict[str, Any] = {
        "params": params.model_dump(),
        "base": sha256_of(folder / "model.safetensors"),
        "config": sha256_of(folder / "config.json"),
        "pooling": pooling_of(folder),
        "tokens": sha256_of(tokenize / "tokens"),
        "classes": judge.classes,
        "task": judge.task.name,
        "validation": [judge.rows.labels, judge.rows.groups, judge.prepared],
        "how": [device, precision, trainer.threads()],
        "code": [sha256_of(Path(file)) for file in code],
        "versions": [version(name) for name in packages],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _curves(
    history: list[dict[str, float]], columns: Sequence[str]
) -> tuple[list[list[float]], list[list[float]]]:
    training = [[entry[name] for name in TRAINING_CURVE] for entry in history if "loss" in entry]
    names = ("step", *(f"eval_{name}" for name in columns[1:]))
    validation = [[entry[name] for name in names] for entry in history if "eval_loss" in entry]
    return training, validation
