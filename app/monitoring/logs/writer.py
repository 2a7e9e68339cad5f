"""A non-blocking writer of log lines: logging never blocks on a slow reader.

A line is written at once if that cannot block. Otherwise it is appended to a bounded backlog that a daemon thread
writes. Lines past the bound are dropped and counted, and one line announces their number once there is room again.
Lines that may be delayed are batched: each write wakes the reader, which is the largest part of a line's cost.

Constraint: a log call may come from a finaliser in the middle of another log call, so the lock is reentrant, and no
call that blocks or takes another lock is made under it. A forked child starts with an empty backlog and no thread; its
parent writes the parent's lines.
"""

import atexit
import contextlib
import os
import select
import stat
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from .line import MAX_LINE_BYTES

MAX_LINES: Final = 8_192
MAX_BYTES: Final = 4 * 1024 * 1024
# Maximum delay of a batched line in seconds, and the size of a batch: about as many lines as fit into PIPE_BUF.
BATCH_SECONDS: Final = 0.02
BATCH_LINES: Final = 10
# Seconds that a process may take at its end to write the backlog.
EXIT_DEADLINE: Final = 1.0
QUEUE_FULL, WRITE_FAILED, AT_EXIT = DROP_REASONS = "queue_full", "write_failed", "exit"
# Seconds between reports of dropped lines while nothing can be written.
_REPORT_INTERVAL = 0.5


