"""The cached layout of a file of values or exemplars: files only grow, and an entry never moves.

A scrape reads all values of a known layout with one call of a compiled Struct.
"""

import json
from collections.abc import Iterable
from functools import cached_property
from struct import Struct
from struct import error as StructError  # noqa: N812 -- it is a class
from typing import NamedTuple

from prometheus_client.mmap_dict import mmap_key

from .entries import INVALID_KEY, BadEntryError, check_length
from .mapped_file import HEADER, VALUE_PAYLOAD, padding

_INT = Struct("=i")


class BadFileError(Exception):
    """The structure of a file violates the format in mapped_file.py; the message gives the position."""


class Key(NamedTuple):
    """The JSON key of an entry. `labels` are sorted pairs."""

    metric: str
    sample: str
    labels: tuple[tuple[str, str], ...]
    help: str


def parse(key: bytes) -> Key:
    """Parse a key. Raise BadEntryError if it is invalid or too long."""
    check_length(key)
    try:
        metric, sample, labels, documentation = json.loads(key.decode())
        pairs = tuple(sorted((_text(name), _text(value)) for name, value in labels.items()))
        return Key(_text(metric), _text(sample), pairs, _text(documentation))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BadEntryError(INVALID_KEY, f"{key[:60]!r} is no key") from error


def encode_key(key: Key, labels: Iterable[tuple[str, str]]) -> bytes:
    """Return `key` as JSON with `labels` in place of its own."""
    names, values = zip(*labels, strict=True)
    return mmap_key(key.metric, key.sample, list(names), list(values), key.help).encode()


def _text(value: object) -> str:
    """Return a string that UTF-8 can encode: JSON may contain a lone surrogate, which becomes `?`."""
    return str(value).encode(errors="replace").decode()


def used(data: bytes) -> int:
    """Return the used bytes that a file's header claims; 0 for a file in creation. Raise BadFileError if invalid."""
    if not data:
        return 0
    if len(data) < HEADER:
        raise BadFileError(f"the header is cut off after {len(data)} bytes")
    claimed: int = _INT.unpack_from(data)[0]
    if claimed and (claimed < HEADER or claimed % 8):
        raise BadFileError(f"{claimed} bytes cannot be in use")
    return claimed


class Layout:
    """The keys and positions of one file. `timed` reads timestamps too; `payload` is the size of a payload in bytes."""

    def __init__(self, *, timed: bool = False, payload: int = VALUE_PAYLOAD) -> None:
        self.keys: list[bytes] = []
        self.positions: list[int] = []
        self.used = HEADER
        self._timed = timed
        self._payload = payload

    def extend(self, data: bytes) -> int:
        """Add the new entries of `data`, the used part of the file. Return their number.

        Raise BadFileError if the length of one cannot be right. Their keys are not parsed here.
        """
        end = len(data)
        if end < self.used:
            if end == 0 and not self.keys:
                return 0
            raise BadFileError(f"{end} bytes are in use, they were {self.used}")
        keys, positions, offset = [], [], self.used
        while offset < end:
            length = _INT.unpack_from(data, offset)[0]
            start = offset + 4
            if length <= 0 or start + length + self._payload > end:
                raise BadFileError(f"the key at byte {offset} would have {length} bytes")
            key = data[start : start + length]
            position = start + length + padding(key)
            offset = position + self._payload
            if offset > end:
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
        """A Struct that reads every payload and skips the bytes between."""
        parts, offset = ["="], 0
        for position in self.positions:
            parts.append(f"{position - offset}x" + ("dd" if self._timed else "d8x"))
            offset = position + VALUE_PAYLOAD
        return Struct("".join(parts))

    def values(self, data: bytes) -> tuple[float, ...]:
        """Return the value of each key, in order; each followed by its timestamp if the layout is `timed`."""
        try:
            return self._struct.unpack_from(data)
        except StructError as error:
            raise BadFileError(str(error)) from error
