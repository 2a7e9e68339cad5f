"""Incremental readers of a process's files."""

import errno
import math
import os
import re
from collections.abc import Iterable

from prometheus_client.samples import Exemplar

from .amounts import without_nan
from .clock import WriteClock
from .entries import BadEntryError, LeftOut
from .exemplars import PAYLOAD, Seen, unpack
from .gauges import MODES, Entry, Readings
from .layout import BadFileError, Key, Layout, parse, used
from .presence import pid_of
from .table import Column

PAGE = 4096
# Errors of this process, not of the file: it cannot read any file at all.
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NAME = re.compile(r"(counter|histogram|summary|gauge_([a-z]+))_([^_]+)\.db")


def owner(name: str) -> tuple[str, str] | None:
    """Return kind and identity from the name of a file of values; None for any other name."""
    found = _NAME.fullmatch(name)
    if found is None or (found[2] is not None and found[2] not in MODES):
        return None
    return found[1], found[3]


class Source:
    """A file of values. After `refresh`, `data` is its content and `layout` covers all of it."""

    def __init__(self, path: str, kind: str, identity: str) -> None:
        self.path = path
        self.kind = kind
        self.identity = identity
        self.is_gauge = kind.startswith("gauge")
        self.mode = kind.removeprefix("gauge_")
        self.is_recent = self.is_gauge and self.mode.endswith("mostrecent")
        self.layout = Layout(timed=self.is_gauge)
        self.column = Column()
        self.readings = Readings(self.mode, pid_of(identity), [], [])
        """Content of a file of gauges."""
        self.data = b""
        self.values: tuple[float, ...] = ()
        self.not_numbers: set[int] = set()
        """Places of the sums that were NaN at some reading. They count as 0."""
        self._stored: list[Entry] = []

    def refresh(self) -> bool:
        """Read the file. Return True if it has changed.

        Raise BadFileError if it is invalid, OSError if it cannot be read.
        """
        data = read(self.path, self.layout.used)
        if data == self.data:
            return False
        self.layout.extend(data)
        self.values = self.layout.values(data)
        if not self.is_gauge:
            self.values, places = without_nan(self.values)
            self.not_numbers.update(places)
        self.data = data
        return True

    def entries(self, clock: WriteClock) -> list[Entry]:
        """Return the values of a file of gauges in the order of the keys, each with its timestamp.

        In the modes of most recent values it is the place in the order of writes, 0 if it was never set.
        """
        stored = list(zip(self.values[::2], self.values[1::2], strict=True))
        if not self.is_recent:
            return stored
        before, known = self._stored, self.readings.entries
        self._stored, entries = stored, []
        for place, (value, timestamp) in enumerate(stored):
            if place < len(before) and (value, timestamp) == before[place]:
                entries.append(known[place])
                continue
            last = known[place][1] if place < len(before) else 0.0
            # Within a process the last write wins, whatever its timestamp.
            entries.append((value, max(clock.order(timestamp), last) if timestamp else 0.0))
        return entries

    def accepted(self) -> list[tuple[bytes, Key, Entry]]:
        """Return raw key, key and entry of each gauge that is not left out."""
        return [
            (raw, key, entry)
            for raw, key, entry in zip(self.layout.keys, self.readings.keys, self.readings.entries, strict=True)
            if key is not None
        ]


class ExemplarSource:
    """A file of exemplars. Entries with an invalid key are counted in `left_out`."""

    def __init__(self, path: str, left_out: LeftOut) -> None:
        self._path = path
        self._left_out = left_out
        self._invalid: set[bytes] = set()
        self._layout = Layout(payload=PAYLOAD)
        self._data = b""
        self.seen: dict[bytes, Seen] = {}
        """The exemplars at the last reading by key."""
        self._changed: set[bytes] = set()

    def refresh(self, clock: WriteClock) -> None:
        """Read the file. Raise BadFileError if it is invalid, OSError if it cannot be read."""
        before, data = self._data, read(self._path, self._layout.used)
        if data == before:
            return
        known = len(self._layout.keys)
        self._layout.extend(data)
        self._check(self._layout.keys[known:])
        self._data = data
        for key, start in zip(self._layout.keys, self._layout.positions, strict=True):
            payload = data[start : start + PAYLOAD]
            if payload != before[start : start + PAYLOAD] and key not in self._invalid:
                exemplar = unpack(payload)
                if exemplar is not None:
                    self._see(key, exemplar, clock)

    def changed(self) -> list[Seen]:
        """Return the exemplars that have changed since the last call."""
        changed, self._changed = self._changed, set()
        return [self.seen[key] for key in changed]

    def _see(self, key: bytes, exemplar: Exemplar, clock: WriteClock) -> None:
        timestamp = float(exemplar.timestamp or 0.0)
        order, known = clock.order(timestamp), self.seen.get(key)
        if known is not None and order <= known.order:
            # Within a process the last write wins, whatever its timestamp.
            order = math.nextafter(known.order, math.inf)
        self.seen[key] = Seen(key, order, exemplar._replace(timestamp=clock.credible(timestamp)))
        self._changed.add(key)

    def _check(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            try:
                parse(key)
            except BadEntryError as error:
                self._left_out.add(error)
                self._invalid.add(key)


def read(path: str, known: int) -> bytes:
    """Return the used part of a file, which had `known` bytes last time.

    Raise BadFileError if its header is invalid, FileNotFoundError if it is gone.

    Raise OSError if this process is out of descriptors or memory.
    """
    try:
        return _read(path, known)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        raise BadFileError(f"it cannot be read: {error.strerror}") from error


def _read(path: str, known: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = os.pread(descriptor, max(known, PAGE), 0)
        wanted = used(data)
        if wanted > len(data):
            # Checked before reading: a corrupt header may claim gigabytes.
            size = os.fstat(descriptor).st_size
            if wanted > size:
                raise BadFileError(f"{wanted} bytes are in use, the file has {size}")
            data = os.pread(descriptor, wanted, 0)
    finally:
        os.close(descriptor)
    return data[:wanted]
