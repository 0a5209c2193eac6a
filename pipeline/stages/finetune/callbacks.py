"""What looks on while transformers' Trainer trains.

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
KEPT_FOR = 20  # steps, after which memory that lies free is given back


class ProgressCallback(TrainerCallback):
    """Tells progress and curves, and seals each checkpoint once it is whole."""

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
            told = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            self.log.say(f"step {state.global_step:,}: validation {told}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class EarlyStopping(TrainerCallback):
    """Ends a training that has not got better for so many evaluations. It counts from the best
    step, which a checkpoint keeps: one that goes on ends where it would have ended undisturbed.
    transformers' own counts from nought again."""

    def __init__(self, evaluations: int) -> None:
        self.evaluations = evaluations

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        since = state.global_step - state.best_global_step
        control.should_training_stop |= since >= self.evaluations * args.eval_steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """It had ended already, and was disturbed before its result was written."""
        since = state.global_step - (state.best_global_step or 0)
        control.should_training_stop |= since > self.evaluations * args.eval_steps


class MemoryTrimming(TrainerCallback):
    """On a CPU memory that a step frees waits for the next ones, and is given back now and then."""

    def __init__(self) -> None:
        self.done = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        memory.keep()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.done += 1
        if self.done % KEPT_FOR == 0:
            memory.give_back()

    on_prediction_step = on_step_end
