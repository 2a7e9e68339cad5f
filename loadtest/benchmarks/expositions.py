"""The two sides' expositions of one directory, and whether they say the same."""

import glob
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics

from loadtest.benchmarks.command import BenchmarkError

ACCEPT = {"text": "", "openmetrics": "application/openmetrics-text; version=1.0.0"}
"""The Accept header by format."""
_ENCODE: dict[str, Callable[[CollectorRegistry], bytes]] = {
    "text": generate_latest,
    "openmetrics": openmetrics.generate_latest,
}
# The library adds up in the order of the files, which rounds.
ROUNDING = 1e-9
MAX_SHOWN = 5


class LibraryCollector:
    """The library's MultiProcessCollector without the package's archive, which it would read in this process."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Return the families of the files, as the library's own `collect` does."""
        files = glob.glob(f"{self._directory}/*.db")  # noqa: PTH207
        found: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return found


def library_exposition(directory: Path, form: str) -> bytes:
    """Return the library's exposition of a directory as its documentation makes it: a registry a scrape."""
    registry = CollectorRegistry()
    registry.register(LibraryCollector(str(directory)))
    return _ENCODE[form](registry)


def samples(exposition: bytes, prefix: str = "") -> dict[str, float]:
    """Return the values of the metrics that begin with `prefix`, by the part of the line before each value."""
    found = {}
    for line in exposition.decode().splitlines():
        if line.startswith(prefix) and not line.startswith("#"):
            series, _, value = line.rpartition(" ")
            found[series] = float(value)
    return found


def must_agree(ours: bytes, library: bytes, prefix: str = "") -> int:
    """Return the number of samples, equal on both sides up to rounding. Raises BenchmarkError with the differences."""
    one, other = samples(ours, prefix), samples(library, prefix)
    differences = [
        f"{series}: ours {one.get(series)}, the library {other.get(series)}"
        for series in sorted(one.keys() | other.keys())
        if not _equal(one.get(series), other.get(series))
    ]
    if differences or not one:
        shown = "\n".join(differences[:MAX_SHOWN]) or "there are no samples"
        raise BenchmarkError(f"both sides should say the same and differ in {len(differences)} samples:\n{shown}")
    return len(one)


def _equal(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and math.isclose(one, other, rel_tol=ROUNDING)


def changed_share(before: bytes, after: bytes) -> float:
    """Return the share of the lines that differ between two expositions of the same series."""
    pairs = list(zip(before.splitlines(), after.splitlines(), strict=True))
    return sum(one != other for one, other in pairs) / len(pairs)
