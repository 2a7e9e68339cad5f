"""A consistent reading of a directory: the sum of its live files and the archive.

The archive's stamp is compared before and after reading the files. If the archive was replaced in between, a process
may have been folded into it, so the reading is repeated. Files of processes in the archive's ledger are ignored: their
values are in the archive.
"""

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
from .clock import WriteClock, later_than_never
from .directory import ARCHIVE, epoch
from .entries import NOT_A_NUMBER, BadEntryError, LeftOut
from .exemplars import Seen
from .gauges import Entry, Gauges, Readings
from .layout import BadFileError
from .series import Family
from .source import ExemplarSource, Source, owner
from .table import Column, Table

IDENTITY = re.compile(r"\w+-[0-9a-f]{8}")
MAX_ATTEMPTS = 50
# Seconds that a new file may stay empty.
MAX_CREATION_SECONDS = 10.0
OnBad = Callable[[Path, Exception], None]
Stamp = tuple[int, int, int] | None


class DirectoryGoneError(Exception):
    """The metrics directory does not exist."""


class RestlessError(Exception):
    """The archive was replaced during each of MAX_ATTEMPTS attempts to read."""


@dataclass
class Listing:
    """A listing of the directory, and the liveness of its processes."""

    directory: str
    values: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, kind and identity."""
    exemplars: list[tuple[str, str]] = field(default_factory=list)
    """Name and identity."""
    present: dict[str, str] = field(default_factory=dict)
    """Name by identity."""
    announcing: list[str] = field(default_factory=list)
    """Names of unfinished presence files, including those of processes that died while creating them."""
    _alive: dict[str, bool] = field(default_factory=dict)

    def is_alive(self, identity: str) -> bool:
        """Return True if the process is alive. One of the library's own, without a presence file, counts as alive."""
        known = self._alive.get(identity)
        if known is None:
            known = self._alive[identity] = self._check_alive(identity)
        return known

    def _check_alive(self, identity: str) -> bool:
        # Checked by path even if it is not listed: a listing may miss a file that is created during it.
        if identity in self.present or IDENTITY.fullmatch(identity):
            return presence.is_alive(f"{self.directory}/{identity}{presence.SUFFIX}")
        return True

    def dead(self) -> set[str]:
        """Return the identities of ended processes that have files here."""
        return {identity for identity in self.identities() if not self.is_alive(identity)}

    def identities(self) -> set[str]:
        """Return the identities of all processes that have files here."""
        return {*(one for _, _, one in self.values), *(one for _, one in self.exemplars), *self.present}


def listing(directory: str) -> Listing:
    """List the directory. Raise DirectoryGoneError if it does not exist."""
    found = Listing(directory)
    try:
        # Strings, here and below: a Path for each file would double the cost of a scrape.
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
        elif name.startswith(".") and IDENTITY.fullmatch(name[1:]):
            found.announcing.append(name)
    return found


