"""MLflow while a training runs: its curves, as they come.

A thread of its own talks to MLflow, so that a slow or absent server never holds a training up or
ends it. The run is tagged with the training's key; `publish` completes it, or writes the whole
run anew from the stage's files where this one is missing or has gaps.
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
SYSTEM = "system/"  # how MLflow's own metrics of the machine begin


class LiveRun:
    """Streams curves to a run of the experiment `recipe`; with no tracking address, to nobody.

    Use it in a `with` block; at its end what is left is sent, for a while. Where the block fails
    so does the run.
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
            known = {
                name: max(m.step for m in client.get_metric_history(run, name))
                for name in client.get_run(run).data.metrics
                if not name.startswith(SYSTEM)
            }
            with _system_metrics(run, str(self.tracking)):
                while not isinstance(point := self.points.get(), bool):
                    self._send(client, run, point, known)
            if point is False:  # else `publish` ends it
                client.set_terminated(run, "FAILED")
        except Exception as error:  # whatever it is, a training goes on without it
            from pipeline.registry.client import reason

            self.log.say(f"MLflow gets no live curves: {reason(error)}: publish writes them later")

    def _send(
        self, client: Any, run: str, point: tuple[int, dict[str, float]], known: dict[str, int]
    ) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        step, values = point
        new = [Metric(k, v, now, step) for k, v in values.items() if step > known.get(k, -1)]
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
    """Log what processor, memory, disk and GPU do, every ten seconds, as MLflow's own runs do
    (https://mlflow.org/docs/latest/ml/tracking/system-metrics/)."""
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run, resume_logging=True, tracking_uri=tracking)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()
