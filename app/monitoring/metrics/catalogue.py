"""The metrics that the package declares, and their buckets."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ..multiprocess.aggregate import Account
from ..multiprocess.entries import REASONS
from .late_gauge import LateGauge
from .registry import current_namespace, registry

# 2.0 is the latency objective: an alert on "P99 > 2 s" can fire only if 2.0 is a boundary with others above it.
LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 5, 10)
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


@dataclass(frozen=True)
class Catalogue:
    """The package's own metrics: event loop, host, readiness, process, workers, exporter, logs, spans."""

    event_loop_lag: Histogram
    system_cpu: Gauge
    system_memory_used: Gauge
    system_memory_limit: Gauge
    system_disk_used: Gauge
    system_disk_size: Gauge
    ready: Gauge
    dependency_up: Gauge
    build_info: Gauge
    workers: Gauge
    worker_boots: Counter
    worker_exits: Counter
    worker_generation: Gauge
    process_memory: Gauge
    process_cpu: Counter
    process_files: Gauge
    process_start: Gauge
    gc_collections: Counter
    gc_collected: Counter
    worker_lag: Gauge
    connections_open: Gauge
    requests_in_flight: Gauge
    requests_queued: Gauge
    requests_shed: Counter
    hook_errors: Counter
    log_lines_dropped: Counter
    exporter_restarts: Counter
    exporter_scrape_duration: Histogram
    exporter_processes: Gauge
    exporter_folds: Counter
    exporter_files: Gauge
    exporter_unreadable_files: Counter
    exporter_entries_left_out: Counter
    exporter_hidden_metrics: Counter
    exporter_bytes: Gauge
    exporter_free_bytes: Gauge
    exporter_series: Gauge
    series_lost: Counter
    writes_refused: Counter
    spans_dropped: Counter
    caller_samples: Counter
    connections_rejected: Counter


@dataclass(frozen=True)
class _Declaring:
    """Make metrics in `registry`, under `namespace` unless another one is given."""

    registry: CollectorRegistry
    namespace: str

    def counter(self, name: str, text: str, *labels: str, namespace: str | None = None) -> Counter:
        return Counter(name, text, labels, namespace=self._of(namespace), registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str, namespace: str | None = None) -> Gauge:
        namespace = self._of(namespace)
        return Gauge(
            name, text, labels, namespace=namespace, registry=self.registry, multiprocess_mode="livemostrecent"
        )

    def worst(self, name: str, text: str, *labels: str) -> LateGauge:
        """Make a gauge of which the smallest value of a living process counts."""
        return LateGauge(
            name, text, labels, namespace=self.namespace, registry=self.registry, multiprocess_mode="livemin"
        )

    def histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, text, labels, namespace=self.namespace, registry=self.registry, buckets=buckets)

    def _of(self, namespace: str | None) -> str:
        return self.namespace if namespace is None else namespace


