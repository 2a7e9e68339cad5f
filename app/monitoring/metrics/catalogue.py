"""The metric catalogue, its buckets, and the registry that bounds cardinality.

PROMETHEUS_MULTIPROC_DIR must be set before this module is imported: prometheus-client decides then, once and in
silence, whether values live in this process or in the shared directory.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from ..multiprocess import values

NAMESPACE = "baliblissed"
# 2.0 is the latency objective: an alert on "P99 > 2 s" can fire only where it is a boundary with others above it.
LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 5, 10)
AI_BUCKETS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)

MAX_SERIES_PER_METRIC = 10_000
MAX_NAME_LENGTH = 128
MAX_VALUE_LENGTH = 1_024
FORBIDDEN_LABELS = frozenset({"user_id", "session_id", "request_id", "email", "full_path"})
OVERFLOW = "__overflow__"
_FORBIDDEN_FOLDED = frozenset(name.replace("_", "") for name in FORBIDDEN_LABELS)


class CardinalityError(ValueError):
    """A metric was defined in a form that could grow without bound."""


class BoundedRegistry(CollectorRegistry):
    """A registry in which no metric can pass `max_series` label sets per process.

    Definitions with a forbidden label, or a name over 128 characters, raise CardinalityError. A label set that is
    new past the limit, or has a value over 1,024 characters, falls into one series whose every label is
    `__overflow__`, and `refused` counts it: an observation is never lost, and never raises at run time.
    """

    def __init__(self, max_series: int = MAX_SERIES_PER_METRIC) -> None:
        super().__init__()
        self.max_series = max_series
        self.exemplar_source: Callable[[], dict[str, str] | None] | None = None
        """Asked at each observation and increment without an exemplar: the current trace's ids, if it is kept."""
        self.refused = Counter(
            "metrics_series_refused_total",
            "Times a label set was refused and fell into the overflow series, by metric and reason.",
            ("metric", "reason"),
            namespace=NAMESPACE,
            registry=None,
        )
        super().register(self.refused)

    def register(self, collector: Collector) -> None:
        """Register a metric after checking its definition; its `labels` is bounded from now on."""
        if isinstance(collector, MetricWrapperBase):
            _check_definition(collector._name, collector._labelnames)  # noqa: SLF001 -- no public accessor exists
        super().register(collector)
        if isinstance(collector, MetricWrapperBase):
            # Methods are replaced on the instance: children are made from the class and stay as they are.
            if collector._labelnames:  # noqa: SLF001
                collector.labels = _bounded_labels(collector, self)  # type: ignore[method-assign]
            else:
                _with_exemplars(collector, self)


def _check_definition(name: str, labels: Sequence[str]) -> None:
    for part in (name, *labels):
        if len(part) > MAX_NAME_LENGTH:
            raise CardinalityError(f"{part[:40]}... has {len(part)} characters: want {MAX_NAME_LENGTH} or fewer")
    for label in labels:
        if is_forbidden_label(label):
            raise CardinalityError(f"{name}: label {label!r} has one value a user or request: put it into a log line")


def is_forbidden_label(name: str) -> bool:
    """Whether a label of this name, in whatever spelling, has one value a user or request."""
    return re.sub("[^a-z]", "", name.lower()) in _FORBIDDEN_FOLDED


def _bounded_labels(metric: MetricWrapperBase, registry: BoundedRegistry) -> Callable[..., Any]:
    original = metric.labels
    names = metric._labelnames  # noqa: SLF001
    overflow = (OVERFLOW,) * len(names)
    admission = Lock()

    def labels(*values: object, **by_name: object) -> MetricWrapperBase:
        if (values and by_name) or len(values or by_name) != len(names) or not by_name.keys() <= set(names):
            return original(*values, **by_name)  # which raises as the library does
        texts = tuple(map(str, values)) or tuple(str(by_name[name]) for name in names)
        known = metric._metrics  # noqa: SLF001 -- looked up each time: clear() replaces it
        if texts in known:
            return known[texts]
        with admission:  # two threads must not both take the last place
            if any(len(text) > MAX_VALUE_LENGTH for text in texts):
                reason = "value_too_long"
            elif len(known) - (overflow in known) >= registry.max_series:
                reason = "too_many_series"
            else:
                return _with_exemplars(original(*texts), registry)
        registry.refused.labels(metric._name, reason).inc()  # noqa: SLF001
        return original(*overflow)

    return labels


def _with_exemplars(child: MetricWrapperBase, registry: BoundedRegistry) -> MetricWrapperBase:
    """Have a histogram or counter take the exemplar of the current trace where its caller gives none."""

    def given(exemplar: dict[str, str] | None) -> dict[str, str] | None:
        return exemplar if exemplar or registry.exemplar_source is None else registry.exemplar_source()

    if isinstance(child, Histogram):
        observe = child.observe
        child.observe = lambda amount, exemplar=None: observe(amount, given(exemplar))  # type: ignore[method-assign]
    elif isinstance(child, Counter):
        inc = child.inc
        child.inc = lambda amount=1, exemplar=None: inc(amount, given(exemplar))  # type: ignore[method-assign]
    return child


