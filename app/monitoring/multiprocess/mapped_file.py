"""The memory-mapped files that processes write: prometheus-client's format, and a variant of it for exemplars.

    file:  int32 used | 4 bytes | entry | entry | ...
    entry: int32 length of key | key | 1 to 8 spaces, up to a multiple of 8 | payload

`used` is the number of bytes in use, header included. An entry is written before `used` covers it and its payload
never moves, so readers need no lock. In prometheus-client's files the payload is a value and a timestamp (float64
each, Unix time or 0) and the key is JSON: [metric, sample, {label: value}, help].

Disk blocks are allocated before they are mapped: writing to a sparse file on a full tmpfs ends the process with SIGBUS.
"""

import contextlib
import errno
import mmap
import os
import struct
from pathlib import Path

from .ownership import give_to_owner

HEADER = 8
VALUE_PAYLOAD = 16
INITIAL_SIZE = 1 << 14
MAX_SIZE = 1 << 30
"""Bytes of the largest file: the number in its header has 31 bits, and files double."""
_INT = struct.Struct("=i")


class NoRoomError(Exception):
    """The directory or a file is full; nothing was written."""


def padding(key: bytes) -> int:
    """Return the number of spaces after a key, 1 to 8, that align the payload to 8 bytes."""
    return 8 - (len(key) + 4) % 8


class MappedFile:
    """A new file that only this process writes. Raise NoRoomError if the directory is full, else OSError."""

    def __init__(self, path: Path, payload: int = VALUE_PAYLOAD) -> None:
        self.path = path
        self._payload = payload
        self._positions: dict[bytes, int] = {}
        self._used = HEADER
        self._file = path.open("x+b")
        try:
            give_to_owner(self._file.fileno(), path.parent)
            self._map(INITIAL_SIZE)
        except BaseException:
            self._file.close()
            path.unlink(missing_ok=True)
            raise
        self.bytes[0:4] = _INT.pack(self._used)

    def _map(self, size: int) -> None:
        _allocate(self._file.fileno(), size)
        self.bytes = mmap.mmap(self._file.fileno(), size)
        self._size = size
        self.cells = memoryview(self.bytes).cast("d")
        """The file as an array of float64: a payload at byte 48 is cell 6."""

    def position(self, key: bytes, initial: float = 0.0) -> int:
        """Return the byte offset of the payload of `key`. Add an entry for a new key: `initial`, and zeros behind it.

        Raise NoRoomError if there is no room for it, else OSError.
        """
        found = self._positions.get(key)
        if found is not None:
            return found
        entry = _INT.pack(len(key)) + key + b" " * padding(key)
        end = self._used + len(entry) + self._payload
        if end > MAX_SIZE:
            raise NoRoomError(f"{self.path.name} would have {end} bytes: want {MAX_SIZE} or fewer")
        size = self._size
        while size < end:
            size *= 2
        if size != self._size:
            old = self.cells, self.bytes
            self._map(size)
            old[0].release()
            old[1].close()
        position = self._used + len(entry)
        self.bytes[self._used : position] = entry
        if initial:
            self.cells[position // 8] = initial
        self._used = end
        self.bytes[0:4] = _INT.pack(end)
        self._positions[key] = position
        return position

    def close(self) -> None:
        """Unmap and close the file without removing it. A parent's mapping is unaffected in a forked child."""
        self.cells.release()
        self.bytes.close()
        self._file.close()


def _allocate(descriptor: int, size: int) -> None:
    """Allocate disk blocks for the first `size` bytes; new ones read as zeros."""
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoRoomError(os.strerror(error.errno)) from error
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}:
            raise
        _fill(descriptor, size)


def _fill(descriptor: int, size: int) -> None:
    """Extend the file with zeros to `size`, for file systems without fallocate."""
    have = os.fstat(descriptor).st_size
    try:
        while have < size:
            have += os.pwrite(descriptor, bytes(min(size - have, 1 << 16)), have)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, have)
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoRoomError(os.strerror(error.errno)) from error
        raise
