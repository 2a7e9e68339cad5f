"""Exemplars of this process in a file of their own, where the aggregate finds the newest of any process.

The file is like that of the values (see mapped.py); the payload is one record that is overwritten in place:

    uint32 CRC | uint16 length | 2 bytes | float64 value | float64 Unix time | labels as JSON

A record that is read while it is written fails its CRC, and is left out of that scrape.
"""

import json
import struct
import zlib
from pathlib import Path

import orjson
from prometheus_client.samples import Exemplar

from .mapped import MappedFile

SUFFIX = ".exemplars"
PAYLOAD = 256
_HEAD = struct.Struct("=IHxxdd")
MOST_TEXT = PAYLOAD - _HEAD.size


class Writer:
    """This process's file."""

    def __init__(self, directory: Path, identity: str) -> None:
        self._file = MappedFile(directory / f"{identity}{SUFFIX}", PAYLOAD)

    def write(self, key: bytes, exemplar: Exemplar) -> None:
        """Keep `exemplar` as the newest of series `key`; one whose labels are too long is left out.

        OpenMetrics allows 128 characters of labels, which the library has checked; only escapes can make them longer.
        """
        try:
            text = orjson.dumps(exemplar.labels)
        except TypeError:  # a lone surrogate, which no UTF-8 has
            text = json.dumps(exemplar.labels, ensure_ascii=False).encode(errors="replace")
        if len(text) > MOST_TEXT:
            return
        record = pack(text, exemplar.value, float(exemplar.timestamp or 0.0))
        position = self._file.position(key)
        self._file.bytes[position : position + len(record)] = record

    def close(self) -> None:
        """Forget the file, which stays."""
        self._file.close()


def pack(labels: bytes, value: float, timestamp: float) -> bytes:
    """One record."""
    rest = _HEAD.pack(0, len(labels), value, timestamp)[4:] + labels
    return struct.pack("=I", zlib.crc32(rest)) + rest


def unpack(payload: bytes) -> Exemplar | None:
    """The exemplar in a payload; None where there is none, or it was being written."""
    checksum, length, value, timestamp = _HEAD.unpack_from(payload)
    end = _HEAD.size + length
    if end > len(payload) or not length or zlib.crc32(payload[4:end]) != checksum:
        return None
    return Exemplar(json.loads(payload[_HEAD.size : end]), value, timestamp)