class Reader:
    """An incremental reader of a directory: layouts and values of known files are cached. Not thread-safe."""

    def __init__(self, directory: Path, max_series: int, on_bad: OnBad) -> None:
        self.directory = directory
        self.families: dict[str, Family] = {}
        self.clock = WriteClock()
        self.left_out = LeftOut()
        self.tables = {
            kind: Table(kind, self.families, max_series, self.left_out) for kind in ("counter", "histogram", "summary")
        }
        self.gauges = Gauges(self.families, max_series, self.left_out)
        self.archive = Archive()
        self.sources: dict[str, Source] = {}
        """By file name."""
        self.listing = Listing(str(directory))
        self._on_bad = on_bad
        self._stamp: Stamp = None
        self._archived: dict[str, list[tuple[Column, Sequence[float]]]] = {}
        self._archived_gauges: list[Readings] = []
        self._archived_exemplars: list[Seen] = []
        self._exemplars: dict[str, ExemplarSource] = {}
        self._unplaced: list[Seen] = []
        self.adopt(self.archive)

    def refresh(self) -> None:
        """Read everything that has changed.

        Raise DirectoryGoneError if the directory does not exist, RestlessError if it does not come to rest.
        """
        set_back = self.clock.look()
        if set_back:
            self.archive.change_timestamps(lambda timestamp: later_than_never(timestamp - set_back))
            self.adopt(self.archive)
        for _ in range(MAX_ATTEMPTS):
            self._load_archive()
            self.listing = listing(str(self.directory))
            self._read_values()
            if self._stamp == stamp(self.directory):
                break
        else:
            raise RestlessError(f"{self.directory / ARCHIVE} was replaced {MAX_ATTEMPTS} times while it was read")
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
        # An earlier service's archive is ignored.
        self.adopt(loaded if loaded.epoch == ours else Archive(epoch=ours))

    def adopt(self, archive: Archive) -> None:
        """Replace the archive in memory by `archive`."""
        self.archive = archive
        for key in archive.drop_nan():
            self.left_out.add_archived(BadEntryError(NOT_A_NUMBER, f"the archive has NaN for {key[:60]!r}"), key)
        archive.change_timestamps(self.clock.credible)
        self.gauges.archived = {}
        self._archived_gauges = list(self._gauges_of(archive))
        self._archived_exemplars = [
            Seen(key, self.clock.order(float(exemplar.timestamp or 0)), exemplar)
            for key, exemplar in archive.exemplars.items()
        ]
        for kind, table in self.tables.items():
            indexes = [index for index, (its, _) in enumerate(archive.keys) if its == kind]
            slots = [table.archive_slot(archive.keys[index][1]) for index in indexes]
            # Two columns: the sums and their rounding errors.
            self._archived[kind] = [
                (Column(slots), tuple(numbers[index] for index in indexes))
                for numbers in (archive.first, archive.second)
            ]

    def _gauges_of(self, archive: Archive) -> Iterable[Readings]:
        merged = [
            ("", kind, key, (archive.first[index], archive.second[index]))
            for index, (kind, key) in enumerate(archive.keys)
            if kind.startswith("gauge")
        ]
        shown = [
            (presence.pid_of(identity), kind, key, (value, timestamp))
            for identity, one in archive.shown
            for kind, key, value, timestamp in one
        ]
        for pid, kind, key, entry in merged + shown:
            try:
                parsed = self.gauges.key(key)
            except BadEntryError as error:  # live processes use the name for another kind
                self.left_out.add_archived(error, key)
                continue
            if not pid:
                self.gauges.archive_keys([key], [parsed])
            if kind == "gauge_mostrecent" and entry[1]:
                entry = entry[0], self.clock.order(entry[1])  # noqa: PLW2901 -- as it is read from a file
            yield Readings(kind.removeprefix("gauge_"), pid, [parsed], [entry])

    def archive_entries(self, source: Source) -> tuple[Sequence[bytes], Sequence[Entry]]:
        """Return the keys and entries of a file for the archive."""
        if source.is_gauge:
            accepted = source.accepted()
            raw, parsed = [one for one, _, _ in accepted], [key for _, key, _ in accepted]
            entries = [entry for _, _, entry in accepted]
            if source.is_recent:
                entries = [(value, order and later_than_never(self.clock.timestamp(order))) for value, order in entries]
            return self.gauges.archive_keys(raw, parsed), entries
        keys, numbers = self.tables[source.kind].archive_entries(source.column, source.values)
        return keys, [(number, 0.0) for number in numbers]

    def is_current(self) -> bool:
        """Return True if the archive has not been replaced since it was adopted."""
        return self._stamp == stamp(self.directory) and self.archive.epoch == epoch(self.directory)

    def set_stamp(self, now: Stamp) -> None:
        """Set the stamp of the adopted archive's file."""
        self._stamp = now

    def report(self, name: str, error: Exception) -> None:
        """Report a bad file."""
        self._on_bad(self.directory / name, error)

    def _read_values(self) -> None:
        """Read each file of the listing, except those of folded processes."""
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
        """Return the source of the file with this name, cached or new."""
        return self.sources.get(name) or Source(f"{self.listing.directory}/{name}", kind, identity)

    def read_source(self, source: Source, *, final: bool = False) -> None:
        """Read one file; `final` if its writer has ended. Entries in doubt are left out.

        Raise BadFileError if its structure is broken, FileNotFoundError if it is gone.
        """
        known, not_numbers = len(source.layout.keys), len(source.not_numbers)
        changed = source.refresh()
        if not source.data and (final or is_abandoned(source.path)):
            raise BadFileError("it is empty")
        if not changed:
            return
        if len(source.not_numbers) > not_numbers:
            error = BadEntryError(NOT_A_NUMBER, f"a sum in {source.path.rpartition('/')[2]} is NaN")
            self.left_out.add(error, len(source.not_numbers) - not_numbers)
        new = source.layout.keys[known:]
        if source.is_gauge:
            keys = [*source.readings.keys, *self.gauges.keys(new)]
            source.readings = Readings(source.mode, source.readings.pid, keys, source.entries(self.clock))
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
        # Dead processes first: process ids are reused, and a live process's reading replaces a dead one's.
        gauges.sort(key=lambda source: source.mode == "all" and self.listing.is_alive(source.identity))
        self.gauges.merge([*self._archived_gauges, *(source.readings for source in gauges)])

    def read_exemplars(self) -> None:
        """Read the exemplars that have changed, and keep the newest of each series over all processes."""
        before = [*self._unplaced, *self._archived_exemplars]
        self._archived_exemplars = []
        found = []
        kept: dict[str, ExemplarSource] = {}
        for name, identity in self.listing.exemplars:
            if identity not in self.archive.folded:
                kept[name] = self._exemplar_source(name)
                found += kept[name].changed()
        self._exemplars = kept
        for kind in ("counter", "histogram"):
            before, found = self.tables[kind].store_exemplars(before), self.tables[kind].store_exemplars(found)
        # Retried once: their series may be newer than the reading of the values. Exemplars still unknown at the next
        # reading belong to series that are not exposed.
        self._unplaced = found

    def _exemplar_source(self, name: str) -> ExemplarSource:
        """Return the source of the file with this name after reading it, if it is neither gone nor bad."""
        source = self._exemplars.get(name) or ExemplarSource(f"{self.listing.directory}/{name}", self.left_out)
        try:
            source.refresh(self.clock)
        except FileNotFoundError:
            pass
        except BadFileError as error:
            self.report(name, error)
        return source

    def archive_exemplars(self, name: str) -> list[tuple[bytes, Exemplar]]:
        """Return the exemplars of a file for the archive, with their keys."""
        return [
            (key, exemplar._replace(timestamp=self.clock.timestamp(order)))
            for key, order, exemplar in self._exemplar_source(name).seen.values()
        ]

    def series(self) -> dict[str, int]:
        """Return the number of label sets of each metric at the last reading."""
        return {
            name: self.gauges.count(name) if family.kind == "gauge" else len(family.groups)
            for name, family in self.families.items()
        }


def is_abandoned(path: str) -> bool:
    """Return True if an unfinished file is too old to be still in creation."""
    try:
        return time.time() - Path(path).stat().st_mtime > MAX_CREATION_SECONDS
    except FileNotFoundError:
        return False


def stamp(directory: Path) -> Stamp:
    """Return a value that changes with each replacement of the archive; None without an archive."""
    try:
        found = (directory / ARCHIVE).stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
