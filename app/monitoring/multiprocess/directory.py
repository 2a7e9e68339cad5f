"""The shared metrics directory: its ownership and its files.

lock                    locked by the service that owns the directory
epoch                   a random id of that service; archives of another epoch are ignored
<identity>.presence     locked by a live process                                         presence.py
<kind>_<identity>.db    values of the process                                            mapped_file.py
<identity>.exemplars    newest exemplars of the process                                  exemplars.py
archive                 folded values of dead processes; archive.new is the next one     archive.py
folding.lock            locked by the process that folds dead processes                  folder.py
bad/                    the last files that could not be read
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import IO

from . import presence
from .ownership import planted_entry

LOCK, EPOCH, ARCHIVE, ARCHIVE_NEW, FOLDING_LOCK, SET_ASIDE = (
    "lock",
    "epoch",
    "archive",
    "archive.new",
    "folding.lock",
    "bad",
)
PROCESS_FILE = re.compile(
    r"(?:counter|histogram|summary|gauge_[a-z]+)_(.+)\.db|\.?(\w+-[0-9a-f]{8})(?:\.presence|\.exemplars)|\.(\w+-[0-9a-f]{8})"
)


class DirectoryError(Exception):
    """The directory cannot be used; the message gives its path and the reason."""


def make(path: Path) -> None:
    """Make `path`, for this user alone, unless it exists.

    Raise DirectoryError if it cannot be made, or if another user has made it or a link on the way to it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # After the mkdir, since another user may have been first.
        planted = planted_entry(path)
    except OSError as error:
        raise DirectoryError(
            f"PROMETHEUS_MULTIPROC_DIR={str(path)!r}: {error.strerror}: want a directory to write to"
        ) from error
    if planted is not None:
        raise DirectoryError(
            f"PROMETHEUS_MULTIPROC_DIR={str(path)!r}: {str(planted)!r} belongs to another user: "
            "want a directory of this user"
        )


def claim(path: Path) -> IO[str]:
    """Lock `path` for this service and remove an earlier service's files, so totals start at 0. Return the lock file.

    Files of live processes are kept: this one's, and those of an exporter beside the service. The claim lasts as long
    as the returned file is open. Raise DirectoryError if the directory is not writable or another user's, or if
    another service has claimed it: the totals of two services would add up.
    """
    make(path)
    try:
        lock = (path / LOCK).open("a+")
    except OSError as error:
        raise DirectoryError(
            f"PROMETHEUS_MULTIPROC_DIR={str(path)!r}: {error.strerror}: want a directory to write to"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise DirectoryError(
            f"PROMETHEUS_MULTIPROC_DIR={str(path)!r}: another service counts there: want a directory of its own"
        ) from error
    # A new epoch before the removals invalidates the old archive even if this process ends during them. Another one
    # afterwards, since an exporter beside the service may fold old files into an archive of the first.
    _write(path / EPOCH, secrets.token_hex(8))
    for file in path.iterdir():
        found = PROCESS_FILE.fullmatch(file.name)
        owner = found and next(filter(None, found.groups()))
        if file.name in {ARCHIVE, ARCHIVE_NEW} or (owner and not _lives(path, owner)):
            file.unlink(missing_ok=True)
    shutil.rmtree(path / SET_ASIDE, ignore_errors=True)
    _write(path / EPOCH, secrets.token_hex(8))
    return lock


def _lives(path: Path, identity: str) -> bool:
    return presence.is_alive(path / f"{identity}{presence.SUFFIX}")


def _write(path: Path, text: str) -> None:
    """Replace a file atomically."""
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    aside.write_text(text)
    aside.rename(path)


def epoch(path: Path) -> str:
    """Return the epoch of the service that has claimed this directory; empty if none has."""
    try:
        descriptor = os.open(path / EPOCH, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    try:
        return os.read(descriptor, 64).decode()
    finally:
        os.close(descriptor)


def usage(path: Path) -> tuple[int, int, int]:
    """Return the number of files, their disk usage and the free disk space, in bytes."""
    files = held = 0
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            held += file.stat().st_blocks * 512
            files += file.is_file()
    room = os.statvfs(path)
    return files, held, room.f_bavail * room.f_frsize