def build_catalogue(registry: CollectorRegistry) -> Catalogue:
    """Declare the catalogue in `registry`. Raise ValueError if it is declared there already, as the library does."""
    declaring = _Declaring(registry, current_namespace())
    counter, gauge, histogram = declaring.counter, declaring.gauge, declaring.histogram
    generation = ("worker", "generation")
    return Catalogue(
        event_loop_lag=histogram("event_loop_lag_seconds", "How late the event loop woke a task.", LAG_BUCKETS),
        system_cpu=gauge("system_cpu_usage_ratio", "CPU in use on the host, 0 to 1."),
        system_memory_used=gauge("system_memory_used_bytes", "Memory in use: the container's, else the host's."),
        system_memory_limit=gauge("system_memory_limit_bytes", "Memory there is: the container's, else the host's."),
        system_disk_used=gauge("system_disk_used_bytes", "Disk in use where the service runs."),
        system_disk_size=gauge("system_disk_size_bytes", "Disk there is where the service runs."),
        ready=declaring.worst("ready", "1 if every worker's required checks passed at its last run, else 0."),
        dependency_up=declaring.worst("dependency_up", "1 if every worker reached it last, else 0.", "dependency"),
        build_info=gauge("build_info", "1, with what runs in its labels.", "version", "python", "environment"),
        workers=gauge("workers", "Worker processes: live now, and configured.", "state"),
        worker_boots=counter("worker_boots_total", "Workers that were started."),
        worker_exits=counter("worker_exits_total", "Workers that ended, by reason.", "reason"),
        worker_generation=gauge("worker_generation", "Reloads before the worker was started.", "worker"),
        # Named like the library's process collectors, which export nothing in multiprocess mode, plus a `worker` label.
        process_memory=gauge("process_resident_memory_bytes", "Resident memory.", "worker", namespace=""),
        process_cpu=counter("process_cpu_seconds_total", "User and system CPU time.", "worker", namespace=""),
        process_files=gauge("process_open_fds", "Open file descriptors.", "worker", namespace=""),
        process_start=gauge("process_start_time_seconds", "Start in Unix time.", "worker", namespace=""),
        gc_collections=counter("python_gc_collections_total", "Garbage collections.", *generation, namespace=""),
        gc_collected=counter("python_gc_objects_collected_total", "Objects collected.", *generation, namespace=""),
        worker_lag=gauge("worker_event_loop_lag_seconds", "The largest lag in the last seconds.", "worker"),
        connections_open=gauge("connections_open", "Connections of clients.", "worker"),
        requests_in_flight=gauge(
            "requests_in_flight", "Requests that hold a slot of MAX_IN_FLIGHT; without it all that run.", "worker"
        ),
        requests_queued=gauge("requests_queued", "Requests that wait for a slot.", "worker"),
        requests_shed=counter("requests_shed_total", "Requests answered 503 under overload, by reason.", "reason"),
        hook_errors=counter("hook_errors_total", "Errors caught in a gunicorn hook.", "hook"),
        log_lines_dropped=counter("log_lines_dropped_total", "Log lines that were not written, by reason.", "reason"),
        **_exporter_metrics(declaring),
        spans_dropped=counter("spans_dropped_total", "Spans that were not delivered, by reason.", "reason"),
        caller_samples=counter("caller_samples_total", "Requests that callers alone have sampled.", "decision"),
        connections_rejected=counter(
            "connections_rejected_total", "Connections that were ended for a malformed request or a limit.", "reason"
        ),
    )


def _exporter_metrics(declaring: _Declaring) -> dict[str, Any]:
    """Declare the metrics of the exporter, and of series that cannot be stored."""
    counter, gauge, histogram = declaring.counter, declaring.gauge, declaring.histogram
    return {
        "exporter_restarts": counter("exporter_restarts_total", "Times the metrics exporter had to be started again."),
        "exporter_scrape_duration": histogram(
            "exporter_scrape_duration_seconds", "Time to build one exposition.", LAG_BUCKETS
        ),
        "exporter_processes": gauge(
            "exporter_live_processes", "Processes that live and count here, this one included."
        ),
        "exporter_folds": counter(
            "exporter_folded_processes_total", "Ended processes whose numbers went to the archive."
        ),
        "exporter_files": gauge("exporter_files", "Files in the metrics directory."),
        "exporter_unreadable_files": counter(
            "exporter_unreadable_files_total", "Metric files that could not be read and were set aside."
        ),
        "exporter_entries_left_out": counter(
            "exporter_entries_left_out_total", "Entries of metric files that were left out, by reason.", "reason"
        ),
        "exporter_hidden_metrics": counter(
            "exporter_hidden_metrics_total", "Metrics hidden for an equal name.", "metric"
        ),
        "exporter_bytes": gauge("exporter_directory_bytes", "Disk blocks held by the metrics directory."),
        "exporter_free_bytes": gauge("exporter_directory_free_bytes", "Room left where the metrics directory is."),
        "exporter_series": gauge("exporter_series", "Label sets of each metric, over all processes.", "metric"),
        "series_lost": counter("metrics_series_lost_total", "Series that found no room in the metrics directory."),
        "writes_refused": counter(
            "metrics_writes_refused_total",
            "Series and amounts that a process has refused to write, by metric and reason.",
            *("metric", "reason"),
        ),
    }


@cache
def catalogue() -> Catalogue:
    """Return this process's catalogue. Created at the first call."""
    return build_catalogue(registry())


def account() -> Account:
    """Return callbacks that count an aggregate's work in the exporter's metrics of the catalogue."""
    ours = catalogue()
    for reason in REASONS:  # from 0, so that an increase shows the first entry too
        ours.exporter_entries_left_out.labels(reason)
    return Account(
        folded=ours.exporter_folds.inc,
        left_out=lambda reason, entries: ours.exporter_entries_left_out.labels(reason).inc(entries),
        unreadable=ours.exporter_unreadable_files.inc,
        hidden=lambda metric: ours.exporter_hidden_metrics.labels(metric).inc(),
        refused=lambda metric, sets: registry().refused.labels(metric, "too_many_series").inc(sets),
    )
