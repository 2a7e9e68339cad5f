"""The shared metrics directory: who may use it, and what is left in it when a process ends."""

import fcntl
from pathlib import Path
from typing import IO


class DirectoryError(Exception):
    """The directory cannot be used; the message names it and says why."""


def claim(path: Path) -> IO[str]:
    """Make `path` this service's own and empty it of an earlier service's files.

    Returns the lock, which lives as long as the caller keeps it. Raises DirectoryError when the directory cannot be
    written, or when another service counts in it: two services in one directory would add up.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("a+")
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
    for file in path.glob("*.db"):
        file.unlink()
    return lock


def usage(path: Path) -> tuple[int, int]:
    """Number of metric files and the disk they hold in bytes; the files are sparse, so their sizes say nothing."""
    blocks = []
    for file in path.glob("*.db"):
        try:
            blocks.append(file.stat().st_blocks)
        except FileNotFoundError:  # its process has just ended
            continue
    return len(blocks), sum(blocks) * 512
