"""Folding of dead processes into the archive, by the one process that holds the directory's folding lock.

Readers, and the next holder of the lock, get the same totals after each step:

    write archive.new       unchanged: the files and the old archive count
    rename it to archive    the ledger names the dead processes: the archive has their values, their files are ignored
    remove the files        the ledger names the dead processes until their files are gone
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
from .reader import Listing, Reader, is_abandoned, listing, stamp
from .source import Source

# Limits on the bad files that are kept for debugging.
MAX_SET_ASIDE, MAX_SET_ASIDE_BYTES = 8, 1 << 20
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("folder")


class Folder:
    """A candidate for the folding lock of a directory. Call `fold` only while `in_charge` returns True."""

    def __init__(self, directory: Path, files: type[Files] = Files) -> None:
        self.folded = 0
        """Number of processes folded so far."""
        self._directory = directory
        self._files = files
        self._lock: IO[str] | None = None

    def in_charge(self) -> bool:
        """Try to take the folding lock. Return True if this process holds it."""
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
        """Fold the processes that had ended at `reader`'s last reading. Return their number. Update `reader`.

        Raise OSError if the archive cannot be written. Nothing has changed then, and the next call retries.
        """
        self._remove_abandoned(reader.listing)
        dead = reader.listing.dead()
        if not dead:
            return 0
        if not reader.is_current():
            # The previous lock holder has replaced the archive since it was read: its additions would be lost.
            reader.refresh()
            dead = reader.listing.dead()
        # Listed again after they have ended: the first listing may miss their last file.
        now = listing(str(self._directory))
        new = dead - reader.archive.folded
        if new:
            archive = self._folded_archive(reader, now, new)
            # Processes whose files still exist stay in the ledger.
            archive.folded = frozenset(dead)
            archive.generation += 1
            archives.replace(self._directory, archive, self._files)
            reader.adopt(archive)
            reader.set_stamp(stamp(self._directory))
            self.folded += len(new)  # counted even if their files cannot be removed
        self._remove(now, reader.archive.folded & dead)
        return len(new)

    def _folded_archive(self, reader: Reader, now: Listing, new: set[str]) -> Archive:
        """Return a copy of the archive with the files of the processes `new` folded in."""
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
                _fold_file(archive, source, reader)
        for name, identity in now.exemplars:
            if identity in new:
                archive.add_exemplars(reader.archive_exemplars(name))
        return archive

    def _remove_abandoned(self, found: Listing) -> None:
        """Remove unfinished presence files of dead processes."""
        for name in found.announcing:
            path = self._directory / name
            if is_abandoned(str(path)) and not presence.is_alive(path):
                self._files.remove(path)

    def _remove(self, now: Listing, identities: Iterable[str]) -> None:
        """Remove the files of dead processes; the presence last, so that they are known to be dead until then."""
        gone = set(identities)
        names = [name for name, _, identity in now.values if identity in gone]
        names += [name for name, identity in now.exemplars if identity in gone]
        names += [now.present[identity] for identity in sorted(gone & now.present.keys())]
        for name in names:
            self._files.remove(self._directory / name)

    def set_aside(self, path: Path) -> None:
        """Move a bad file to the directory of bad files, which keeps the last MAX_SET_ASIDE."""
        aside = self._directory / SET_ASIDE
        aside.mkdir(exist_ok=True)
        try:
            found = path.lstat()  # of a link itself
            if found.st_size > MAX_SET_ASIDE_BYTES:
                # Not truncated in place: a process that has it mapped would be killed by SIGBUS.
                (aside / f"{path.name}.{found.st_mtime_ns}").write_bytes(_beginning(path))
                path.unlink()
            else:
                path.replace(aside / f"{path.name}.{found.st_mtime_ns}")
        except FileNotFoundError:
            return
        kept = sorted(aside.iterdir(), key=lambda file: file.lstat().st_mtime_ns)
        for old in kept[:-MAX_SET_ASIDE]:
            old.unlink(missing_ok=True)


def _fold_file(archive: Archive, source: Source, reader: Reader) -> None:
    """Fold in a dead process's file, except gauges over live processes."""
    if source.mode == "all":
        accepted = source.accepted()
        keys, entries = [raw for raw, _, _ in accepted], [entry for _, _, entry in accepted]
        archive.add_all_gauges(source.identity, source.kind, keys, entries)
    elif not source.mode.startswith("live"):
        archive.add(source.kind, *reader.archive_entries(source))


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_SET_ASIDE_BYTES)
