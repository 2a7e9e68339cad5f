"""The process manager of this worker, and processes as the kernel knows them.

Constraint: an identity must not depend on the system clock. A time of day such as `psutil.Process.create_time` changes
when the clock is set, so the same process would be taken for another one.
"""

import contextlib
import multiprocessing
import os
import sys
from pathlib import Path

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Field 22 of /proc/<pid>/stat, counted from the end of the name, which may contain spaces and parentheses.
_START_TICKS = 22 - 3


def pid() -> int:
    """Return the process manager's id. A process not spawned by multiprocessing is its own manager."""
    parent = multiprocessing.parent_process()
    return os.getpid() if parent is None or parent.pid is None else parent.pid


def command() -> list[str]:
    """Return the words of the process manager's command; of this process without the interpreter."""
    return sys.argv if pid() == os.getpid() else psutil.Process(pid()).cmdline()


def environment() -> dict[str, str]:
    """Return the variables that the process manager was started with."""
    return psutil.Process(pid()).environ()


def identity() -> str:
    """Return the process manager's id and start."""
    return f"{pid()} {_start(pid())}"


def runs(identity: str) -> bool:
    """Return whether the process of an `identity` is running."""
    number, _, start = identity.partition(" ")
    with contextlib.suppress(ValueError, OSError, psutil.NoSuchProcess):
        return _start(int(number)) == start
    return False


def _start(number: int) -> str:
    """Return the clock ticks from the machine's boot to a process's start, and the id of that boot.

    Raise OSError if there is no such process.
    """
    if not BOOT_ID.exists():  # not Linux
        return str(psutil.Process(number).create_time())
    _, _, fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")
    return f"{fields.split()[_START_TICKS]} {BOOT_ID.read_text().strip()}"
