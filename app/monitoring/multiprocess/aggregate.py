"""One exposition of what all processes counted: from the shared directory where there is one, else from a registry."""

import gzip
import os
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

from .directory import epoch
from .folder import Folder
from .labels import MAX_SERIES_PER_METRIC
from .reader import Reader

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("aggregate")
OPENMETRICS = "application/openmetrics-text"
# The sizes and speeds of the levels differ little on this text.
GZIP_LEVEL = 1
SMALLEST_TO_PACK = 1024


def _ignore(*_: object) -> None:
    """Count nothing."""


@dataclass(frozen=True)
class Account:
    """Callbacks through which an aggregate that folds counts its own work; by default nothing is counted."""

    folded: Callable[[int], object] = _ignore
    """Called with how many ended processes went to the archive."""
    unreadable: Callable[[], object] = _ignore
    """Called for each file that could not be read."""
    refused: Callable[[str, int], object] = _ignore
    """Called with a metric and how many of its label sets were past the limit over all processes."""


def directory() -> Path | None:
    """The shared metrics directory of this process; None in single-process mode."""
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(path) if path else None


class Aggregate:
    """The expositions of a directory, from as many threads as may be. The one that `folds` also keeps the archive."""

    def __init__(
        self, path: Path, *, folds: bool = False, max_series: int = MAX_SERIES_PER_METRIC, account: Account = Account()
    ) -> None:
        self.folder = Folder(path) if folds else None
        self.path = path
        self._max_series = max_series
        self._account = account
        self._lock = threading.Lock()
        self._single_flight = SingleFlight()
        self._bad: set[Path] = set()
        self._begin()

    def _begin(self) -> None:
        self._epoch = epoch(self.path)
        self._counted: dict[str, int] = {}
        self.reader = Reader(self.path, self._max_series, self._on_bad)

    def exposition(self, accept: str, *, pack: bool = False) -> tuple[bytes, str]:
        """The exposition that `accept` asks for, gzipped if `pack`, and its content type.

        Requests that come while one is being made get the same. Raises DirectoryGoneError, RestlessError.
        """
        openmetrics = choose_encoder(accept)[1].startswith(OPENMETRICS)
        body = self._single_flight.join((openmetrics, pack), lambda: self._make(openmetrics=openmetrics, pack=pack))
        if openmetrics:
            return body, f"{CONTENT_TYPE_LATEST}; escaping=underscores"
        return body, CONTENT_TYPE_PLAIN_0_0_4

    def _make(self, *, openmetrics: bool, pack: bool) -> bytes:
        with self._lock:
            self._refresh()
            body = self._body(openmetrics=openmetrics)
        return gzip.compress(body, GZIP_LEVEL, mtime=0) if pack and len(body) >= SMALLEST_TO_PACK else body

    def refresh(self) -> None:
        """Fold the dead and read the directory, without an exposition."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        if epoch(self.path) != self._epoch:
            self._begin()  # another service has begun here: nothing of the last one's goes on
        self.reader.refresh()
        if self.folder is not None:
            self._fold(self.folder)
            self._count_refused()

    def _fold(self, folder: Folder) -> None:
        """Fold who has ended since; a full directory must not cost the scrape."""
        before = folder.folded
        try:
            if folder.in_charge():
                folder.fold(self.reader)
        except OSError as error:
            log.warning("dead_not_folded", error=str(error))
        if folder.folded > before:
            self._account.folded(folder.folded - before)
            self.reader.refresh()

    def _count_refused(self) -> None:
        for refused in [table.refused for table in self.reader.tables.values()] + [self.reader.gauges.refused]:
            for metric, count in refused.items():
                before = self._counted.get(metric, 0)
                if count > before:
                    self._account.refused(metric, count - before)
                    self._counted[metric] = count

    def _on_bad(self, path: Path, error: Exception) -> None:
        """A file cannot be read: it costs its own numbers."""
        if path not in self._bad:
            self._bad.add(path)
            log.warning("metric_file_left_out", file=path.name, error=str(error))
            if self.folder is not None:
                self._account.unreadable()
        try:
            if self.folder is not None and self.folder.in_charge():
                self.folder.set_aside(path)
                self._bad.discard(path)
        except OSError as failure:
            # On a full or read-only disk it stays where it is, and is left out each time.
            log.warning("metric_file_not_set_aside", file=path.name, error=str(failure))

    def _body(self, *, openmetrics: bool) -> bytes:
        if openmetrics:
            self.reader.read_exemplars()
        parts = [family.text(openmetrics=openmetrics) for _, family in sorted(self.reader.families.items())]
        return b"".join([*parts, b"# EOF\n"] if openmetrics else parts)

    def series(self) -> dict[str, int]:
        """Label sets of each metric, as of the last reading."""
        with self._lock:
            return self.reader.series()

    def live(self) -> int:
        """Processes that live, as of the last reading."""
        with self._lock:
            found = self.reader.listing
            return sum(found.is_alive(identity) for identity in found.identities())


class SingleFlight:
    """Run a call once for all threads that ask for it at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, Future[Any]] = {}

    def join(self, what: Hashable, make: Callable[[], bytes]) -> bytes:
        """Return or raise the outcome of `make`, run by this thread or by the one that is already running it."""
        with self._lock:
            call = self._running.get(what)
            mine = call is None
            if call is None:
                call = self._running[what] = Future()
        if mine:
            try:
                call.set_result(make())
            except BaseException as error:  # noqa: BLE001 -- raised again below, in every thread that waits
                call.set_exception(error)
            finally:
                with self._lock:
                    del self._running[what]
        result: bytes = call.result()
        return result


@cache
def of_directory(path: Path, max_series: int) -> Aggregate:
    """Return this process's aggregate of `path`; it reads, and leaves folding to the exporter."""
    return Aggregate(path, max_series=max_series)


def exposition(accept: str, single: CollectorRegistry, max_series: int = MAX_SERIES_PER_METRIC) -> tuple[bytes, str]:
    """Return the text or OpenMetrics exposition that `accept` asks for, and its content type.

    `single` is exposed in single-process mode; `max_series` bounds each metric over all processes.
    """
    shared = directory()
    if shared is None:
        encode, content_type = choose_encoder(accept)
        return encode(single), content_type
    return of_directory(shared, max_series).exposition(accept)
