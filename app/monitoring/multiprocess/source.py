"""The files of a process as they are read scrape after scrape."""

import errno
import os
import re

from prometheus_client.samples import Exemplar

from .exemplars import PAYLOAD, unpack
from .gauges import MODES, Entry, Readings
from .layout import BadFileError, Layout, parse, used
from .presence import pid_of
from .table import Column

PAGE = 4096
# What keeps this process from reading any file at all is no fault of the one at hand.
OUT_OF_MEANS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NAME = re.compile(r"(counter|histogram|summary|gauge_([a-z]+))_([^_]+)\.db")


def owner(name: str) -> tuple[str, str] | None:
    """Kind and identity in a file's name; None for what is no file of values."""
    found = _NAME.fullmatch(name)
    if found is None or (found[2] is not None and found[2] not in MODES):
        return None
    return found[1], found[3]


class Source:
    """A file of values. After `refresh`, `data` is its content and `layout` describes all of it."""

    def __init__(self, path: str, kind: str, identity: str) -> None:
        self.path = path
        self.kind = kind
        self.identity = identity
        self.is_gauge = kind.startswith("gauge")
        self.mode = kind.removeprefix("gauge_")
        self.layout = Layout(timed=self.is_gauge)
        self.column = Column()
        self.readings = Readings(self.mode, pid_of(identity), [], [])
        """What a file of gauges says."""
        self.data = b""
        self.values: tuple[float, ...] = ()

    def refresh(self) -> bool:
        """Read the file; whether anything in it has changed. Raises BadFileError, OSError."""
        data = read(self.path, self.layout.used)
        if data == self.data:
            return False
        self.layout.extend(data)
        self.values = self.layout.values(data)
        self.data = data
        return True

    def entries(self) -> list[Entry]:
        """In a file of gauges: values with their timestamps, in the order of the keys."""
        return list(zip(self.values[::2], self.values[1::2], strict=True))


class ExemplarSource:
    """A file of exemplars as it is read scrape after scrape."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._layout = Layout(payload=PAYLOAD)
        self._data = b""

    def refresh(self) -> list[tuple[bytes, Exemplar]]:
        """The exemplars that have changed, with their keys. Raises BadFileError, OSError."""
        before, data = self._data, read(self._path, self._layout.used)
        if data == before:
            return []
        known = len(self._layout.keys)
        self._layout.extend(data)
        for key in self._layout.keys[known:]:
            parse(key)
        self._data = data
        found = []
        for key, place in zip(self._layout.keys, self._layout.positions, strict=True):
            payload = data[place : place + PAYLOAD]
            if payload != before[place : place + PAYLOAD] and (exemplar := unpack(payload)) is not None:
                found.append((key, exemplar))
        return found


def read(path: str, known: int) -> bytes:
    """All that is in use of a file, `known` bytes last time. Raises BadFileError, FileNotFoundError.

    Raises OSError where this process can read nothing, for want of descriptors or memory.
    """
    try:
        return _read(path, known)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in OUT_OF_MEANS:
            raise
        raise BadFileError(f"it cannot be read: {error.strerror}") from error


def _read(path: str, known: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        data = os.pread(descriptor, max(known, PAGE), 0)
        wanted = used(data)
        if wanted > len(data):
            # Compared before it is read: a garbled header may ask for gigabytes.
            size = os.fstat(descriptor).st_size
            if wanted > size:
                raise BadFileError(f"{wanted} bytes are in use, the file has {size}")
            data = os.pread(descriptor, wanted, 0)
    finally:
        os.close(descriptor)
    return data[:wanted]
