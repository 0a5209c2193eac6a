"""Parameters of benchmark."""

from pydantic import Field

from pipeline.core.config import Settings, nearest
from pipeline.tasks.base import Task


class BenchmarkParams(Settings):
    threads: int = Field(ge=0)
    """Threads of every candidate; 0 takes as many as the machine has cores."""
    batches: list[int] = Field(min_length=1)
    """Batch sizes in the grid of timings."""
    seconds: float = Field(gt=0, le=60)
    """Duration of each timing."""
    metric: str
    """Metric of the task by which candidates are compared."""
    max_metric_drop: float = Field(ge=0, le=1)
    """Largest drop of that metric on validation, from the reference's."""
    max_flip_rate: float = Field(ge=0, le=1)
    """Largest share of validation answers that differ from the reference's."""


def check(params: BenchmarkParams, task: Task) -> None:
    """Raise ValueError, beginning with the key, for a metric that the task does not have."""
    if params.metric not in task.metrics:
        raise ValueError(
            f"metric: {task.name} has no {params.metric!r}{nearest(params.metric, task.metrics)}"
        )
