"""Which processes live: each holds a lock on a file of its own, which the kernel lets go of however it ends.

A process id alone would not do: ids are used again, a sidecar sees none of another container's, and a restarted
container starts them anew in the same directory. So a process is known by an identity, "<pid>-<random>", that never
comes back.
"""

import fcntl
import os
import secrets
from pathlib import Path
from typing import IO

SUFFIX = ".presence"


def new_identity(prefix: str = "") -> str:
    """An identity for this process: its id, after `prefix`, and eight random digits."""
    return f"{prefix}{os.getpid()}-{secrets.token_hex(4)}"


def pid_of(identity: str) -> str:
    """Return the value of the `pid` label for this process."""
    return identity.partition("-")[0]


def announce(directory: Path, identity: str) -> IO[str]:
    """Be present in `directory` for as long as the returned file is open. Raises OSError.

    The file gets its name after the lock, so nobody ever sees it without.
    """
    hidden, visible = directory / f".{identity}", directory / f"{identity}{SUFFIX}"
    lock = hidden.open("x")
    try:
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
