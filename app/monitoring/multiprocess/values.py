"""prometheus-client's values in files of this process: what Counter, Gauge, Histogram and Summary write through.

`install()` puts the class in place of the library's own; the metrics stay the library's, and so does the format of
their files. What differs: a file belongs to one process for ever (identities do not come back, process ids do), a
fork is noticed when it happens and not asked for at each increment, a full directory costs new series and not the
process, and exemplars are kept.
"""

import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from threading import RLock
from typing import IO, Any

from prometheus_client import values
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.samples import Exemplar

from . import exemplars, presence
from .mapped import MappedFile, NoRoomError

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"


class _Nowhere:
    """The value of a series over the limit: its process counts on, and nobody reads it."""

    def __init__(self) -> None:
        self.cells = memoryview(array("d", [0.0, 0.0]))


class Process:
    """The files of this process; made at the first write after a start or a fork."""

    def __init__(self, prefix: str = "") -> None:
        # Another thread may have held the parent's lock at the moment of a fork.
        self.lock = RLock()
        self.prefix = prefix
        self.refused = 0
        """Series that found no room."""
        self._directory: Path | None = None
        self._presence: IO[str] | None = None
        self._files: dict[str, MappedFile] = {}
        self._exemplars: exemplars.Writer | None = None

    @property
    def identity(self) -> str:
        """This process's name in the directory; it is announced by now."""
        if self._presence is None:
            self._directory = Path(os.environ[DIRECTORY])
            self._identity = presence.new_identity(self.prefix)
            self._presence = presence.announce(self._directory, self._identity)
        return self._identity

    def cell(self, kind: str, key: bytes) -> tuple[Any, int]:
        """The file of `kind` (such as counter or gauge_max) and the cell in it that is `key`'s value."""
        try:
            file = self._files.get(kind)
            if file is None:
                identity = self.identity
                assert self._directory is not None  # noqa: S101 -- set with the identity
                file = self._files[kind] = MappedFile(self._directory / f"{kind}_{identity}.db")
            return file, file.position(key) // 8
        except (NoRoomError, OSError):
            # A series that cannot be stored must not cost the request that counts it.
            self.refused += 1
            return _Nowhere(), 0

    def note_exemplar(self, key: bytes, exemplar: Exemplar) -> None:
        """Keep `exemplar` as the newest of `key`."""
        try:
            if self._exemplars is None:
                identity = self.identity
                assert self._directory is not None  # noqa: S101 -- set with the identity
                self._exemplars = exemplars.Writer(self._directory, identity)
            self._exemplars.write(key, exemplar)
        except (NoRoomError, OSError):
            return

    def discard(self, kind: str) -> None:
        """Close and remove the file of `kind`. Nothing may be written to it afterwards."""
        with self.lock:
            file = self._files.pop(kind, None)
            if file is not None:
                file.close()
                file.path.unlink(missing_ok=True)

    def forget(self) -> None:
        """In a forked child: let go of the parent's files."""
        for file in self._files.values():
            file.close()
        if self._exemplars is not None:
            self._exemplars.close()
        if self._presence is not None:
            self._presence.close()


_process = Process()


def process() -> Process:
    """This process's files."""
    return _process


def _after_fork() -> None:
    global _process
    parent, _process = _process, Process(_process.prefix)
    parent.forget()


os.register_at_fork(after_in_child=_after_fork)


class SharedValue:
    """One series of this process. The interface is that of the library's value classes."""

    _multiprocess = True
    __slots__ = ("_cell", "_file", "_key", "_kind", "_process", "_timed")

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
        self._kind = f"{typ}_{multiprocess_mode}" if self._timed else typ
        self._key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text).encode()
        with _process.lock:
            self._attach()

    def _attach(self) -> None:
        """Begin at 0 in this process's own file."""
        self._process = _process
        self._file, self._cell = _process.cell(self._kind, self._key)

    def inc(self, amount: float) -> None:
        """Add `amount`."""
        with _process.lock:
            if self._process is not _process:
                self._attach()
            # The store is one aligned write of 8 bytes: a reader sees the old value or the new one. The sum begins
            # with what the file says: another object may stand for the same series, after a `remove` for example.
            self._file.cells[self._cell] += amount
            if self._timed:
                self._file.cells[self._cell + 1] = 0.0

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Set to `value`, as of `timestamp` in Unix time."""
        with _process.lock:
            if self._process is not _process:
                self._attach()
            self._file.cells[self._cell] = float(value)
            self._file.cells[self._cell + 1] = timestamp or 0.0

    def get(self) -> float:
        """This process's value."""
        with _process.lock:
            if self._process is not _process:
                self._attach()
            return float(self._file.cells[self._cell])

    def set_exemplar(self, exemplar: Exemplar) -> None:
        """Keep the exemplar where the aggregate finds it."""
        with _process.lock:
            _process.note_exemplar(self._key, exemplar)

    def get_exemplar(self) -> None:
        """None: this process's own newest exemplar is of no use without the other processes'."""
        return


def locate(value: SharedValue) -> tuple[Any, int]:
    """Return the object whose `cells` contain `value` in this process, and the index there.

    Valid until the next fork, which replaces `process()`.
    """
    with _process.lock:
        if value._process is not _process:  # noqa: SLF001 -- this class's own
            value._attach()  # noqa: SLF001
        return value._file, value._cell  # noqa: SLF001


def install(prefix: str = "") -> None:
    """Have every metric that is made from now on write to the shared directory; nothing where there is none.

    `prefix` goes before the process id in this process's identity.
    """
    if os.environ.get(DIRECTORY):
        values.ValueClass = SharedValue
        _process.prefix = prefix


__all__ = ["DIRECTORY", "Process", "SharedValue", "install", "locate", "process"]
