"""Checks for metrics that several processes cannot share, and for labels that hide a metric."""

from collections.abc import Callable, Iterator

from prometheus_client import REGISTRY, Enum, Gauge, GCCollector, Info, PlatformCollector, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ..metrics.registry import registry as bounded_registry
from ..multiprocess.labels import is_forbidden_label
from .declared import Declared, collectors
from .finding import Finding, listed

# The library registers them itself; the package declares the same figures by worker.
_REPLACED = (ProcessCollector, PlatformCollector, GCCollector)

_BY_PROCESS = frozenset({"all", "liveall"})


def lost_kinds(declared: Declared) -> Iterator[Finding]:
    """Find Info and Enum metrics, and collectors of others, in the registries that are exposed."""
    exposed = [collector for registry in (REGISTRY, bounded_registry()) for collector in collectors(registry)]
    for kind, remedy in (
        (Info, "a Gauge that is 1, with the texts as labels and multiprocess_mode='mostrecent'"),
        (Enum, "a Gauge with a label for the state, set to 1 or 0, and multiprocess_mode='mostrecent'"),
    ):
        names = [declared.named(metric) for metric in exposed if isinstance(metric, kind)]
        if names:
            yield Finding(
                "lost-kind",
                "warning",
                f"{kind.__name__} metrics: {listed(names)}",
                "they exist in one process only, and no scrape shows them",
                remedy,
            )
    custom = [_described(collector, declared) for collector in exposed if _is_custom(collector)]
    if custom:
        yield Finding(
            "lost-collector",
            "warning",
            f"custom collectors: {listed(custom)}",
            "collect() runs at a scrape of one process only, and no scrape of the service calls it",
            "set gauges from a task of the lifespan, or in a function that the exporter calls: name it in"
            " Observability.gunicorn(collectors=...), without gunicorn in the exporter's --collect",
        )


def gauges_by_process(declared: Declared) -> Iterator[Finding]:
    """Find gauges with a series for each process, the library's default, in the registries that are exposed."""
    exposed = [collector for registry in (REGISTRY, bounded_registry()) for collector in collectors(registry)]
    names = [
        declared.named(gauge)
        for gauge in exposed
        if isinstance(gauge, Gauge) and gauge._multiprocess_mode in _BY_PROCESS  # noqa: SLF001 -- no public accessor
    ]
    if names:
        yield Finding(
            "gauge-by-process",
            "warning",
            f"gauges of the mode all, which is the default, or liveall: {listed(names)}",
            "each process has a series of its own with a pid, and with all it stays when the process has ended",
            "multiprocess_mode='livesum', 'livemax' or 'livemostrecent'",
        )


def lost_functions(declared: Declared) -> Iterator[Finding]:
    """Find metrics whose value comes from a function."""
    names = [declared.named(metric) for metric in declared.metrics if any(map(_has_function, _with_children(metric)))]
    if names:
        yield Finding(
            "value-function",
            "error",
            f"set_function() was called on: {listed(names)}",
            "the function is never called at a scrape, which shows 0",
            "call set() where the value changes, or from a task of the lifespan",
        )


def hidden_metrics(declared: Declared) -> Iterator[Finding]:
    """Find labels that the aggregate refuses: a series with one is left out of every scrape."""
    for metric in declared.metrics:
        labels = [label for label in metric._labelnames if is_forbidden_label(label)]  # noqa: SLF001
        if labels:
            yield Finding(
                "forbidden-label",
                "error",
                f"{declared.named(metric)} has the label {listed(labels)}",
                "it has a value for each user or request, so the metric is left out of every scrape",
                "remove the label, and write the value into a log line",
            )


def _has_function(metric: MetricWrapperBase) -> bool:
    return "_child_samples" in vars(metric)


def _with_children(metric: MetricWrapperBase) -> list[MetricWrapperBase]:
    return [metric, *getattr(metric, "_metrics", {}).values()]


def _is_custom(collector: Collector) -> bool:
    if isinstance(collector, MetricWrapperBase):
        return _collect_of(collector) is not MetricWrapperBase.collect
    return not isinstance(collector, (*_REPLACED, MultiProcessCollector))


def _collect_of(collector: Collector) -> Callable[..., object]:
    return type(collector).collect


def _described(collector: Collector, declared: Declared) -> str:
    if isinstance(collector, MetricWrapperBase):
        return declared.named(collector)
    return f"{type(collector).__module__}.{type(collector).__qualname__}"
