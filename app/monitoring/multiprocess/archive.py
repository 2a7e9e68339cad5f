"""What the dead have counted: one file, replaced as a whole.

    magic | uint32 CRC of the rest | uint32 length of head | uint32 length of keys | head | keys | float64 pairs

The head is JSON: `epoch` (of the service whose archive it is), `generation`, `folded` (the ledger: identities whose
numbers are in here), `all` (the gauges of mode `all` of the last dead) and `exemplars`. The keys are JSON too,
[kind, key] each, and have one pair of numbers: for counters, histograms and summaries a sum and what rounding left
of it, for gauges a value and its timestamp.

docs/decisions/0007-archive.md says why no death loses or doubles an increment. In short: numbers and ledger change
in one rename, files are removed only after it, and whoever reads a file and finds its owner in the ledger leaves
it out.
"""

import contextlib
import os
import struct
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.samples import Exemplar

from .directory import ARCHIVE, ARCHIVE_NEW
from .gauges import Entry, combine
from .table import is_newer

MAGIC = b"MPARCH1\n"
_HEAD = struct.Struct("=III")
# Gauges of mode `all` of so many dead processes are shown; more would make the directory grow with every death.
MOST_DEAD_SHOWN = 32
Kind = str
"""counter, histogram, summary, or gauge_<mode>."""


class BadArchiveError(Exception):
    """The archive does not have its form, or its checksum is wrong."""


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
    """What the sums' rounding has left, or gauges' timestamps."""
    shown: list[tuple[str, list[tuple[Kind, bytes, float, float]]]] = field(default_factory=list)
    """Identity and `all` gauges of the last dead, oldest first."""
    exemplars: dict[bytes, Exemplar] = field(default_factory=dict)
    _index: dict[tuple[Kind, bytes], int] = field(default_factory=dict)
    _encoded_keys: bytes | None = None

    def copy(self) -> "Archive":
        """One that can be changed while this one stays what the file says."""
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

    def take_exemplars(self, exemplars: Iterable[tuple[bytes, Exemplar]]) -> None:
        """Keep those that are newer than what is here; what has no series in here would never be shown."""
        for key, exemplar in exemplars:
            has_series = ("counter", key) in self._index or ("histogram", key) in self._index
            if has_series and is_newer(exemplar, self.exemplars.get(key)):
                self.exemplars[key] = exemplar

    def add(self, kind: Kind, keys: Sequence[bytes], values: Iterable[Entry]) -> None:
        """Fold one file in: values and timestamps of its keys, in order."""
        for key, entry in zip(keys, values, strict=True):
            place = self._index.get((kind, key))
            if place is None:
                self._index[kind, key] = len(self.keys)
                self.keys.append((kind, key))
                self._encoded_keys = None
                self.first.append(entry[0])
                self.second.append(entry[1] if kind.startswith("gauge") else 0.0)
            elif kind.startswith("gauge"):
                merged = combine(kind.removeprefix("gauge_"), (self.first[place], self.second[place]), entry)
                self.first[place], self.second[place] = merged
            else:
                self.first[place], self.second[place] = add_exactly(self.first[place], self.second[place], entry[0])

    def show(self, identity: str, kind: Kind, keys: Sequence[bytes], values: Iterable[Entry]) -> None:
        """Keep a dead process's gauges of mode `all`, and forget those of the longest dead."""
        readings = [(kind, key, *entry) for key, entry in zip(keys, values, strict=True)]
        self.shown = [*self.shown, (identity, readings)][-MOST_DEAD_SHOWN:]

    def encode(self) -> bytes:
        """The file's content."""
        # Numbers are text here: JSON has no infinity.
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
    """`total` + `rest` + `amount` as a float64 and what it leaves out (Knuth's two-sum)."""
    whole = total + amount
    part = whole - total
    rest += (total - (whole - part)) + (amount - part)
    rounded = whole + rest
    if rounded - rounded != 0.0:  # infinite or no number: what is left of `whole` is neither
        return whole, 0.0
    return rounded, rest - (rounded - whole)


def decode(content: bytes) -> Archive:
    """Read a file's content; raises BadArchiveError."""
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
            _index={key: place for place, key in enumerate(keys)},
            _encoded_keys=encoded,
        )
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise BadArchiveError(str(error)) from error


class Files:
    """The calls that change the directory. Tests put one in its place that dies before or after any of them."""

    @staticmethod
    def write(path: Path, content: bytes) -> None:
        """Write a new file, down to the disk: a rename must not outlive what it names."""
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
        """Put a file in another's place."""
        old.rename(new)

    @staticmethod
    def remove(path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)


def replace(directory: Path, archive: Archive, files: type[Files] = Files) -> None:
    """Have `archive` take the place of what is there, as a whole or not at all. Raises OSError."""
    aside = directory / ARCHIVE_NEW
    try:
        files.write(aside, archive.encode())
        files.rename(aside, directory / ARCHIVE)
    except OSError:
        # Half an archive on a full disk would take the last of the room from the processes that count.
        with contextlib.suppress(OSError):
            files.remove(aside)
        raise
