"""The archive: the folded values of dead processes, in one file that is replaced atomically.

    magic | uint32 CRC of the rest | uint32 length of head | uint32 length of keys | head | keys | float64 pairs

The head is JSON: `epoch` of the service that owns the archive, `generation`, `folded` (the ledger: identities of the
processes in the archive), `all` (gauges of mode `all` of the last dead processes) and `exemplars`. The keys are JSON
too, [kind, key] each, and have one pair of numbers: a sum and its rounding error for counters, histograms and
summaries, a value and its timestamp for gauges.

No death loses or doubles an increment: one rename changes values and ledger together, files are removed only after it,
and readers ignore the files of processes in the ledger. docs/decisions/0007-archive.md has the details.
"""

import contextlib
import math
import os
import struct
import zlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.samples import Exemplar

from .directory import ARCHIVE, ARCHIVE_NEW
from .gauges import Entry, combine

MAGIC = b"MPARCH1\n"
_HEAD = struct.Struct("=III")
# Dead processes whose gauges of mode `all` are kept. Without a limit the archive would grow with every death.
MAX_DEAD_SHOWN = 32
Kind = str
"""counter, histogram, summary, or gauge_<mode>."""


class BadArchiveError(Exception):
    """The archive has a wrong format or checksum."""


@dataclass
class Archive:
    """The archive in memory."""

    epoch: str = ""
    generation: int = 0
    folded: frozenset[str] = frozenset()
    keys: list[tuple[Kind, bytes]] = field(default_factory=list)
    first: "array[float]" = field(default_factory=lambda: array("d"))
    """Sums, or gauges' values, in the order of `keys`."""
    second: "array[float]" = field(default_factory=lambda: array("d"))
    """Rounding errors of the sums, or gauges' timestamps."""
    shown: list[tuple[str, list[tuple[Kind, bytes, float, float]]]] = field(default_factory=list)
    """Identity and `all` gauges of the last dead processes, oldest first."""
    exemplars: dict[bytes, Exemplar] = field(default_factory=dict)
    _index: dict[tuple[Kind, bytes], int] = field(default_factory=dict)
    _encoded_keys: bytes | None = None

    def copy(self) -> "Archive":
        """Return a copy that can be modified independently."""
        return Archive(
            self.epoch,
            self.generation,
            self.folded,
            list(self.keys),
            array("d", self.first),
            array("d", self.second),
            list(self.shown),
            dict(self.exemplars),
            dict(self._index),
            self._encoded_keys,
        )

    def add_exemplars(self, exemplars: Iterable[tuple[bytes, Exemplar]]) -> None:
        """Store the exemplars that are newer than the stored ones and whose series is in the archive."""
        for key, exemplar in exemplars:
            has_series = ("counter", key) in self._index or ("histogram", key) in self._index
            known = self.exemplars.get(key)
            if has_series and (known is None or float(exemplar.timestamp or 0) > float(known.timestamp or 0)):
                self.exemplars[key] = exemplar

    def add(self, kind: Kind, keys: Sequence[bytes], values: Iterable[Entry]) -> None:
        """Fold in the entries of one file: a value and a timestamp for each key, in order.

        Gauges of mode `sum` that are NaN are left out: nobody can set them to a number any more.
        """
        for key, entry in zip(keys, values, strict=True):
            if kind == "gauge_sum" and math.isnan(entry[0]):
                continue
            index = self._index.get((kind, key))
            if index is None:
                self._index[kind, key] = len(self.keys)
                self.keys.append((kind, key))
                self._encoded_keys = None
                self.first.append(entry[0])
                self.second.append(entry[1] if kind.startswith("gauge") else 0.0)
            elif kind.startswith("gauge"):
                merged = combine(kind.removeprefix("gauge_"), (self.first[index], self.second[index]), entry)
                self.first[index], self.second[index] = merged
            else:
                self.first[index], self.second[index] = add_exactly(self.first[index], self.second[index], entry[0])

    def add_all_gauges(self, identity: str, kind: Kind, keys: Sequence[bytes], values: Iterable[Entry]) -> None:
        """Add a dead process's gauges of mode `all`. Discard the oldest past MAX_DEAD_SHOWN."""
        readings = [(kind, key, *entry) for key, entry in zip(keys, values, strict=True)]
        self.shown = [*self.shown, (identity, readings)][-MAX_DEAD_SHOWN:]

    def change_timestamps(self, change: Callable[[float], float]) -> None:
        """Replace the timestamps of most recent gauges that were set, and of exemplars, by what `change` returns."""
        for index, (kind, _) in enumerate(self.keys):
            if kind == "gauge_mostrecent" and self.second[index]:
                self.second[index] = change(self.second[index])
        for key, exemplar in self.exemplars.items():
            self.exemplars[key] = exemplar._replace(timestamp=change(float(exemplar.timestamp or 0)))

    def drop_nan(self) -> list[bytes]:
        """Set the sums that are NaN to 0. Return their keys. A gauge may be NaN: it was set to it."""
        dropped = []
        if math.isnan(sum(self.first)) or math.isnan(sum(self.second)):
            for index, (kind, key) in enumerate(self.keys):
                if not kind.startswith("gauge") and math.isnan(self.first[index] + self.second[index]):
                    self.first[index] = self.second[index] = 0.0
                    dropped.append(key)
        return dropped

    def encode(self) -> bytes:
        """Return the file's content."""
        # Numbers are strings here: JSON has no infinity.
        head: dict[str, Any] = {
            "epoch": self.epoch,
            "generation": self.generation,
            "folded": sorted(self.folded),
            "all": [
                [identity, [[kind, key.decode(), *map(repr, entry)] for kind, key, *entry in one]]
                for identity, one in self.shown
            ],
            "exemplars": [
                [key.decode(), exemplar.labels, repr(exemplar.value), repr(float(exemplar.timestamp or 0))]
                for key, exemplar in self.exemplars.items()
            ],
        }
        encoded = orjson.dumps(head)
        if self._encoded_keys is None:
            self._encoded_keys = orjson.dumps([[kind, key.decode()] for kind, key in self.keys])
        rest = encoded + self._encoded_keys + self.first.tobytes() + self.second.tobytes()
        lengths = struct.pack("=II", len(encoded), len(self._encoded_keys))
        return MAGIC + struct.pack("=I", zlib.crc32(lengths + rest)) + lengths + rest


