"""Checks that metrics are written to the shared directory."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Enum, Info
from prometheus_client import values as library
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.mmap_dict import MmapedDict

from ..multiprocess import values
from .declared import PACKAGE, Declared
from .finding import Finding, listed

PROBE = "probe"
AMOUNT = 3.0
_PARTS = ("_value", "_count", "_sum", "_buckets")


class _Probe(Counter):
    """A counter in a file of its own kind: the aggregate reads counters, gauges, histograms and summaries only."""

    _type = PROBE


def private_values(declared: Declared) -> Iterator[Finding]:
    """Find metrics whose values are not in the package's files: they were made too early."""
    by_class: dict[str, list[str]] = {}
    modules: dict[str, list[str]] = {}
    for metric in declared.metrics:
        if isinstance(metric, Info | Enum):
            continue  # they have no values to share: see kinds.py
        foreign = next((value for value in _values(metric) if not isinstance(value, values.SharedValue)), None)
        if foreign is not None:
            by_class.setdefault(type(foreign).__name__, []).append(declared.named(metric))
            modules.setdefault(type(foreign).__name__, []).extend(declared.modules(metric))
    for name, metrics in sorted(by_class.items()):
        if name == library.MutexValue.__name__:
            yield Finding(
                "single-process-metric",
                "error",
                f"made before {values.DIRECTORY} was set: {listed(metrics)}",
                "each worker counts for itself and no scrape shows it",
                f"set {values.DIRECTORY} before anything imports prometheus_client, also in an __init__.py",
            )
        else:
            yield Finding(
                "early-metric",
                "error",
                f"made before this package was set up: {listed(metrics)}",
                "the library's own files outlive their worker: gauges of ended workers stay in the totals",
                f"call start_worker(), or Observability(...).gunicorn() in gunicorn_conf.py, before importing "
                f"{listed(modules[name]) or 'the modules that declare metrics'}, also in an __init__.py",
            )


def value_class() -> Iterator[Finding]:
    """Increment a counter and read it back from this process's file, which is removed again."""
    if library.ValueClass is not values.SharedValue:
        yield Finding(
            "value-class",
            "error",
            f"prometheus_client makes values of class {library.ValueClass.__name__}",
            "metrics are not written to the shared directory, so scrapes miss them",
            f"set {values.DIRECTORY} before importing {PACKAGE}, and let nothing replace"
            " prometheus_client.values.ValueClass",
        )
        return
    process = values.process()
    refused = process.refused
    try:
        _Probe("doctor_probe", "Probe of the doctor.", registry=None).inc(AMOUNT)
        if process.refused > refused:
            # Not an error: a worker that is replaced while the disk is full must not end the service.
            yield Finding(
                "directory-full",
                "warning",
                f"{values.DIRECTORY}={os.environ[values.DIRECTORY]!r} takes no new file",
                "new series are not counted",
                "make room there, or a larger file system",
            )
        elif AMOUNT not in _written(Path(os.environ[values.DIRECTORY]) / f"{PROBE}_{process.identity}.db"):
            yield Finding(
                "value-lost",
                "error",
                f"a counter's value does not arrive in {values.DIRECTORY}={os.environ[values.DIRECTORY]!r}",
                "scrapes read that directory, so they show none of this process's numbers",
                f"let nothing change {values.DIRECTORY} after the start",
            )
    finally:
        process.refused = refused
        process.discard(PROBE)


def _written(path: Path) -> list[float]:
    try:
        read = MmapedDict.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
        return [value for _, value, _, _ in read]
    except OSError:
        return []


def _values(metric: MetricWrapperBase) -> Iterator[Any]:
    """Yield the value objects of a metric and of its label sets."""
    children = list(getattr(metric, "_metrics", {}).values())
    for one in (metric, *children):
        for part in _PARTS:
            value = vars(one).get(part)
            if isinstance(value, list):
                yield from value
            elif value is not None:
                yield value