class _Backlog:
    """The lines that a process has still to write, and the number of dropped lines by reason."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.lines: deque[bytes] = deque()
        self.size = 0
        self.batch: deque[tuple[Callable[[Any], bytes], Any]] = deque()
        self.writing_batch = False  # the batch is being written
        self.batch_scheduled = False  # the thread will write the batch
        self.last_enqueued = 0.0
        self.writing = False  # guards against a log call from within a log call
        self.begun = False  # a part of the first line has been written
        self.torn = False  # an incomplete line was written, so the next one needs a newline before it
        self.full = False
        self.dropped: Counter[str] = Counter()  # not yet reported
        self.unannounced = 0
        self.thread: threading.Thread | None = None
        self.calls: SimpleQueue[None] = SimpleQueue()
        self.called = False
        self.waiting: list[SimpleQueue[None]] = []
        self.closed = False


class Writer:
    """A writer of lines to `descriptor`, in order.

    The writer's thread calls `report(reason, lines)` for dropped lines; `announce(lines)` returns the line that
    announces them. Reasons are queue_full, write_failed and exit.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        report: Callable[[str, int], object] = lambda _reason, _lines: None,
        announce: Callable[[int], bytes] = lambda lines: b"%d log lines were dropped\n" % lines,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._descriptor, self._never_blocks = _without_blocking(descriptor)
        self.report, self.announce = report, announce
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._backlog = _Backlog()
        self._closed = False
        _writers.add(self)

    def write(self, line: bytes) -> None:
        """Write `line`, which ends in a newline, or append it to the backlog. Does not block."""
        if self._closed:
            # The thread may be gone, with locks held. One write to a descriptor that is ready is not expected to block.
            if _is_writable(self._descriptor, 0):
                self._put(line)
            return
        backlog = self._backlog
        written: int | None = 0
        pending = backlog.batch or backlog.writing_batch or backlog.lines or backlog.unannounced
        if self._never_blocks and not pending and len(line) <= MAX_LINE_BYTES:
            # The common case needs no lock: this thread's earlier lines are written, and a pipe accepts all or nothing.
            written = self._put(line)
            if written == len(line):
                return
        with backlog.lock:
            if written and not backlog.lines:  # a full disk accepts a part
                line = line[written:]
                backlog.begun = True
            elif written:  # another thread's line follows that part
                backlog.torn = True
            elif backlog.batch:
                self._write_batch(backlog)
            self._append(backlog, line)
            while self._never_blocks and self._advance(backlog):
                pass
            if backlog.lines or backlog.dropped:
                self._call_thread(backlog)

    def enqueue(self, render: Callable[[Any], bytes], values: Any) -> None:
        """Write the line `render(values)` within BATCH_SECONDS: at once if lines are rare, else in a batch.

        The line is rendered when it is written, which costs less for several lines in a row.
        """
        if not self._never_blocks or self._closed:
            self.write(render(values))
            return
        backlog = self._backlog
        batch = backlog.batch
        batch.append((render, values))
        if len(batch) >= BATCH_LINES:
            self._flush_batch(backlog)
        elif not backlog.batch_scheduled:
            now = time.monotonic()
            rare, backlog.last_enqueued = now - backlog.last_enqueued > BATCH_SECONDS, now
            if rare:
                self._flush_batch(backlog)
            else:
                self._schedule_batch(backlog)

    def _flush_batch(self, backlog: _Backlog) -> None:
        """Render and write the batch, usually with one call, which is atomic on a pipe."""
        with backlog.lock:
            self._write_batch(backlog)
            while self._advance(backlog):
                pass
            if backlog.lines or backlog.dropped:
                self._call_thread(backlog)

    def _write_batch(self, backlog: _Backlog) -> None:
        # Set before the batch is emptied: `write` checks the batch first, then this flag.
        backlog.writing_batch = True
        try:
            self._write_lines(backlog, _render_batch(backlog))
        finally:
            backlog.writing_batch = False

    def _write_lines(self, backlog: _Backlog, lines: list[bytes]) -> None:
        data = b"".join(lines)
        usual = not (backlog.lines or backlog.unannounced or backlog.writing) and 0 < len(data) <= MAX_LINE_BYTES
        written = self._put(data) if usual else 0
        if written == len(data):
            return
        for line in lines:
            self._append(backlog, line)
        if usual:
            self._settle(backlog, lines, written)

    def _schedule_batch(self, backlog: _Backlog) -> None:
        """Schedule the batch for the thread, BATCH_SECONDS from now."""
        with backlog.lock:
            backlog.batch_scheduled = True  # reset by the thread, under the lock
            self._call_thread(backlog)
            if backlog.thread is None:
                backlog.batch_scheduled = False

    def _append(self, backlog: _Backlog, line: bytes) -> None:
        if self._has_room(backlog, line):
            backlog.lines.append(line)
            backlog.size += len(line)
        else:
            backlog.full = True
            _drop(backlog, QUEUE_FULL, 1)

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until everything is written. Return True if it is."""
        backlog = self._backlog
        written: SimpleQueue[None] = SimpleQueue()
        with backlog.lock:
            if self._never_blocks:
                self._flush_batch(backlog)
            if not backlog.lines:
                return True
            backlog.waiting.append(written)
            self._call_thread(backlog)
        with contextlib.suppress(Empty):
            written.get(timeout=timeout)
        return not backlog.lines

    def close(self, timeout: float = EXIT_DEADLINE) -> None:
        """Write the backlog for up to `timeout` seconds. Later lines are written at once or discarded."""
        if self._closed:
            return
        backlog = self._backlog
        self.flush(timeout)
        with backlog.lock:
            if backlog.lines:
                backlog.dropped[AT_EXIT] += len(backlog.lines)
            self._closed = backlog.closed = True
        backlog.calls.put(None)
        self._report(backlog)

    def reset(self) -> None:
        """Discard backlog, thread and lock. A forked child calls this: another thread may have held the lock."""
        self._backlog = _Backlog()
        self._closed = False

    def _has_room(self, backlog: _Backlog, line: bytes) -> bool:
        if not backlog.lines:
            return True
        return not backlog.full and len(backlog.lines) < self._max_lines and backlog.size + len(line) <= self._max_bytes

    def _call_thread(self, backlog: _Backlog) -> None:
        if backlog.thread is None:
            thread = threading.Thread(target=self._run, args=[backlog], name="log-writer", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread available: the next line retries
                thread.start()
                backlog.thread = thread
        if not backlog.called:
            backlog.called = True
            backlog.calls.put(None)

    def _run(self, backlog: _Backlog) -> None:
        while not backlog.closed:
            backlog.calls.get()
            backlog.called = False
            if backlog.batch_scheduled:
                time.sleep(BATCH_SECONDS)
                with backlog.lock:
                    backlog.batch_scheduled = False
                    self._flush_batch(backlog)
            while backlog.lines and not backlog.closed:
                if _is_writable(self._descriptor, _REPORT_INTERVAL):
                    # If a write may block, only this thread writes, and without the lock: no other may wait for it.
                    with backlog.lock if self._never_blocks else contextlib.nullcontext():
                        self._advance(backlog)
                self._report(backlog)
            self._report(backlog)
            with backlog.lock:
                while backlog.waiting and not backlog.lines:
                    backlog.waiting.pop().put(None)

    def _advance(self, backlog: _Backlog) -> bool:
        """Write the first line, and those after it up to PIPE_BUF bytes in total, with one call.

        Return True if anything was written.
        """
        with backlog.lock:
            if backlog.writing or not backlog.lines:
                return False
            backlog.writing = True
            batch = _first_lines(backlog.lines, MAX_LINE_BYTES - backlog.torn)
        try:
            written = self._put(b"\n" * backlog.torn + b"".join(batch))
            with backlog.lock:
                self._settle(backlog, batch, written)
        finally:
            backlog.writing = False
        return bool(written)

    def _put(self, data: bytes) -> int | None:
        """Write to the descriptor. Return the number of bytes written, or None if it is broken."""
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except OSError:  # the reader has gone, or the disk is full
            return None

    def _settle(self, backlog: _Backlog, batch: list[bytes], written: int | None) -> None:
        if written is None:
            for _ in batch:
                backlog.size -= len(backlog.lines.popleft())
            _drop(backlog, WRITE_FAILED, len(batch))
            backlog.torn, backlog.begun = backlog.torn or backlog.begun, False
            return
        if not written:
            return
        if backlog.torn:
            backlog.torn = False
            written -= 1
        backlog.size -= written
        while backlog.lines and written >= len(backlog.lines[0]):
            written -= len(backlog.lines.popleft())
            backlog.begun = False
        if written:
            backlog.lines[0] = backlog.lines[0][written:]
            backlog.begun = True
        if backlog.unannounced and len(backlog.lines) <= self._max_lines // 2 and backlog.size <= self._max_bytes // 2:
            line = self.announce(backlog.unannounced)
            backlog.lines.append(line)
            backlog.size += len(line)
            backlog.unannounced, backlog.full = 0, False

    def _report(self, backlog: _Backlog) -> None:
        with backlog.lock:
            dropped, backlog.dropped = backlog.dropped, Counter()
        for reason, lines in dropped.items():
            self.report(reason, lines)


def _render_batch(backlog: _Backlog) -> list[bytes]:
    """Empty the batch. Return its lines."""
    lines = []
    while backlog.batch:
        render, values = backlog.batch.popleft()
        try:
            lines.append(render(values))
        except Exception:  # noqa: BLE001 -- it must not affect other lines or the caller
            _drop(backlog, WRITE_FAILED, 1)
    return lines


def _drop(backlog: _Backlog, reason: str, lines: int) -> None:
    backlog.dropped[reason] += lines
    backlog.unannounced += lines


def _first_lines(lines: deque[bytes], room: int) -> list[bytes]:
    batch = [lines[0]]
    room -= len(lines[0])
    for line in islice(lines, 1, None):
        room -= len(line)
        if room < 0:
            break
        batch.append(line)
    return batch


def _is_writable(descriptor: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(timeout * 1000))


def _without_blocking(descriptor: int) -> tuple[int, bool]:
    """Return a descriptor of the same file, and True if writing to it never blocks.

    O_NONBLOCK belongs to a pipe's open file description, which other programs share. /proc gives a description of our
    own, unless the pipe is another user's. Writes to regular files and /dev/null do not wait for a reader.
    """
    file = os.fstat(descriptor)
    mode = file.st_mode
    if stat.S_ISFIFO(mode):
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK), True
    if stat.S_ISCHR(mode) and file.st_rdev == Path(os.devnull).stat().st_rdev:
        return descriptor, True
    return descriptor, stat.S_ISREG(mode) or not os.get_blocking(descriptor)


_writers: "weakref.WeakSet[Writer]" = weakref.WeakSet()


def _reset_writers() -> None:
    for writer in list(_writers):
        writer.reset()


def flush(timeout: float = EXIT_DEADLINE) -> bool:
    """Wait up to `timeout` seconds until this process has written its lines. Return True if it has.

    Only needed before os._exit: every other exit flushes.
    """
    deadline = time.monotonic() + timeout
    written = [writer.flush(max(0.0, deadline - time.monotonic())) for writer in list(_writers)]
    return all(written)


def _close() -> None:
    deadline = time.monotonic() + EXIT_DEADLINE
    for writer in list(_writers):
        writer.close(max(0.0, deadline - time.monotonic()))


os.register_at_fork(after_in_child=_reset_writers)
# Registered at import, so that it runs after the exit hooks of modules imported later.
atexit.register(_close)
