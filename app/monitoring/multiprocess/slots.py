"""Slots of workers without a master of this package, and the number of configured workers.

slot.<number>   locked by the worker in the slot; contains its process id and its parent's
slots.lock      locked while a slot is claimed and while slots are counted
workers         the directory's epoch, and the configured number of workers, 0 if unknown
"""

import fcntl
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from . import presence
from .directory import epoch

SLOT, SLOTS_LOCK, WORKERS = "slot.", "slots.lock", "workers"


@dataclass(frozen=True)
class Workers:
    """Live workers, and configured ones; None if unknown."""

    live: int
    configured: int | None


def claim(directory: Path, pid: int, parent: int) -> tuple[int, IO[str]]:
    """Lock the first free slot. Return its number and its file, which must stay open.

    Raise OSError if the file cannot be made or locked.
    """
    with _locked(directory):
        for slot in itertools.count():
            file = (directory / f"{SLOT}{slot}").open("a")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            file.truncate(0)
            file.write(f"{pid} {parent}")
            file.flush()
            return slot, file
    raise AssertionError


def note_configured(directory: Path, workers: int) -> None:
    """Store for the exporter that there is no master, and the number of configured workers.

    Raise OSError if that fails.
    """
    aside = directory / f"{WORKERS}.new"
    with _locked(directory):
        aside.write_text(f"{epoch(directory)} {workers}")
        aside.rename(directory / WORKERS)


def count(directory: Path) -> Workers | None:
    """Return the workers, or None if a master counts them or the directory is unused.

    Raise OSError if it cannot be read.
    """
    with _locked(directory):
        try:
            of, _, configured = (directory / WORKERS).read_text().partition(" ")
        except FileNotFoundError:
            return None
        if of != epoch(directory):  # of an earlier service
            return None
        taken = [path.read_text().split() for path in directory.glob(f"{SLOT}*") if presence.is_alive(path)]
    # `fastapi run` imports the application in its process manager too, which serves no request.
    managers = {parent for _, parent in taken}
    return Workers(sum(pid not in managers for pid, _ in taken), int(configured) or None)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep workers from claiming slots while they are counted, which locks each for a moment."""
    with (directory / SLOTS_LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
