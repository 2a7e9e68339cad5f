"""A value class for prometheus-client that stores Counter, Gauge, Histogram and Summary values in shared files.

`install()` replaces the library's value class; the metric classes and the file format are the library's. Differences:
a file is never reused by another process (identities are unique, process ids are not), forks are handled by a fork
hook instead of a check at each increment, a full directory refuses new series instead of ending the process, what the
reader would leave out is refused, and exemplars are kept.
"""

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import IO, Any, NamedTuple

from prometheus_client import values
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.samples import Exemplar

from . import amounts, exemplars, presence
from .entries import NAME_IN_USE, BadEntryError, check_length, check_sample
from .mapped_file import MappedFile, NoRoomError

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


class _DiscardedCells:
    """Cells in memory for a series that could not be stored: it can be written to, and is not exposed."""

    def __init__(self) -> None:
        self.cells = memoryview(array("d", [0.0, 0.0]))


class Series(NamedTuple):
    """One series. `kind` is that of its file, such as gauge_max; `problem` says why no reader would show it, or ""."""

    kind: str
    metric: str
    key: bytes
    problem: str


class Process:
    """The files of this process, created at the first write after a start or a fork.

    `types` has the type of each metric by its name: a forked child keeps its parent's.
    """

    def __init__(self, prefix: str = "", types: Mapping[str, str] | None = None) -> None:
        # A new lock: another thread may have held the parent's during the fork.
        self.lock = RLock()
        self.prefix = prefix
        self.refused = 0
        """Number of series that found no room."""
        self.initial = 0.0
        """The value of a series when it is added to a file."""
        self._denied: dict[tuple[str, str], int] = {}
        self._types = dict(types or {})
        self._directory: Path | None = None
        self._presence: IO[str] | None = None
        self._files: dict[str, MappedFile] = {}
        self._exemplars: exemplars.Writer | None = None

    @property
    def identity(self) -> str:
        """The identity of this process. The first access announces it in the directory."""
        if self._presence is None:
            self._directory = Path(os.environ[DIRECTORY])
            self._identity = presence.new_identity(self.prefix)
            self._presence = presence.announce(self._directory, self._identity)
        return self._identity

    def after_fork(self) -> "Process":
        """Return the files of a forked child."""
        return Process(self.prefix, self._types)

    def deny(self, metric: str, reason: str) -> None:
        """Count a series or an amount of `metric` that is refused."""
        with self.lock:
            self._denied[metric, reason] = self._denied.get((metric, reason), 0) + 1

    def denied(self) -> dict[tuple[str, str], int]:
        """Return the number of series and amounts that were refused, by metric and reason."""
        with self.lock:
            return dict(self._denied)

    def cell(self, series: Series) -> tuple[Any, int]:
        """Return the file of `series` and the index of its value in the file's cells.

        Both are of memory that is not exposed if the series is refused or finds no room.
        """
        kind = series.kind
        typ = kind.partition("_")[0]
        problem = series.problem
        if not problem and self._types.setdefault(series.metric, typ) != typ:
            problem = NAME_IN_USE
        if problem:
            self.deny(series.metric, problem)
            return _DiscardedCells(), 0
        try:
            file = self._files.get(kind)
            if file is None:
                identity = self.identity
                assert self._directory is not None  # noqa: S101 -- set with the identity
                file = self._files[kind] = MappedFile(self._directory / f"{kind}_{identity}.db")
            return file, file.position(series.key, self.initial) // 8
        except (NoRoomError, OSError):
            # A series that cannot be stored must not fail the request that counts it.
            self.refused += 1
            return _DiscardedCells(), 0

    def store_exemplar(self, key: bytes, exemplar: Exemplar) -> None:
        """Store `exemplar` as the newest of `key`."""
        try:
            if self._exemplars is None:
                identity = self.identity
                assert self._directory is not None  # noqa: S101 -- set with the identity
                self._exemplars = exemplars.Writer(self._directory, identity)
            self._exemplars.write(key, exemplar)
        except (NoRoomError, OSError):
            return

    def discard(self, kind: str) -> None:
        """Close and remove the file of `kind`. It must not be written to afterwards."""
        with self.lock:
            file = self._files.pop(kind, None)
            if file is not None:
                file.close()
                file.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files without removing them. A forked child calls this on its parent's."""
        for file in self._files.values():
            file.close()
        if self._exemplars is not None:
            self._exemplars.close()
        if self._presence is not None:
            self._presence.close()


