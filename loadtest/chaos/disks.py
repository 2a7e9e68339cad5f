"""Small disks in memory, which can be filled without filling the machine's."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILLER = "filler"


class DiskError(Exception):
    """No small disk can be had here; the message says why."""


class Disk:
    """A file system of its own at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leave no block free."""
        with (self.path / FILLER).open("ab") as filler:
            size = free = self._free()
            while size:
                try:
                    os.posix_fallocate(filler.fileno(), filler.seek(0, os.SEEK_END), size)
                except OSError:  # others have written meanwhile
                    size //= 2
                else:
                    free = self._free()
                    size = min(size, free)
                if not free:
                    return

    def release(self) -> None:
        """Free what `fill` has taken."""
        (self.path / FILLER).unlink(missing_ok=True)

    def _free(self) -> int:
        room = os.statvfs(self.path)
        return room.f_bavail * room.f_frsize


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[Disk]:
    """Mount a file system of `megabytes` at `path` meanwhile. Raise DiskError if that is not possible here."""
    path.mkdir(parents=True)
    if sys.platform != "linux" or os.geteuid() != 0:
        raise DiskError("only root on Linux can mount a small file system")
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None:
        raise DiskError("there is no mount program")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DiskError(f"a small file system cannot be mounted: {done.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        # Lazily: a process that was killed may take a moment to leave it.
        with contextlib.suppress(OSError):
            subprocess.run([umount, "-l", str(path)], check=False, capture_output=True)
