"""The wall clock of the service alone, which can be stepped: a small library in front of the C library's functions.

Time namespaces move the monotonic clock only, and the machine's clock belongs to others.
"""

import mmap
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("clock.c")
_OFFSET = struct.Struct("=l" if struct.calcsize("l") == 4 else "=q")  # noqa: PLR2004 -- C's long


class ClockError(Exception):
    """The clock of the service cannot be stepped here; the message says why."""


class Clock:
    """The clock of processes that are started with `environment`."""

    def __init__(self, directory: Path) -> None:
        compiler = shutil.which("cc")
        if sys.platform != "linux" or compiler is None:
            raise ClockError("the library that steps a clock needs Linux and a C compiler")
        library, offset = directory / "clock.so", directory / "clock.offset"
        done = subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ClockError(f"the library that steps a clock cannot be built: {done.stderr.strip()[-200:]}")
        offset.write_bytes(_OFFSET.pack(0))
        with offset.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _OFFSET.size)
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(offset)}

    def step(self, seconds: int) -> None:
        """Set the clock `seconds` ahead of the machine's, or behind it."""
        self._memory[:] = _OFFSET.pack(seconds)