_process = Process()


def process() -> Process:
    """Return the files of this process."""
    return _process


def _after_fork() -> None:
    global _process
    parent, _process = _process, _process.after_fork()
    parent.close()


os.register_at_fork(after_in_child=_after_fork)


class SharedValue:
    """One series of this process, with the interface of the library's value classes."""

    _multiprocess = True
    __slots__ = ("_cell", "_file", "_process", "_series", "_timed")

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        self._timed = typ == "gauge"
        kind = f"{typ}_{multiprocess_mode}" if self._timed else typ
        key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text).encode()
        problem = ""
        try:
            check_length(key)
            check_sample(typ, metric_name, name, zip(labelnames, labelvalues, strict=True))
        except BadEntryError as error:
            problem = error.reason
        self._series = Series(kind, metric_name, key, problem)
        with _process.lock:
            self._attach()

    def _attach(self) -> None:
        """Start at 0 in this process's file."""
        self._process = _process
        self._file, self._cell = _process.cell(self._series)

    def inc(self, amount: float) -> None:
        """Add `amount`."""
        with _process.lock:
            if self._process is not _process:
                self._attach()
            # The store is one aligned write of 8 bytes: a reader sees the old value or the new one. The sum starts from
            # the value in the file: another object may write the same series, after a `remove` for example.
            total = self._file.cells[self._cell] + amount
            if total - total == 0.0 or self._may_become(total, amount):
                self._file.cells[self._cell] = total
                if self._timed:
                    self._file.cells[self._cell + 1] = 0.0

    def _may_become(self, total: float, amount: float) -> bool:
        """Return True for the gauges that were set to a `total` that is not finite. Else the amount is refused."""
        if self._timed and amount - amount == 0.0:
            return True
        _process.deny(self._series.metric, amounts.reason_of(total))
        return False

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Set `value` with `timestamp` in Unix time."""
        with _process.lock:
            if self._process is not _process:
                self._attach()
            if not self._timed and not -amounts.MAX <= value <= amounts.MAX:
                _process.deny(self._series.metric, amounts.reason_of(value))
                return
            self._file.cells[self._cell] = float(value)
            self._file.cells[self._cell + 1] = timestamp or 0.0

    def get(self) -> float:
        """Return this process's value."""
        with _process.lock:
            if self._process is not _process:
                self._attach()
            return float(self._file.cells[self._cell])

    def set_exemplar(self, exemplar: Exemplar) -> None:
        """Store the exemplar in this process's file of exemplars."""
        with _process.lock:
            if self._process is not _process:
                self._attach()
            if not isinstance(self._file, _DiscardedCells):
                _process.store_exemplar(self._series.key, exemplar)

    def get_exemplar(self) -> None:
        """Return None: exemplars are only exposed by the aggregate of all processes."""
        return


def locate(value: SharedValue) -> tuple[Any, int]:
    """Return the object whose `cells` contain `value` in this process, and the index there.

    Valid until the next fork, which replaces `process()`.
    """
    with _process.lock:
        if value._process is not _process:  # noqa: SLF001 -- this class's own
            value._attach()  # noqa: SLF001
        return value._file, value._cell  # noqa: SLF001


@contextmanager
def starting_at(value: float) -> Iterator[None]:
    """Add new series with `value` meanwhile, so that no reader finds them at 0 before they are set."""
    process = _process
    with process.lock:
        process.initial = value
        try:
            yield
        finally:
            process.initial = 0.0


def install(prefix: str = "") -> None:
    """Make all metrics created from now on write to the shared directory, if there is one.

    All metrics of prometheus-client, older ones too, ignore and count amounts that are not finite from now on.
    `prefix` precedes the process id in this process's identity.
    """
    amounts.guard(lambda metric, reason: _process.deny(metric, reason))  # noqa: PLW0108 -- a fork replaces it
    if os.environ.get(DIRECTORY):
        values.ValueClass = SharedValue
        _process.prefix = prefix


__all__ = ["DIRECTORY", "Process", "SharedValue", "install", "locate", "process", "starting_at"]
