"""The sum of a directory: live files and the archive of the dead, as one consistent reading.

The archive is looked at before and after the files. Where it was replaced in between, a process may have been folded
into it, and the reading starts again; whoever is named in its ledger is in it already, and its files are left out.
"""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.samples import Exemplar

from . import archive as archives
from . import exemplars, presence
from .archive import Archive, BadArchiveError
from .directory import ARCHIVE, epoch
from .gauges import Entry, Gauges, Readings
from .layout import BadFileError
from .series import Family
from .source import ExemplarSource, Source, owner
from .table import Column, Table

OURS = re.compile(r"\w+-[0-9a-f]{8}")
MOST_ATTEMPTS = 50
# Seconds that a new file may be empty.
LONGEST_MAKING = 10.0
OnBad = Callable[[Path, Exception], None]
Stamp = tuple[int, int, int] | None


class DirectoryGoneError(Exception):
    """The metrics directory is not there."""


class RestlessError(Exception):
    """The archive was replaced during each of many attempts to read."""


@dataclass
class Listing:
    """The files of the directory at one moment, and the living processes."""

    directory: str
    values: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, kind and identity."""
    exemplars: list[tuple[str, str]] = field(default_factory=list)
    """Name and identity."""
    present: dict[str, str] = field(default_factory=dict)
    """Name by identity."""
    announcing: list[str] = field(default_factory=list)
    """Names of presences that are being made, or were when their process died."""
    _alive: dict[str, bool] = field(default_factory=dict)

    def is_alive(self, identity: str) -> bool:
        """Return True if the process runs. Without a presence file (the library's own) it counts as running."""
        known = self._alive.get(identity)
        if known is None:
            known = self._alive[identity] = self._looks_alive(identity)
        return known

    def _looks_alive(self, identity: str) -> bool:
        # Asked by its path, listed or not: a listing may miss a file that is made while it is read.
        if identity in self.present or OURS.fullmatch(identity):
            return presence.is_alive(f"{self.directory}/{identity}{presence.SUFFIX}")
        return True

    def dead(self) -> set[str]:
        """Everybody who has a file here and has ended."""
        return {identity for identity in self.identities() if not self.is_alive(identity)}

    def identities(self) -> set[str]:
        """Everybody who has a file here."""
        return {*(one for _, _, one in self.values), *(one for _, one in self.exemplars), *self.present}


def listing(directory: str) -> Listing:
    """Look into the directory. Raises DirectoryGoneError."""
    found = Listing(directory)
    try:
        # Names, here and below: a Path for each file would double the cost of a scrape.
        names = os.listdir(directory)  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DirectoryGoneError(f"the metrics directory {directory} is gone") from error
    for name in sorted(names):
        if name.endswith(".db"):
            named = owner(name)
            if named is not None:
                found.values.append((name, *named))
        elif name.endswith(presence.SUFFIX) and not name.startswith("."):
            found.present[name.removesuffix(presence.SUFFIX)] = name
        elif name.endswith(exemplars.SUFFIX):
            found.exemplars.append((name, name.removesuffix(exemplars.SUFFIX)))
        elif name.startswith(".") and OURS.fullmatch(name[1:]):
            found.announcing.append(name)
    return found


class Reader:
    """Keeps what it has learned of each file from one reading to the next. Not for several threads at once."""

    def __init__(self, directory: Path, max_series: int, on_bad: OnBad) -> None:
        self.directory = directory
        self.families: dict[str, Family] = {}
        self.tables = {kind: Table(kind, self.families, max_series) for kind in ("counter", "histogram", "summary")}
        self.gauges = Gauges(self.families, max_series)
        self.archive = Archive()
        self.sources: dict[str, Source] = {}
        """By the file's name."""
        self.listing = Listing(str(directory))
        self._on_bad = on_bad
        self._stamp: Stamp = None
        self._archived: dict[str, list[tuple[Column, Sequence[float]]]] = {}
        self._archived_gauges: list[Readings] = []
        self._archived_exemplars: dict[bytes, Exemplar] = {}
        self._exemplars: dict[str, ExemplarSource] = {}
        self._unplaced: list[tuple[bytes, Exemplar]] = []
        self.adopt(self.archive)

    def refresh(self) -> None:
        """Bring everything up to date. Raises DirectoryGoneError, RestlessError."""
        for _ in range(MOST_ATTEMPTS):
            self._load_archive()
            self.listing = listing(str(self.directory))
            self._read_values()
            if self._stamp == stamp(self.directory):
                break
        else:
            raise RestlessError(f"{self.directory / ARCHIVE} was replaced {MOST_ATTEMPTS} times while it was read")
        self._add_up()

    def _load_archive(self) -> None:
        now, ours = stamp(self.directory), epoch(self.directory)
        if now == self._stamp and self.archive.epoch == ours:
            return
        self._stamp, loaded = now, Archive(epoch=ours)
        try:
            if now is not None:
                loaded = archives.decode((self.directory / ARCHIVE).read_bytes())
        except FileNotFoundError:
            self._stamp = None
        except BadArchiveError as error:
            self._on_bad(self.directory / ARCHIVE, error)
        # What an earlier service has left is not this one's.
        self.adopt(loaded if loaded.epoch == ours else Archive(epoch=ours))

    def adopt(self, archive: Archive) -> None:
        """Go on with this archive."""
        self.archive = archive
        self.gauges.archived = {}
        self._archived_gauges = list(self._gauges_of(archive))
        self._archived_exemplars = archive.exemplars
        for kind, table in self.tables.items():
            places = [place for place, (its, _) in enumerate(archive.keys) if its == kind]
            slots = [table.slot_or_hidden(archive.keys[place][1]) for place in places]
            # Two columns: the sums, and what their rounding has left.
            self._archived[kind] = [
                (Column(slots), tuple(numbers[place] for place in places))
                for numbers in (archive.first, archive.second)
            ]

    def _gauges_of(self, archive: Archive) -> Iterable[Readings]:
        merged = [
            ("", kind, key, (archive.first[place], archive.second[place]))
            for place, (kind, key) in enumerate(archive.keys)
            if kind.startswith("gauge")
        ]
        shown = [
            (presence.pid_of(identity), kind, key, (value, timestamp))
            for identity, one in archive.shown
            for kind, key, value, timestamp in one
        ]
        for pid, kind, key, entry in merged + shown:
            with contextlib.suppress(BadFileError):  # what has changed its kind since is shown by the living
                keys = self.gauges.keys([key])
                if not pid:
                    self.gauges.remains([key], keys)
                yield Readings(kind.removeprefix("gauge_"), pid, keys, [entry])

    def remains(self, source: Source) -> tuple[Sequence[bytes], Sequence[Entry]]:
        """Return the keys and entries of a file that go to the archive."""
        if source.is_gauge:
            return self.gauges.remains(source.layout.keys, source.readings.keys), source.readings.entries
        keys, numbers = self.tables[source.kind].remains(source.column, source.values)
        return keys, [(number, 0.0) for number in numbers]

    def is_current(self) -> bool:
        """Return True if the archive has not been replaced since it was adopted."""
        return self._stamp == stamp(self.directory) and self.archive.epoch == epoch(self.directory)

    def seen(self, now: Stamp) -> None:
        """The archive that was adopted is the file with this stamp."""
        self._stamp = now

    def report(self, name: str, error: Exception) -> None:
        """A file is bad."""
        self._on_bad(self.directory / name, error)

    def _read_values(self) -> None:
        """Read each file of this listing; who is in the ledger is left out, and so are the live gauges of the dead."""
        kept: dict[str, Source] = {}
        for name, kind, identity in self.listing.values:
            if identity in self.archive.folded:
                continue
            source = self.source(name, kind, identity)
            try:
                self.read_source(source)
            except FileNotFoundError:
                continue
            except BadFileError as error:
                self.report(name, error)
                continue
            kept[name] = source
        self.sources = kept

    def source(self, name: str, kind: str, identity: str) -> Source:
        """The file with this name: the one that is known, or a new one."""
        return self.sources.get(name) or Source(f"{self.listing.directory}/{name}", kind, identity)

    def read_source(self, source: Source, *, final: bool = False) -> None:
        """Bring one file up to date; `final` when nobody will write to it. Raises BadFileError, FileNotFoundError."""
        known = len(source.layout.keys)
        changed = source.refresh()
        if not source.data and (final or was_given_up(source.path)):
            raise BadFileError("it is empty")
        if not changed:
            return
        new = source.layout.keys[known:]
        if source.is_gauge:
            keys = [*source.readings.keys, *self.gauges.keys(new)]
            source.readings = Readings(source.mode, source.readings.pid, keys, source.entries())
        else:
            source.column.slots += self.tables[source.kind].slots(new)

    def _add_up(self) -> None:
        for kind, table in self.tables.items():
            live = [(source.column, source.values) for source in self.sources.values() if source.kind == kind]
            columns = self._archived[kind] + live
            for column, values in columns:
                column.align(values, table.width)
            table.add_up([column for column, _ in columns])
        gauges = [
            source
            for source in self.sources.values()
            if source.is_gauge and (not source.mode.startswith("live") or self.listing.is_alive(source.identity))
        ]
        # The dead first: process ids come back, and of two with the same it is the living that is to be seen.
        gauges.sort(key=lambda source: source.mode == "all" and self.listing.is_alive(source.identity))
        self.gauges.merge([*self._archived_gauges, *(source.readings for source in gauges)])

    def read_exemplars(self) -> None:
        """Bring the exemplars up to date: the newest of each series, of any process."""
        before = [*self._unplaced, *self._archived_exemplars.items()]
        self._archived_exemplars = {}
        found = []
        kept: dict[str, ExemplarSource] = {}
        for name, identity in self.listing.exemplars:
            if identity not in self.archive.folded:
                kept[name] = self._exemplars.get(name) or ExemplarSource(f"{self.listing.directory}/{name}")
                found += self.exemplars_of(kept[name], name)
        self._exemplars = kept
        for kind in ("counter", "histogram"):
            before, found = self.tables[kind].offer(before), self.tables[kind].offer(found)
        # Their series came after the reading of the values: the next one will know them. Those that it does not know
        # either belong to series that are not shown.
        self._unplaced = found

    def exemplars_of(self, source: ExemplarSource, name: str) -> list[tuple[bytes, Exemplar]]:
        """The exemplars of a file that are new to `source`; none where it is gone or bad."""
        try:
            return source.refresh()
        except FileNotFoundError:
            return []
        except BadFileError as error:
            self.report(name, error)
            return []

    def series(self) -> dict[str, int]:
        """Label sets of each metric, as of the last reading."""
        return {
            name: self.gauges.count(name) if family.kind == "gauge" else len(family.groups)
            for name, family in self.families.items()
        }


def was_given_up(path: str) -> bool:
    """Return True if an unfinished file is not being made at this moment."""
    try:
        return time.time() - Path(path).stat().st_mtime > LONGEST_MAKING
    except FileNotFoundError:
        return False


def stamp(directory: Path) -> Stamp:
    """Return an identity that changes with each replacement of the archive; None without an archive."""
    try:
        found = (directory / ARCHIVE).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
