"""Callbacks of transformers' Trainer.

Import it inside a function: it loads PyTorch.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from pipeline.core.log import Log
from pipeline.stages.finetune import memory
from pipeline.stages.finetune.checkpoints import seal

Point = Callable[[int, Mapping[str, float]], None]
TRIM_INTERVAL = 20  # steps after which free memory is returned to the system


class ProgressCallback(TrainerCallback):
    """Callback that reports progress and curves, and seals each complete checkpoint."""

    def __init__(self, log: Log, point: Point, metrics: Sequence[str]) -> None:
        self.log, self.point, self.metrics, self.note = log, point, metrics, ""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.log.progress(state.global_step, state.max_steps, self.note)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs:
            self.note = f"loss {logs['loss']:.3f}"
            self.point(state.global_step, {"training.loss": logs["loss"]})
        if "eval_loss" in logs:
            values = {name: logs[f"eval_{name}"] for name in ("loss", *self.metrics)}
            self.point(state.global_step, {f"validation.{k}": v for k, v in values.items()})
            text = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            self.log.info(f"step {state.global_step:,}: validation {text}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class EarlyStopping(TrainerCallback):
    """Callback that stops training after a number of evaluations without improvement.

    It counts from the best step, which checkpoints store, so that a resumed training stops at the
    same step as an uninterrupted one. transformers' own callback starts again from 0.
    """

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        since = state.global_step - state.best_global_step
        control.should_training_stop |= since >= self.evaluations * args.eval_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop a resumed training that had stopped before, but had not written its result."""
        since = state.global_step - (state.best_global_step or 0)
        control.should_training_stop |= since > self.evaluations * args.eval_steps


class MemoryTrimming(TrainerCallback):
    """Callback for CPUs that keeps freed memory for the next steps and trims it at intervals."""

    def __init__(self) -> None:
        self.steps = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        memory.keep()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.steps += 1
        if self.steps % TRIM_INTERVAL == 0:
            memory.trim()

    on_prediction_step = on_step_end
