"""What Prometheus is told: counters beside the work, gauges read when they are asked for."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from pipeline.serving.batching import Batcher

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06, 0.1, 0.2, 0.5, 1, 2.5, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One server's numbers, in a registry of its own."""

    def __init__(self, batcher: Batcher) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "bertline_requests", "Requests answered", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "bertline_request_seconds",
            "From a request's header to its answer",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.rows = Counter("bertline_rows", "Texts or pairs answered", registry=self.registry)
        self.batches = Histogram(
            "bertline_batch_rows",
            "Rows that a model was given at once",
            buckets=ROWS,
            registry=self.registry,
        )
        self.model_seconds = Histogram(
            "bertline_batch_seconds", "A batch's time", buckets=SECONDS, registry=self.registry
        )
        self.feedback = Counter(
            "bertline_feedback", "Labels sent back", ["consent"], registry=self.registry
        )
        self.registry.register(_Now(batcher))
        ProcessCollector(registry=self.registry)
        self.counts: dict[tuple[str, int], Counter] = {}
        self.times: dict[str, Histogram] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """`route` is one of few, never what a stranger wrote."""
        count = self.counts.get((route, status))
        if count is None:
            count = self.counts[route, status] = self.requests.labels(route, str(status))
        time = self.times.get(route)
        if time is None:
            time = self.times[route] = self.seconds.labels(route)
        count.inc()
        time.observe(seconds)

    def batch(self, rows: int, seconds: float) -> None:
        self.batches.observe(rows)
        self.model_seconds.observe(seconds)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)


class _Now:
    """Numbers that somebody else keeps."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher

    def collect(self) -> Iterator[Metric]:
        now = self.batcher
        name = now.version.name if now.version else ""
        yield InfoMetricFamily("bertline_version", "The version that answers", {"version": name})
        yield GaugeMetricFamily("bertline_ready", "Whether it is the right one", int(now.ready))
        yield GaugeMetricFamily("bertline_queue_rows", "Rows that wait", now.waiting)
        yield GaugeMetricFamily(
            "bertline_queue_most_rows", "That may wait or be worked at", now.most_inside
        )
        yield CounterMetricFamily("bertline_swaps", "Versions that took over", now.swaps)
        yield CounterMetricFamily(
            "bertline_refused_versions", "Versions that were not let in", now.refusals
        )
