"""The shared metrics directory: whose it is, and what it holds.

lock                    held by the service that counts here
epoch                   a random word for that service; an archive of another one is none of its
<identity>.presence     held by a process that lives                                     presence.py
<kind>_<identity>.db    what the process counts                                          mapped.py
<identity>.exemplars    its newest exemplars                                             exemplars.py
archive                 what the dead have counted; archive.new is the next one          archive.py
folding.lock            held by the process that folds the dead into the archive         folder.py
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

LOCK, EPOCH, ARCHIVE, ARCHIVE_NEW, FOLDING_LOCK, SET_ASIDE = (
    "lock",
    "epoch",
    "archive",
    "archive.new",
    "folding.lock",
    "bad",
)
OF_A_PROCESS = re.compile(
    r"(?:counter|histogram|summary|gauge_[a-z]+)_(.+)\.db|\.?(\w+-[0-9a-f]{8})(?:\.presence|\.exemplars)|\.(\w+-[0-9a-f]{8})"
)


class DirectoryError(Exception):
    """The directory cannot be used; the message names it and says why."""


def claim(path: Path) -> IO[str]:
    """Make `path` this service's own and empty it of an earlier service's files: totals begin at 0, as after any start.

    Files of processes that live are left: this one's, and an exporter's that runs beside the service. Returns the
    lock, which lives as long as the caller keeps it. Raises DirectoryError when the directory cannot be written, or
    when another service counts in it: two services in one directory would add up.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    # Before the removals: should this process end here, the old archive counts for nobody. And after them: an exporter
    # beside the service may fold the old files into an archive of the epoch that it sees.
    _write(path / EPOCH, secrets.token_hex(8))
    for file in path.iterdir():
        found = OF_A_PROCESS.fullmatch(file.name)
        owner = found and next(filter(None, found.groups()))
        if file.name in {ARCHIVE, ARCHIVE_NEW} or (owner and not _lives(path, owner)):
            file.unlink(missing_ok=True)
    shutil.rmtree(path / SET_ASIDE, ignore_errors=True)
    _write(path / EPOCH, secrets.token_hex(8))
    return lock


def _lives(path: Path, identity: str) -> bool:
    return presence.is_alive(path / f"{identity}{presence.SUFFIX}")


def _write(path: Path, text: str) -> None:
    """Replace a file as a whole."""
    aside = path.with_name(f"{path.name}.new")
    aside.write_text(text)
    aside.rename(path)


def epoch(path: Path) -> str:
    """Return the id of the service that has claimed this directory; empty if none has."""
    try:
        descriptor = os.open(path / EPOCH, os.O_RDONLY)
    except FileNotFoundError:
        return ""
    try:
        return os.read(descriptor, 64).decode()
    finally:
        os.close(descriptor)


def usage(path: Path) -> tuple[int, int, int]:
    """Number of files, the disk they hold and the disk that is left, in bytes."""
    files = held = 0
    for file in path.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # its process has just ended
            held += file.stat().st_blocks * 512
            files += file.is_file()
    room = os.statvfs(path)
    return files, held, room.f_bavail * room.f_frsize
