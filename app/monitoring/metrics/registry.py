"""The registry of this process, which bounds the number of series of each metric.

Constraint: PROMETHEUS_MULTIPROC_DIR must be set before this module is imported. prometheus-client decides once, at its
import and without a message, whether values are in memory or in the shared directory.
"""

import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from ..multiprocess import families, values
from ..multiprocess.labels import MAX_SERIES_PER_METRIC, OVERFLOW, CardinalityError, is_forbidden_label
from ..multiprocess.names import check_labels, check_names, is_legacy

NAMESPACE_VARIABLE = "METRICS_NAMESPACE"
DEFAULT_NAMESPACE = "app"
MAX_NAME_LENGTH = 128
MAX_VALUE_LENGTH = 1_024


class BoundedRegistry(CollectorRegistry):
    """A registry that limits each metric to `max_series` label sets per process.

    Raise CardinalityError if a definition has a forbidden label or a name over 128 characters. Raise
    AmbiguousNameError, a ValueError, if the name of a metric or label equals another one after escaping, or cannot be
    exposed. A new label set past the limit, or one with a value over 1,024 characters, is mapped to one series whose
    every label is `__overflow__`, and counted in `refused`: an observation is never lost, and never raises at run time.
    """

    def __init__(self, max_series: int = MAX_SERIES_PER_METRIC, namespace: str | None = None) -> None:
        super().__init__()
        self._has_escaped_names = False
        self.max_series = max_series
        self.namespace = current_namespace() if namespace is None else namespace
        """Prefix of the names of the package's own metrics."""
        self.exemplar_source: Callable[[], dict[str, str] | None] | None = None
        """Called for observations and increments without an exemplar: returns the ids of a trace that is kept."""
        self.refused = Counter(
            "metrics_series_refused_total",
            "Times a label set was refused and fell into the overflow series, by metric and reason.",
            ("metric", "reason"),
            namespace=self.namespace,
            registry=None,
        )
        super().register(self.refused)

    def register(self, collector: Collector) -> None:
        """Check a metric's definition, register it and bound its `labels`."""
        if isinstance(collector, MetricWrapperBase):
            _check_definition(collector._name, collector._labelnames)  # noqa: SLF001 -- no public accessor exists
        self._check_names(collector)
        super().register(collector)
        if isinstance(collector, MetricWrapperBase):
            # Methods are replaced on the instance: children are created from the class and stay unchanged.
            if collector._labelnames:  # noqa: SLF001
                collector.labels = _bounded_labels(collector, self)  # type: ignore[method-assign]
            else:
                _with_exemplars(collector, self)

    def _check_names(self, collector: Collector) -> None:
        """Raise AmbiguousNameError if a name of a metric equals one of another metric after escaping."""
        names = self._get_names(collector)  # type: ignore[no-untyped-call]
        self._has_escaped_names = self._has_escaped_names or not all(map(is_legacy, names))
        if self._has_escaped_names:  # legacy names differ under every scheme
            check_names(names, self._names_to_collectors)


def _check_definition(name: str, labels: Sequence[str]) -> None:
    for part in (name, *labels):
        if len(part) > MAX_NAME_LENGTH:
            raise CardinalityError(f"{part[:40]}... has {len(part)} characters: want {MAX_NAME_LENGTH} or fewer")
    for label in labels:
        if is_forbidden_label(label):
            raise CardinalityError(f"{name}: label {label!r} has one value a user or request: put it into a log line")
    check_labels(name, labels)


def _bounded_labels(metric: MetricWrapperBase, registry: BoundedRegistry) -> Callable[..., Any]:
    original = metric.labels
    names = metric._labelnames  # noqa: SLF001
    overflow = (OVERFLOW,) * len(names)
    admission = Lock()

    def labels(*values: object, **by_name: object) -> MetricWrapperBase:
        if (values and by_name) or len(values or by_name) != len(names) or not by_name.keys() <= set(names):
            return original(*values, **by_name)  # raises the library's error
        texts = tuple(map(str, values)) or tuple(str(by_name[name]) for name in names)
        known = metric._metrics  # noqa: SLF001 -- looked up each time: clear() replaces it
        if texts in known:
            return known[texts]
        with admission:  # two threads must not both get the last series
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
    """Make a histogram or counter use the exemplar of the current trace if the caller passes none."""

    def or_current(exemplar: dict[str, str] | None) -> dict[str, str] | None:
        return exemplar if exemplar or registry.exemplar_source is None else registry.exemplar_source()

    if isinstance(child, Histogram):
        observe = child.observe
        child.observe = lambda amount, exemplar=None: observe(amount, or_current(exemplar))  # type: ignore[method-assign]
    elif isinstance(child, Counter):
        inc = child.inc
        child.inc = lambda amount=1, exemplar=None: inc(amount, or_current(exemplar))  # type: ignore[method-assign]
    return child


def current_namespace() -> str:
    """Return the namespace of the package's own metrics: METRICS_NAMESPACE, else `app`."""
    return os.environ.get(NAMESPACE_VARIABLE) or DEFAULT_NAMESPACE


def use_namespace(namespace: str) -> None:
    """Name the package's own metrics `<namespace>_...` in this process and its children.

    Raise ValueError if `namespace` is not a metric name, RuntimeError if the registry was created with another one.
    """
    if not re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", namespace):
        raise ValueError(f"namespace {namespace!r}: want letters, digits and underscores, and no digit first")
    if registry.cache_info().currsize and registry().namespace != namespace:
        raise RuntimeError(f"metrics were made as {registry().namespace}_...: set the namespace {namespace!r} before")
    os.environ[NAMESPACE_VARIABLE] = namespace


# Before the first metric is created: prometheus-client takes the value class at that moment.
values.install()


@cache
def registry() -> BoundedRegistry:
    """Return the registry of this process. Only metrics in it are bounded."""
    return BoundedRegistry()


families.install(lambda: registry().max_series)


def prepare(namespace: str, max_series: int) -> BoundedRegistry:
    """Return the registry of this process with its namespace and its limit set.

    Raise RuntimeError if it was made with another namespace.
    """
    use_namespace(namespace)
    prepared = registry()
    prepared.max_series = max_series
    return prepared
