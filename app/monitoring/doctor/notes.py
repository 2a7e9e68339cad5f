"""Notes of what was reported at the start, shared by the workers, so that each line is written once for all of them.

The notes are in memory that workers inherit where the master has imported this module; processes that are not forked
from one another name a file for them (`share`).
"""

import fcntl
import os
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Refusals within this time belong to the same start.
REFUSAL_SECONDS = 10.0
_CHECKSUM, _TIME = struct.Struct("I"), struct.Struct("d")
# Offsets: the checksum of the warnings that were logged last, the times of the last refusal and the last failed boot.
_WARNINGS, _REFUSAL, _FAILURE = 0, _TIME.size, 2 * _TIME.size


def _shared_memory() -> int:
    """Return a descriptor of memory, or of a file without a name, that forked processes share."""
    if sys.platform == "linux":
        file = os.memfd_create("doctor")
    else:
        with tempfile.TemporaryFile() as named:
            file = os.dup(named.fileno())
    try:
        return fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3)  # not in the place of a standard stream that is closed
    finally:
        os.close(file)


_descriptor = _shared_memory()


def share(path: Path) -> None:
    """Keep the notes in a file from now on. Raise OSError if it cannot be made."""
    global _descriptor
    replaced, _descriptor = _descriptor, os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.close(replaced)


def is_new_warning(text: str) -> bool:
    """Note the warnings in `text`, and return whether they differ from those that a process has noted last."""
    checksum = _CHECKSUM.pack(zlib.crc32(text.encode()))
    with _locked():
        if os.pread(_descriptor, _CHECKSUM.size, _WARNINGS) == checksum:
            return False
        os.pwrite(_descriptor, checksum, _WARNINGS)
        return True


def is_first_refusal() -> bool:
    """Note a refusal, and return whether no process has noted one in the last seconds."""
    return _is_first(_REFUSAL)


def is_first_failure() -> bool:
    """Note a boot that has failed, for any reason, and return whether no process has noted one in the last seconds."""
    return _is_first(_FAILURE)


def _is_first(offset: int) -> bool:
    with _locked():
        # The machine's clock. Read under the lock: a time from before it would be older than one noted meanwhile.
        now = time.monotonic()
        noted = os.pread(_descriptor, _TIME.size, offset)
        if len(noted) == _TIME.size and 0 <= now - _TIME.unpack(noted)[0] < REFUSAL_SECONDS:
            return False
        os.pwrite(_descriptor, _TIME.pack(now), offset)
        return True


@contextmanager
def _locked() -> Iterator[None]:
    fcntl.lockf(_descriptor, fcntl.LOCK_EX)  # a lock of the process, also on a descriptor that was inherited
    try:
        yield
    finally:
        fcntl.lockf(_descriptor, fcntl.LOCK_UN)
