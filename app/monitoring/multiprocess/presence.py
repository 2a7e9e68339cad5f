"""Liveness of processes: each locks a presence file of its own, and the kernel releases the lock when it ends.

Process ids alone are not enough: they are reused, a sidecar does not see those of another container, and a restarted
container assigns the same ones in the same directory. A process is therefore identified by "<pid>-<random>", which is
never reused.
"""

import fcntl
import os
import secrets
from pathlib import Path
from typing import IO

from .ownership import give_to_owner

SUFFIX = ".presence"


def new_identity(prefix: str = "") -> str:
    """Return a new identity for this process: `prefix`, process id and eight random hex digits."""
    return f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"


def pid_of(identity: str) -> str:
    """Return the value of the `pid` label of a process."""
    return identity.partition("-")[0]


def announce(directory: Path, identity: str) -> IO[str]:
    """Create and lock the presence file, and return it. The process counts as alive while it is open.

    Raise OSError if the file cannot be made or locked.

    The file is renamed to its final name after it is locked, so no reader sees it unlocked.
    """
    hidden, visible = directory / f".{identity}", directory / f"{identity}{SUFFIX}"
    lock = hidden.open("x")
    try:
        give_to_owner(lock.fileno(), directory)
        fcntl.flock(lock, fcntl.LOCK_EX)
        hidden.rename(visible)
    except BaseException:
        lock.close()
        hidden.unlink(missing_ok=True)
        raise
    return lock


def is_alive(path: str | Path) -> bool:
    """Return True if the process that locked this presence file is running; False if the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)
