"""The shared metrics directory: who may use it, and what is left in it when a process ends."""

import fcntl
import re
from pathlib import Path
from typing import IO

FILE_NAME = re.compile(r"(?:counter|histogram|summary|gauge_[a-z]+)_.+\.db")


class DirectoryError(Exception):
    """The directory cannot be used; the message names it and says why."""


def claim(path: Path) -> IO[str]:
    """Make `path` this service's own and empty it of an earlier service's files.

    Returns the lock, which lives as long as the caller keeps it. Raises DirectoryError when the directory cannot be
    written, or when another service counts in it: two services in one directory would add up.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
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
    for file in metric_files(path):
        file.unlink(missing_ok=True)
    return lock


def metric_files(path: Path) -> list[Path]:
    """prometheus-client's files in `path`, and nobody else's."""
    return [file for file in path.glob("*.db") if FILE_NAME.fullmatch(file.name)]


def usage(path: Path) -> tuple[int, int]:
    """Number of metric files and the disk they hold in bytes; the files are sparse, so their sizes say nothing."""
    blocks = []
    for file in metric_files(path):
        try:
            blocks.append(file.stat().st_blocks)
        except FileNotFoundError:  # its process has just ended
            continue
    return len(blocks), sum(blocks) * 512
