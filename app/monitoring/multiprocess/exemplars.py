"""The file of this process's exemplars. The aggregate exposes the newest of all processes for each series.

The file has the format of mapped_file.py; the payload is one record that is overwritten in place:

    uint32 CRC | uint16 length | 2 bytes | float64 value | float64 Unix time | labels as JSON

A record that is read while it is written fails its CRC, and is omitted from that scrape.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import orjson
from prometheus_client.samples import Exemplar

from .mapped_file import MappedFile

SUFFIX = ".exemplars"
PAYLOAD = 256
_HEAD = struct.Struct("=IHxxdd")
MAX_LABELS_LENGTH = PAYLOAD - _HEAD.size


class Seen(NamedTuple):
    """An exemplar that a reader has seen, its key and its place in the order of writes (clock.py)."""

    key: bytes
    order: float
    exemplar: Exemplar


class Writer:
    """The file of this process's exemplars, open for writing."""

    def __init__(self, directory: Path, identity: str) -> None:
        self._file = MappedFile(directory / f"{identity}{SUFFIX}", PAYLOAD)

    def write(self, key: bytes, exemplar: Exemplar) -> None:
        """Store `exemplar` as the newest of series `key`. Ignore one whose encoded labels are too long.

        The library has checked the limit of OpenMetrics, 128 characters of labels; only escapes can exceed the record.
        """
        try:
            text = orjson.dumps(exemplar.labels)
        except TypeError:  # a lone surrogate, which UTF-8 cannot encode
            text = json.dumps(exemplar.labels, ensure_ascii=False).encode(errors="replace")
        if len(text) > MAX_LABELS_LENGTH:
            return
        record = pack(text, exemplar.value, float(exemplar.timestamp or 0.0))
        position = self._file.position(key)
        self._file.bytes[position : position + len(record)] = record

    def close(self) -> None:
        """Close the file without removing it."""
        self._file.close()


def pack(labels: bytes, value: float, timestamp: float) -> bytes:
    """Return one record; `labels` are JSON."""
    rest = _HEAD.pack(0, len(labels), value, timestamp)[4:] + labels
    return struct.pack("=I", zlib.crc32(rest)) + rest


def unpack(payload: bytes) -> Exemplar | None:
    """Return the exemplar in a payload; None if it is empty, was being written or has no labels of text."""
    checksum, length, value, timestamp = _HEAD.unpack_from(payload)
    end = _HEAD.size + length
    if end > len(payload) or not length or zlib.crc32(payload[4:end]) != checksum:
        return None
    try:
        labels = json.loads(payload[_HEAD.size : end])
    except (ValueError, RecursionError):
        return None
    if not isinstance(labels, dict) or not all(isinstance(text, str) for text in labels.values()):
        return None
    return Exemplar(labels, value, timestamp)
