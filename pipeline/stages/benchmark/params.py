"""Parameters of benchmark."""

from pydantic import Field

from pipeline.core.config import Settings, nearest
from pipeline.tasks.base import Task


class BenchmarkParams(Settings):
    threads: int = Field(ge=0)
    """Threads of every candidate; 0 takes as many as the machine has cores."""
    batches: list[int] = Field(min_length=1)
    """Texts at once, in the grid of timings."""
    seconds: float = Field(gt=0, le=60)
    """Spent on each timing."""
    metric: str
    """One of the task's."""
    max_metric_drop: float = Field(ge=0, le=1)
    """Largest drop of that metric on validation, from the reference's."""
    max_flip_rate: float = Field(ge=0, le=1)
    """Share of validation answers that differ from the reference's."""


def check(params: BenchmarkParams, task: Task) -> None:
    """Raises ValueError, beginning with the key, for what the task does not know."""
    if params.metric not in task.metrics:
        raise ValueError(
            f"metric: {task.name} has no {params.metric!r}{nearest(params.metric, task.metrics)}"
        )
