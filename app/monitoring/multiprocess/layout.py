"""How one file of values or exemplars is laid out, learned once: files only grow, and an entry never moves.

After that a scrape takes all values out of a file with one call of a compiled Struct.
"""

import json
from collections.abc import Iterable
from functools import cached_property
from struct import Struct
from struct import error as StructError  # noqa: N812 -- it is a class
from typing import NamedTuple

from prometheus_client.mmap_dict import mmap_key

from .mapped import HEADER, VALUE_PAYLOAD, padding

_INT = Struct("=i")
LONGEST_KEY = 1 << 20


class BadFileError(Exception):
    """A file does not have the form that is described in mapped.py; the message says where."""


class Key(NamedTuple):
    """The JSON key of an entry. `labels` are sorted pairs."""

    metric: str
    sample: str
    labels: tuple[tuple[str, str], ...]
    help: str


def parse(key: bytes) -> Key:
    """Read a key; raises BadFileError where it is none."""
    try:
        metric, sample, labels, documentation = json.loads(key.decode())
        pairs = tuple(sorted((_text(name), _text(value)) for name, value in labels.items()))
        found = Key(_text(metric), _text(sample), pairs, _text(documentation))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadFileError(f"{key[:60]!r} is no key") from error
    if not found.metric:
        raise BadFileError(f"{key[:60]!r} names no metric")
    return found


def written(key: Key, labels: Iterable[tuple[str, str]]) -> bytes:
    """The JSON of `key` with other labels."""
    names, values = zip(*labels, strict=True)
    return mmap_key(key.metric, key.sample, list(names), list(values), key.help).encode()


def _text(value: object) -> str:
    """A string that UTF-8 can write: JSON can carry half a surrogate pair, which becomes `?`."""
    return str(value).encode(errors="replace").decode()


def used(data: bytes) -> int:
    """Bytes in use by the header of a file; 0 for a file that its process is just making. Raises BadFileError."""
    if not data:
        return 0
    if len(data) < HEADER:
        raise BadFileError(f"the header is cut off after {len(data)} bytes")
    claimed: int = _INT.unpack_from(data)[0]
    if claimed and (claimed < HEADER or claimed % 8):
        raise BadFileError(f"{claimed} bytes cannot be in use")
    return claimed


class Layout:
    """The keys and positions of one file. `timed` reads timestamps too; `payload` is the size of an entry in bytes."""

    def __init__(self, *, timed: bool = False, payload: int = VALUE_PAYLOAD) -> None:
        self.keys: list[bytes] = []
        self.positions: list[int] = []
        self.used = HEADER
        self._timed = timed
        self._payload = payload

    def extend(self, data: bytes) -> int:
        """Learn the entries that are new in `data`, all that is in use of the file; returns how many.

        Raises BadFileError.
        """
        end = len(data)
        if end < self.used:
            if end == 0 and not self.keys:
                return 0
            raise BadFileError(f"{end} bytes are in use, they were {self.used}")
        keys, positions, place = [], [], self.used
        while place < end:
            length = _INT.unpack_from(data, place)[0]
            start = place + 4
            if not 0 < length <= LONGEST_KEY or start + length + self._payload > end:
                raise BadFileError(f"the key at byte {place} would have {length} bytes")
            key = data[start : start + length]
            position = start + length + padding(key)
            place = position + self._payload
            if place > end:
                raise BadFileError(f"the entry at byte {start} is cut off")
            keys.append(key)
            positions.append(position)
        self.keys += keys
        self.positions += positions
        self.used = end
        if keys:
            self.__dict__.pop("_struct", None)
        return len(keys)

    @cached_property
    def _struct(self) -> Struct:
        """Reads every payload and skips what is between."""
        parts, place = ["="], 0
        for position in self.positions:
            parts.append(f"{position - place}x" + ("dd" if self._timed else "d8x"))
            place = position + VALUE_PAYLOAD
        return Struct("".join(parts))

    def values(self, data: bytes) -> tuple[float, ...]:
        """The value of each key, in order; with its timestamp behind it where the layout is `timed`."""
        try:
            return self._struct.unpack_from(data)
        except StructError as error:
            raise BadFileError(str(error)) from error
