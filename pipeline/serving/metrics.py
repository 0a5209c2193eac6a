"""Prometheus metrics: counters updated while serving, gauges read at each scrape."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from pipeline.serving.batching import Batcher

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.045, 0.06, 0.1, 0.2, 0.5, 1, 2.5, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Metrics of one server, in a registry of their own."""

    def __init__(self, batcher: Batcher) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "bertline_requests", "Requests answered", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "bertline_request_seconds",
            "Seconds from a request's header to its answer",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.rows = Counter("bertline_rows", "Texts or pairs answered", registry=self.registry)
        self.batches = Histogram(
            "bertline_batch_rows",
            "Rows in a batch",
            buckets=ROWS,
            registry=self.registry,
        )
        self.model_seconds = Histogram(
            "bertline_batch_seconds", "Seconds per batch", buckets=SECONDS, registry=self.registry
        )
        self.feedback = Counter(
            "bertline_feedback", "Labels sent as feedback", ["consent"], registry=self.registry
        )
        self.registry.register(_BatcherMetrics(batcher))
        ProcessCollector(registry=self.registry)
        self.counts: dict[tuple[str, int], Counter] = {}
        self.times: dict[str, Histogram] = {}

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request. `route` is one of few values, never a client's path."""
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
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


class _BatcherMetrics:
    """Collector of the values that the batcher holds."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher

    def collect(self) -> Iterator[Metric]:
        batcher = self.batcher
        name = batcher.version.name if batcher.version else ""
        yield InfoMetricFamily("bertline_version", "Version in use", {"version": name})
        yield GaugeMetricFamily(
            "bertline_ready", "1 if the version in use is confirmed", int(batcher.ready)
        )
        yield GaugeMetricFamily("bertline_queue_rows", "Rows that wait", batcher.waiting)
        yield GaugeMetricFamily(
            "bertline_queue_most_rows",
            "Limit of rows that wait or are in a batch",
            batcher.most_inside,
        )
        yield CounterMetricFamily("bertline_swaps", "Changes of the version", batcher.swaps)
        yield CounterMetricFamily(
            "bertline_refused_versions", "Versions that were refused", batcher.refusals
        )
