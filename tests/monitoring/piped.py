"""A one-page pipe with a log writer, and lines to write."""

import contextlib
import fcntl
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

from app.monitoring.logs.writer import Writer

PATIENCE = 20.0
F_SETPIPE_SZ = 1031  # the minimum size is one page


class Pipe:
    """A one-page pipe with a writer."""

    def __init__(self, make: Callable[..., Writer] = Writer, **options: Any) -> None:
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, F_SETPIPE_SZ, 4096)
        os.set_blocking(self.read_end, False)
        self.dropped: Counter[str] = Counter()
        options.setdefault("announce", lambda lines: b"dropped %d\n" % lines)
        self.writer = make(self.write_end, report=self._report, **options)

    def _report(self, reason: str, lines: int) -> None:
        self.dropped[reason] += lines

    def read(self, most: int = 1 << 20) -> bytes:
        """Return the bytes that can be read without blocking."""
        read = b""
        with contextlib.suppress(BlockingIOError):
            while len(read) < most and (more := os.read(self.read_end, most - len(read))):
                read += more
        return read

    def read_all(self) -> list[bytes]:
        """Read until the writer has flushed its backlog, and return the lines."""
        read = b""
        while not self.writer.flush(0.01):
            read += self.read()
        return (read + self.read()).splitlines(keepends=True)

    def close(self) -> None:
        thread = self.writer._backlog.thread
        self.writer.close(0)
        if thread is not None:
            thread.join(PATIENCE)  # its descriptor may be reused after this
            assert not thread.is_alive(), "a writer that was closed must not wait for its reader"
        os.close(self.read_end)
        os.close(self.write_end)


def line(number: int, length: int = 100) -> bytes:
    return b"%08d" % number + b"x" * (length - 9) + b"\n"


def made(of: tuple[int, int]) -> bytes:
    """Return a line. Called when it is written."""
    return line(*of)


def taking(writes: list[bytes]) -> Callable[[bytes], int]:
    """Return a write function that accepts all data and appends it to `writes`."""

    def put(data: bytes) -> int:
        writes.append(data)
        return len(data)

    return put
