"""Write history as a block of Prometheus's TSDB.

`promtool tsdb create-blocks-from openmetrics` would take an hour for hundreds of millions of samples as text. Here
series with the same values share their chunks, so writing is cheap. A query decodes the chunks of each of its series
all the same; only the disk's part is missing from what is measured.

Format: https://github.com/prometheus/prometheus/tree/main/tsdb/docs/format
"""

import json
import secrets
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from loadtest.benchmarks.chunks import MAX_SAMPLES, crc32c, encode, uvarint, varint

Labels = tuple[tuple[str, str], ...]
"""Sorted pairs of name and value, `__name__` included."""
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHUNKS_HEADER = struct.pack(">IBxxx", 0x85BD40DD, 1)
INDEX_HEADER = struct.pack(">IB", 0xBAAAD700, 2)
SERIES_ALIGNMENT = 16


@dataclass(frozen=True)
class Samples:
    """The values of one or many series, `interval` ms apart from `start` ms on."""

    start: int
    interval: int
    values: tuple[float, ...]

    @property
    def end(self) -> int:
        """The time of the last sample in ms."""
        return self.start + self.interval * (len(self.values) - 1)


def write_block(directory: Path, series: Iterable[tuple[Labels, Samples]]) -> Path:
    """Write a block below `directory`, the data directory of a Prometheus that is not running; return its path."""
    ordered = sorted(series, key=lambda one: one[0])
    name = "01" + "".join(secrets.choice(ALPHABET) for _ in range(24))  # a ULID of no particular time
    path = directory / name
    (path / "chunks").mkdir(parents=True)
    kinds = dict.fromkeys(samples for _, samples in ordered)
    with (path / "chunks" / "000001").open("wb") as file:
        metas = _write_chunks(file, kinds)
    with (path / "index").open("wb") as file:
        _write_index(file, ordered, metas)
    chunks = sum(-(-len(samples.values) // MAX_SAMPLES) for _, samples in ordered)
    meta = {
        "ulid": name,
        "minTime": min(samples.start for samples in kinds),
        "maxTime": max(samples.end for samples in kinds) + 1,
        "stats": {
            "numSamples": sum(len(samples.values) for _, samples in ordered),
            "numSeries": len(ordered),
            "numChunks": chunks,
        },
        "compaction": {"level": 1, "sources": [name]},
        "version": 1,
    }
    (path / "meta.json").write_text(json.dumps(meta))
    return path


def _write_chunks(file: BinaryIO, kinds: Iterable[Samples]) -> dict[Samples, bytes]:
    """Write the chunks; return for each kind the part of its series' index entries that refers to them."""
    file.write(CHUNKS_HEADER)
    metas = {}
    for samples in kinds:
        parts: list[tuple[int, int, int]] = []
        for begin in range(0, len(samples.values), MAX_SAMPLES):
            values = samples.values[begin : begin + MAX_SAMPLES]
            start = samples.start + begin * samples.interval
            data = b"\x01" + encode(start, samples.interval, values)  # 1: XOR encoding
            parts.append((start, start + (len(values) - 1) * samples.interval, file.tell()))
            file.write(uvarint(len(data) - 1) + data + crc32c(data))
        metas[samples] = _meta(parts)
    return metas


def _meta(chunks: Sequence[tuple[int, int, int]]) -> bytes:
    found = [uvarint(len(chunks))]
    before, reference = 0, 0
    for number, (start, end, place) in enumerate(chunks):
        if number:
            found += [uvarint(start - before), uvarint(end - start), varint(place - reference)]
        else:
            found += [varint(start), uvarint(end - start), uvarint(place)]
        before, reference = end, place
    return b"".join(found)


def _write_index(file: BinaryIO, ordered: Sequence[tuple[Labels, Samples]], metas: dict[Samples, bytes]) -> None:
    file.write(INDEX_HEADER)
    symbols = sorted({text for labels, _ in ordered for pair in labels for text in pair})
    at_symbols = file.tell()
    _section(file, struct.pack(">I", len(symbols)) + b"".join(_string(text) for text in symbols))
    at_series = file.tell()
    postings = _write_series(file, ordered, metas, {text: uvarint(number) for number, text in enumerate(symbols)})
    at_postings = file.tell()
    table = [struct.pack(">I", len(postings))]
    for name, value in sorted(postings):
        references = postings[name, value]
        table.append(b"\x02" + _string(name) + _string(value) + uvarint(file.tell()))
        big_endian = array("I", references)
        big_endian.byteswap()
        _section(file, struct.pack(">I", len(references)) + big_endian.tobytes())
    at_table = file.tell()
    _section(file, b"".join(table))
    contents = struct.pack(">QQQQQQ", at_symbols, at_series, at_postings, at_postings, at_postings, at_table)
    file.write(contents + crc32c(contents))


def _write_series(
    file: BinaryIO,
    ordered: Sequence[tuple[Labels, Samples]],
    metas: dict[Samples, bytes],
    symbols: dict[str, bytes],
) -> dict[tuple[str, str], list[int]]:
    """Write the series; return the references of all, and of each pair of label and value."""
    postings: dict[tuple[str, str], list[int]] = {("", ""): []}
    pairs: dict[tuple[str, str], bytes] = {}
    place = file.tell()
    for labels, samples in ordered:
        padding = -place % SERIES_ALIGNMENT
        reference = (place + padding) // SERIES_ALIGNMENT
        postings["", ""].append(reference)
        parts = [uvarint(len(labels))]
        for pair in labels:
            if pair not in pairs:
                pairs[pair] = symbols[pair[0]] + symbols[pair[1]]
                postings[pair] = []
            postings[pair].append(reference)
            parts.append(pairs[pair])
        body = b"".join(parts) + metas[samples]
        entry = bytes(padding) + uvarint(len(body)) + body + crc32c(body)
        file.write(entry)
        place += len(entry)
    return postings


def _section(file: BinaryIO, content: bytes) -> None:
    file.write(struct.pack(">I", len(content)) + content + crc32c(content))


def _string(text: str) -> bytes:
    encoded = text.encode()
    return uvarint(len(encoded)) + encoded
