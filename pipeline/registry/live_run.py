"""Live curves of a training in MLflow.

A separate thread talks to MLflow, so a slow or absent server neither delays nor ends a training.
The run has the training's key as a tag; `publish` completes it, or writes a new run from the
stage's files if there is none.
"""

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

from pipeline.core.log import Log
from pipeline.registry.origin import origin
from pipeline.registry.tags import FIT_TAG

RUN_NAME_WIDTH = 8
CLOSING_SECONDS = 20
SYSTEM = "system/"  # prefix of MLflow's own metrics of the machine


class LiveRun:
    """Stream of curves to a run of the experiment `recipe`; off without a tracking address.

    Use it in a `with` block. Its end waits CLOSING_SECONDS for the remaining points. If the block
    raises, the run is marked as failed.
    """

    def __init__(self, tracking: str | None, recipe: str, key: str, log: Log) -> None:
        self.tracking, self.recipe, self.key, self.log = tracking, recipe, key, log
        self.points: queue.SimpleQueue[tuple[int, dict[str, float]] | bool] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._stream, daemon=True)

    def point(self, step: int, values: Mapping[str, float]) -> None:
        self.points.put((step, dict(values)))

    def __enter__(self) -> Self:
        if self.tracking:
            self.thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self.tracking:
            self.points.put(kind is None)
            self.thread.join(CLOSING_SECONDS)

    def _stream(self) -> None:
        try:
            client, run = self._open()
            last_steps = {
                name: max(m.step for m in client.get_metric_history(run, name))
                for name in client.get_run(run).data.metrics
                if not name.startswith(SYSTEM)
            }
            with _system_metrics(run, str(self.tracking)):
                while not isinstance(point := self.points.get(), bool):
                    self._send(client, run, point, last_steps)
            if point is False:  # else `publish` ends it
                client.set_terminated(run, "FAILED")
        except Exception as error:  # no error here may end a training
            from pipeline.registry.client import reason

            self.log.info(f"MLflow gets no live curves: {reason(error)}: publish writes them later")

    def _send(
        self, client: Any, run: str, point: tuple[int, dict[str, float]], last_steps: dict[str, int]
    ) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        step, values = point
        new = [Metric(k, v, now, step) for k, v in values.items() if step > last_steps.get(k, -1)]
        if new:
            client.log_batch(run, metrics=new)

    def _open(self) -> tuple[Any, str]:
        from pipeline.registry.client import connect, experiment_id

        client = connect(str(self.tracking))
        experiment = experiment_id(client, self.recipe, str(self.tracking))
        query = f"tags.`{FIT_TAG}` = '{self.key}' and attributes.status = 'RUNNING'"
        runs = client.search_runs([experiment], query, max_results=1)
        if runs:
            return client, str(runs[0].info.run_id)
        name = f"training {self.key[:RUN_NAME_WIDTH]}"
        command = f"python -m pipeline finetune {self.recipe}"
        tags = {FIT_TAG: self.key, **origin(command)}
        run = client.create_run(experiment, run_name=name, tags=tags)
        return client, str(run.info.run_id)


@contextmanager
def _system_metrics(run: str, tracking: str) -> Iterator[None]:
    """Log the use of processor, memory, disk and GPU every ten seconds, as MLflow's own runs do
    (https://mlflow.org/docs/latest/ml/tracking/system-metrics/)."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run, resume_logging=True, tracking_uri=tracking)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