@dataclass(frozen=True)
class Catalogue:
    """Every metric of ours, declared once. docs/metrics.md describes them in this order."""

    cache_hits: Counter
    cache_misses: Counter
    ai_requests: Counter
    ai_request_duration: Histogram
    ai_tokens: Counter
    circuit_breaker_state: Gauge
    rate_limited: Counter
    event_loop_lag: Histogram
    system_cpu: Gauge
    system_memory_used: Gauge
    system_memory_limit: Gauge
    system_disk_used: Gauge
    system_disk_size: Gauge
    build_info: Gauge
    workers: Gauge
    worker_boots: Counter
    worker_exits: Counter
    process_memory: Gauge
    process_cpu: Counter
    process_files: Gauge
    process_start: Gauge
    gc_collections: Counter
    gc_collected: Counter
    worker_lag: Gauge
    hook_errors: Counter
    log_lines_dropped: Counter
    exporter_restarts: Counter
    exporter_scrape_duration: Histogram
    exporter_processes: Gauge
    exporter_folds: Counter
    exporter_files: Gauge
    exporter_unreadable_files: Counter
    exporter_bytes: Gauge
    exporter_free_bytes: Gauge
    exporter_series: Gauge
    series_lost: Counter
    spans_dropped: Counter


def build_catalogue(registry: CollectorRegistry) -> Catalogue:
    """Declare the catalogue in `registry`; twice in one registry raises ValueError, as the library does."""

    def counter(name: str, text: str, *labels: str, namespace: str = NAMESPACE) -> Counter:
        return Counter(name, text, labels, namespace=namespace, registry=registry)

    def gauge(name: str, text: str, *labels: str, namespace: str = NAMESPACE) -> Gauge:
        return Gauge(name, text, labels, namespace=namespace, registry=registry, multiprocess_mode="livemostrecent")

    def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace=NAMESPACE, registry=registry, buckets=buckets)

    return Catalogue(
        cache_hits=counter("cache_hits_total", "Look-ups answered by the cache.", "cache"),
        cache_misses=counter("cache_misses_total", "Look-ups that had to load the value.", "cache"),
        ai_requests=counter("ai_requests_total", "AI requests by operation and outcome.", "operation", "outcome"),
        ai_request_duration=histogram(
            "ai_request_duration_seconds",
            "Time to an AI answer, upstream or offline.",
            AI_BUCKETS,
            "operation",
        ),
        ai_tokens=counter("ai_tokens_used_total", "Tokens as the upstream reports them.", "operation", "kind"),
        circuit_breaker_state=gauge("circuit_breaker_state", "0 closed, 1 half open, 2 open.", "breaker"),
        rate_limited=counter("rate_limited_requests_total", "Requests answered 429, by limit.", "limit"),
        event_loop_lag=histogram(
            "event_loop_lag_seconds", "How late the event loop woke a sleeping task.", LAG_BUCKETS
        ),
        system_cpu=gauge("system_cpu_usage_ratio", "CPU in use on the host, 0 to 1."),
        system_memory_used=gauge("system_memory_used_bytes", "Memory in use: the container's, else the host's."),
        system_memory_limit=gauge("system_memory_limit_bytes", "Memory there is: the container's, else the host's."),
        system_disk_used=gauge("system_disk_used_bytes", "Disk in use where the service runs."),
        system_disk_size=gauge("system_disk_size_bytes", "Disk there is where the service runs."),
        build_info=gauge("build_info", "1, with what runs in its labels.", "version", "python", "environment"),
        workers=gauge("workers", "Worker processes: live now, and configured.", "state"),
        worker_boots=counter("worker_boots_total", "Workers that were started."),
        worker_exits=counter("worker_exits_total", "Workers that ended, by reason.", "reason"),
        # What the library's own collectors say of a process, by worker: under several processes they fall silent.
        process_memory=gauge("process_resident_memory_bytes", "Resident memory.", "worker", namespace=""),
        process_cpu=counter("process_cpu_seconds_total", "User and system CPU time.", "worker", namespace=""),
        process_files=gauge("process_open_fds", "Open file descriptors.", "worker", namespace=""),
        process_start=gauge("process_start_time_seconds", "Start in Unix time.", "worker", namespace=""),
        gc_collections=counter(
            "python_gc_collections_total", "Garbage collections.", "worker", "generation", namespace=""
        ),
        gc_collected=counter(
            "python_gc_objects_collected_total", "Objects collected.", "worker", "generation", namespace=""
        ),
        worker_lag=gauge("worker_event_loop_lag_seconds", "The largest lag in the last seconds.", "worker"),
        hook_errors=counter("hook_errors_total", "Errors caught in a gunicorn hook.", "hook"),
        log_lines_dropped=counter("log_lines_dropped_total", "Log lines that were not written, by reason.", "reason"),
        exporter_restarts=counter("exporter_restarts_total", "Times the metrics exporter had to be started again."),
        exporter_scrape_duration=histogram(
            "exporter_scrape_duration_seconds", "Time to build one exposition.", LAG_BUCKETS
        ),
        exporter_processes=gauge("exporter_live_processes", "Processes that live and count here, this one included."),
        exporter_folds=counter("exporter_folded_processes_total", "Ended processes whose numbers went to the archive."),
        exporter_files=gauge("exporter_files", "Files in the metrics directory."),
        exporter_unreadable_files=counter(
            "exporter_unreadable_files_total", "Metric files that could not be read and were set aside."
        ),
        exporter_bytes=gauge("exporter_directory_bytes", "Disk blocks held by the metrics directory."),
        exporter_free_bytes=gauge("exporter_directory_free_bytes", "Room left where the metrics directory is."),
        exporter_series=gauge("exporter_series", "Label sets of each metric, over all processes.", "metric"),
        series_lost=counter("metrics_series_lost_total", "Series that found no room in the metrics directory."),
        spans_dropped=counter("spans_dropped_total", "Spans that were not delivered, by reason.", "reason"),
    )


# Before the first metric is made: it is written through whatever class is in place then.
values.install()


@cache
def registry() -> BoundedRegistry:
    """The registry of this process. Give it to every metric of your own: only what is in it is bounded."""
    return BoundedRegistry()


@cache
def catalogue() -> Catalogue:
    """The catalogue of this process."""
    return build_catalogue(registry())
