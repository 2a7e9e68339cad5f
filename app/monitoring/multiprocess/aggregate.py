"""The exposition of all processes: from the shared directory if there is one, else from a registry."""

import os
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from .directory import epoch
from .folder import Folder
from .labels import MAX_SERIES_PER_METRIC
from .negotiation import Form, negotiate
from .reader import Reader
from .response import MIN_GZIP_BYTES, compressed
from .restriction import restricted
from .selection import EQUAL_NAMES, Encodable, Exposed, Selection

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("aggregate")
# Metrics hidden in single-process mode that were logged already.
_logged: set[str] = set()


def _ignore(*_: object) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Account:
    """Callbacks that count the work of an aggregate that folds. The defaults do nothing."""

    folded: Callable[[int], object] = _ignore
    """Called with the number of processes that were folded."""
    unreadable: Callable[[], object] = _ignore
    """Called for each file that could not be read."""
    left_out: Callable[[str, int], object] = _ignore
    """Called with a reason and the number of entries of readable files that were left out for it."""
    hidden: Callable[[str], object] = _ignore
    """Called once with each metric that an exposition leaves out because a name equals another's."""
    refused: Callable[[str, int], object] = _ignore
    """Called with a metric and the number of its label sets past the limit over all processes."""


def directory() -> Path | None:
    """Return the shared metrics directory of this process; None in single-process mode."""
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(path) if path else None


class Aggregate:
    """The expositions of a directory. Thread-safe. With `folds`, it also folds dead processes into the archive."""

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
        self._hidden: set[str] = set()
        self._reset()

    def _reset(self) -> None:
        self._epoch = epoch(self.path)
        self._counted: dict[str, int] = {}
        self._left_out: dict[str, int] = {}
        self._selection = Selection()
        self.reader = Reader(self.path, self._max_series, self._on_bad)

    def exposition(self, accept: str, *, pack: bool = False, names: frozenset[str] | None = None) -> tuple[bytes, str]:
        """Return the exposition in the format that `accept` selects and its content type.

        It is gzipped if `pack`, unless it is small. With `names`, it has only the samples of these names, like the
        library's `restricted_registry`.

        Single flight: concurrent calls share one result. Raise DirectoryGoneError if the directory does not exist,
        RestlessError if it does not come to rest.
        """
        form = negotiate(accept)
        body = self._single_flight.join(
            (form.openmetrics, form.scheme, pack, names), lambda: self._build(form=form, names=names, pack=pack)
        )
        return body, form.content_type

    def _build(self, *, form: Form, names: frozenset[str] | None, pack: bool) -> bytes:
        with self._lock:
            self._refresh()
            body = self._body(form, names)
        return compressed(body) if pack and len(body) >= MIN_GZIP_BYTES else body

    def refresh(self) -> None:
        """Read the directory and fold dead processes, without building an exposition."""
        with self._lock:
            self._refresh()

    def _refresh(self) -> None:
        if epoch(self.path) != self._epoch:
            self._reset()  # another service has claimed the directory
        self.reader.refresh()
        if self.folder is not None:
            self._fold(self.folder)
            self._count_refused()
            self._count_left_out()

    def _fold(self, folder: Folder) -> None:
        """Fold processes that have ended. Log errors: a full directory must not fail the scrape."""
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

    def _count_left_out(self) -> None:
        found = self.reader.left_out
        for reason, count in found.counts.items():
            new = count - self._left_out.get(reason, 0)
            if new > 0:
                log.warning("metric_entries_left_out", reason=reason, entries=new, last=found.examples[reason])
                self._account.left_out(reason, new)
                self._left_out[reason] = count

    def _on_bad(self, path: Path, error: Exception) -> None:
        """Log and count an unreadable file, and set it aside. Only its own values are missing."""
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
            # On a full or read-only disk the file stays and is skipped at each reading.
            log.warning("metric_file_not_set_aside", file=path.name, error=str(failure))

    def _body(self, form: Form, names: frozenset[str] | None) -> bytes:
        if form.openmetrics:
            self.reader.read_exemplars()
        scheme = form.scheme
        families = self._selection.exposed([family for _, family in sorted(self.reader.families.items())], scheme)
        if names is None:
            parts = [family.text(openmetrics=form.openmetrics, scheme=scheme) for family in families]
        else:
            parts = [restricted(family, names, openmetrics=form.openmetrics, scheme=scheme) for family in families]
        self._report_hidden(self._selection.hidden(scheme), scheme)
        return b"".join([*parts, b"# EOF\n"] if form.openmetrics else parts)

    def _report_hidden(self, metrics: Iterable[str], scheme: str) -> None:
        """Log and count each metric once that is left out, in whole or in part, because of its names."""
        for metric in metrics:
            if metric not in self._hidden:
                self._hidden.add(metric)
                log.warning("metric_hidden", metric=metric, escaping=scheme, reason=EQUAL_NAMES)
                if self.folder is not None:
                    self._account.hidden(metric)

    def read(self, function: Callable[[Reader], list[Any]]) -> list[Any]:
        """Return the result of `function` for a new reading.

        Raise DirectoryGoneError if the directory does not exist, RestlessError if it does not come to rest.
        """
        with self._lock:
            self._refresh()
            return function(self.reader)

    def series(self) -> dict[str, int]:
        """Return the number of label sets of each metric at the last reading."""
        with self._lock:
            return self.reader.series()

    def live(self) -> int:
        """Return the number of live processes at the last reading."""
        with self._lock:
            found = self.reader.listing
            return sum(found.is_alive(identity) for identity in found.identities())


class SingleFlight:
    """Run a call once for all threads that request it concurrently."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, Future[Any]] = {}

    def join(self, key: Hashable, function: Callable[[], bytes]) -> bytes:
        """Return or raise the outcome of `function`, run by this thread or by one that is running it for `key`."""
        with self._lock:
            call = self._running.get(key)
            leading = call is None
            if call is None:
                call = self._running[key] = Future()
        if leading:
            try:
                call.set_result(function())
            except BaseException as error:  # noqa: BLE001 -- raised again below, in every thread that waits
                call.set_exception(error)
            finally:
                with self._lock:
                    del self._running[key]
        result: bytes = call.result()
        return result


@cache
def of_directory(path: Path, max_series: int) -> Aggregate:
    """Return this process's aggregate of `path`. It does not fold; the exporter does."""
    return Aggregate(path, max_series=max_series)


def exposition(
    accept: str,
    single: CollectorRegistry,
    max_series: int = MAX_SERIES_PER_METRIC,
    *,
    pack: bool = False,
    names: frozenset[str] | None = None,
) -> tuple[bytes, str]:
    """Return the exposition of all processes as `Aggregate.exposition` does, and its content type.

    `single` is exposed in single-process mode; `max_series` bounds each metric over all processes.
    """
    shared = directory()
    if shared is not None:
        return of_directory(shared, max_series).exposition(accept, pack=pack, names=names)
    form = negotiate(accept)
    encode = openmetrics.generate_latest if form.openmetrics else generate_latest
    exposed = Exposed(single if names is None else single.restricted_registry(names), form.scheme)
    try:
        body = encode(exposed, form.scheme)
    except UnicodeEncodeError:
        body = encode(Encodable(exposed), form.scheme)
    for metric in exposed.hidden - _logged:
        _logged.add(metric)
        log.warning("metric_hidden", metric=metric, escaping=form.scheme, reason=EQUAL_NAMES)
    return compressed(body) if pack and len(body) >= MIN_GZIP_BYTES else body, form.content_type
