"""The families of a directory as prometheus-client's collectors yield them, for its MultiProcessCollector.

That collector reads the files of processes and knows nothing of the archive: an old /metrics route would lose what
ended workers have counted, and would fail if a file is removed while it reads. In processes that use this package it
therefore answers from the package's own reader, where the directory is one of the package's.
"""

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.utils import floatToGoString

from .aggregate import directory, of_directory
from .directory import ARCHIVE
from .layout import Key, parse
from .names import Labels
from .reader import DirectoryGoneError, Reader
from .table import FIRST, Table

Collect = Callable[[MultiProcessCollector], Iterable[Metric]]


def families(reader: Reader) -> list[Metric]:
    """Return the families of the last reading, sorted by name. Exemplars are left out, as the library does."""
    found: dict[str, Metric] = {}
    for kind, table in reader.tables.items():
        buckets: dict[tuple[str, Labels], dict[float, float]] = defaultdict(lambda: defaultdict(float))
        for key, total in _samples(table):
            family = found.setdefault(key.metric, Metric(key.metric, key.help, kind))
            bound = dict(key.labels).get("le") if key.sample == f"{key.metric}_bucket" else None
            if bound is None:
                family.add_sample(key.sample, dict(key.labels), total)
            else:
                labels = tuple(pair for pair in key.labels if pair[0] != "le")
                buckets[key.metric, labels][float(bound)] += total
        for (name, labels), counts in buckets.items():
            _add_cumulative(found[name], labels, counts)
    for name, (documentation, values) in reader.gauges.merged().items():
        found[name] = Metric(name, documentation, "gauge")
        for labels, value in values.items():
            found[name].add_sample(name, dict(labels), value)
    return [found[name] for name in sorted(found)]


def _samples(table: Table) -> Iterator[tuple[Key, float]]:
    for raw, total in zip(table.names[FIRST:], table.numbers.totals[FIRST:], strict=True):
        yield parse(raw), total


def _add_cumulative(family: Metric, labels: Labels, counts: dict[float, float]) -> None:
    below = 0.0
    for bound in sorted(counts):
        below += counts[bound]
        le = str(floatToGoString(bound))  # type: ignore[no-untyped-call]
        family.add_sample(f"{family.name}_bucket", {**dict(labels), "le": le}, below)
    family.add_sample(f"{family.name}_count", dict(labels), below)


def install(max_series: Callable[[], int]) -> None:
    """Make MultiProcessCollector add the archive to the files of a directory of this package.

    `max_series` returns the limit of label sets a metric.
    """
    original: Collect = MultiProcessCollector.collect
    if not hasattr(original, "_reads_archive"):
        collect = _collecting(original, max_series)
        collect._reads_archive = True  # type: ignore[attr-defined]  # noqa: SLF001
        MultiProcessCollector.collect = collect  # type: ignore[method-assign]


def _collecting(original: Collect, max_series: Callable[[], int]) -> Collect:
    @functools.wraps(original)
    def collect(self: MultiProcessCollector) -> Iterable[Metric]:
        path = Path(self._path)
        if path != directory() and not (path / ARCHIVE).exists():
            return original(self)
        try:
            return of_directory(path, max_series()).read(families)
        except DirectoryGoneError:
            return []

    return collect