def add_exactly(total: float, rest: float, amount: float) -> tuple[float, float]:
    """Return `total` + `rest` + `amount` as a float64 and its rounding error (Knuth's two-sum)."""
    whole = total + amount
    part = whole - total
    rest += (total - (whole - part)) + (amount - part)
    rounded = whole + rest
    if rounded - rounded != 0.0:  # infinite or NaN: there is no rounding error
        return whole, 0.0
    return rounded, rest - (rounded - whole)


def decode(content: bytes) -> Archive:
    """Parse a file's content. Raise BadArchiveError if it is invalid."""
    try:
        if content[: len(MAGIC)] != MAGIC:
            raise BadArchiveError("it does not begin as an archive does")
        checksum, head_length, keys_length = _HEAD.unpack_from(content, len(MAGIC))
        if zlib.crc32(content[len(MAGIC) + 4 :]) != checksum:
            raise BadArchiveError("its checksum is wrong")
        start = len(MAGIC) + _HEAD.size
        middle = start + head_length
        head = orjson.loads(content[start:middle])
        encoded = content[middle : middle + keys_length]
        keys = [(kind, key.encode()) for kind, key in orjson.loads(encoded)]
        numbers = array("d", content[middle + keys_length :])
        return Archive(
            epoch=head["epoch"],
            generation=head["generation"],
            folded=frozenset(head["folded"]),
            keys=keys,
            first=numbers[: len(keys)],
            second=numbers[len(keys) :],
            shown=[
                (identity, [(kind, key.encode(), float(value), float(when)) for kind, key, value, when in one])
                for identity, one in head["all"]
            ],
            exemplars={
                key.encode(): Exemplar(labels, float(value), float(when))
                for key, labels, value, when in head["exemplars"]
            },
            _index={key: index for index, key in enumerate(keys)},
            _encoded_keys=encoded,
        )
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise BadArchiveError(str(error)) from error


class Files:
    """The calls that modify the directory. Tests replace them to simulate a death before or after each."""

    @staticmethod
    def write(path: Path, content: bytes) -> None:
        """Write a new file and fsync it, so that its later rename cannot reach the disk before its content."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @staticmethod
    def rename(old: Path, new: Path) -> None:
        """Rename a file, replacing any file at `new`."""
        old.rename(new)

    @staticmethod
    def remove(path: Path) -> None:
        """Remove a file if it exists."""
        path.unlink(missing_ok=True)


def replace(directory: Path, archive: Archive, files: type[Files] = Files) -> None:
    """Replace the archive of `directory` atomically. Raise OSError if it cannot be written."""
    aside = directory / ARCHIVE_NEW
    try:
        files.write(aside, archive.encode())
        files.rename(aside, directory / ARCHIVE)
    except OSError:
        # On a full disk a partial archive would take the remaining space from the processes.
        with contextlib.suppress(OSError):
            files.remove(aside)
        raise
