"""Parameters of evaluate."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from pipeline.core.config import Settings, nearest
from pipeline.tasks.base import Task


class EvaluateParams(Settings):
    slices: list[str]
    """Carried columns; the test score is reported for each of their values."""
    baseline: str
    """Unit of the baseline's features: words, or characters for text without spaces."""
    calibration_bins: int = Field(ge=2)
    worst_mistakes: int = Field(ge=0)
    """Rows of mistakes.csv."""
    behaviour: list[str]
    """Suites of behaviour tests: ready ones by name, your own by path."""
    seed: int = Field(ge=0)
    """Seed of the bootstrap."""

    @model_validator(mode="after")
    def _suites_differ(self) -> Self:
        names = [Path(name).stem for name in self.behaviour]
        if len(set(names)) < len(names):
            raise ValueError("behaviour holds two suites of the same name")
        return self


def check(params: EvaluateParams, task: Task) -> None:
    """Raise ValueError, beginning with the key, for settings that do not fit the task."""
    if params.baseline not in task.baseline:
        raise ValueError(
            f"baseline: {task.name} has no {params.baseline!r}"
            f"{nearest(params.baseline, task.baseline)}"
        )
    if params.behaviour and (not task.exclusive or task.two_texts):
        raise ValueError(
            f"behaviour: is for tasks with one class a text, not for {task.name}: set it to []"
        )
