"""Folds the dead into the archive. One process in a directory is in charge of that: the one that holds its lock.

Every step leaves the directory so that a reader, or the next one in charge, gets the same totals:

    write the new archive aside   nothing has changed: the files count, the old archive counts
    rename it into place          the ledger names the dead: their numbers are in the archive, their files are left out
    remove the files              what is left of them is in the ledger, until it has gone
"""

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import structlog

from . import archive as archives
from . import presence
from .archive import Archive, Files
from .directory import FOLDING_LOCK, SET_ASIDE
from .layout import BadFileError
from .reader import Listing, Reader, listing, stamp, was_given_up
from .source import ExemplarSource, Source

# What is kept of bad files, for whoever looks into the cause.
MOST_SET_ASIDE, LARGEST_SET_ASIDE = 8, 1 << 20
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("folder")


class Folder:
    """In charge of a directory, or waiting to be: `fold` does nothing until then."""

    def __init__(self, directory: Path, files: type[Files] = Files) -> None:
        self.folded = 0
        """Processes folded so far."""
        self._directory = directory
        self._files = files
        self._lock: IO[str] | None = None

    def in_charge(self) -> bool:
        """True if this process holds the lock and folds."""
        path = self._directory / FOLDING_LOCK
        if self._lock is not None and path.exists() and os.fstat(self._lock.fileno()).st_ino == path.stat().st_ino:
            return True
        lock = path.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        if self._lock is not None:
            self._lock.close()
        self._lock = lock
        return True

    def fold(self, reader: Reader) -> int:
        """Fold whoever had ended by `reader`'s last reading; returns how many. It goes on with the new archive.

        Raises OSError where the archive cannot be written: nothing has changed then, and the next call tries again.
        """
        self._remove_unannounced(reader.listing)
        dead = reader.listing.dead()
        if not dead:
            return 0
        if not reader.is_current():
            # Whoever was in charge has replaced the archive since it was read: what is in there now would be lost.
            reader.refresh()
            dead = reader.listing.dead()
        # Looked at again now that they are known to be dead: the first look may have come before their last file.
        now = listing(str(self._directory))
        new = dead - reader.archive.folded
        if new:
            archive = self._with(reader, now, new)
            # Those of the ledger whose files are still there stay in it.
            archive.folded = frozenset(dead)
            archive.generation += 1
            archives.replace(self._directory, archive, self._files)
            reader.adopt(archive)
            reader.seen(stamp(self._directory))
            self.folded += len(new)  # even if their files cannot be removed
        self._remove(now, reader.archive.folded & dead)
        return len(new)

    def _with(self, reader: Reader, now: Listing, new: set[str]) -> Archive:
        """The archive with the dead in it."""
        archive = reader.archive.copy()
        for name, kind, identity in now.values:
            if identity in new:
                source = reader.source(name, kind, identity)
                try:
                    reader.read_source(source, final=True)
                except FileNotFoundError:
                    continue
                except BadFileError as error:
                    reader.report(name, error)
                    continue
                _take(archive, source, reader)
        for name, identity in now.exemplars:
            if identity in new:
                # Read anew and whole: what the last reading has seen of it is not in the archive.
                archive.take_exemplars(reader.exemplars_of(ExemplarSource(str(self._directory / name)), name))
        return archive

    def _remove_unannounced(self, seen: Listing) -> None:
        """Remove what is left of processes that died before anybody could know them."""
        for name in seen.announcing:
            path = self._directory / name
            if was_given_up(str(path)) and not presence.is_alive(path):
                self._files.remove(path)

    def _remove(self, now: Listing, identities: Iterable[str]) -> None:
        """Remove what the dead have left; the presence last, so that they stay known as dead until then."""
        gone = set(identities)
        names = [name for name, _, identity in now.values if identity in gone]
        names += [name for name, identity in now.exemplars if identity in gone]
        names += [now.present[identity] for identity in sorted(gone & now.present.keys())]
        for name in names:
            self._files.remove(self._directory / name)

    def set_aside(self, path: Path) -> None:
        """Move a bad file out of the way, and keep the last few of them."""
        aside = self._directory / SET_ASIDE
        aside.mkdir(exist_ok=True)
        try:
            found = path.lstat()  # of a link, not of where it leads
            if found.st_size > LARGEST_SET_ASIDE:
                # Not cut off where it is: a process that still has it mapped would die of that.
                (aside / f"{path.name}.{found.st_mtime_ns}").write_bytes(_beginning(path))
                path.unlink()
            else:
                path.replace(aside / f"{path.name}.{found.st_mtime_ns}")
        except FileNotFoundError:
            return
        kept = sorted(aside.iterdir(), key=lambda file: file.lstat().st_mtime_ns)
        for old in kept[:-MOST_SET_ASIDE]:
            old.unlink(missing_ok=True)


def _take(archive: Archive, source: Source, reader: Reader) -> None:
    """Fold in a dead process's file, unless nothing of it outlives its process."""
    if source.mode == "all":
        archive.show(source.identity, source.kind, source.layout.keys, source.readings.entries)
    elif not source.mode.startswith("live"):
        archive.add(source.kind, *reader.remains(source))


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST_SET_ASIDE)
