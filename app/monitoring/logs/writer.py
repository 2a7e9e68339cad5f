"""Log lines on their way to a descriptor: whoever logs never waits for whoever reads.

A line is written at once where that cannot block. Where it could, or the pipe is full, it joins a bounded backlog that
a daemon thread writes; what does not fit is dropped, counted, and told of in one line once there is room again. Lines
that may wait a moment go out together: each write wakes whoever reads, which costs more than all else about a line.

The constraint to know: a log call may come from anywhere, a finaliser in the middle of another log call included, so
the lock is reentrant, and nothing that blocks or takes a foreign lock happens under it. A forked child starts with an
empty backlog and no thread: what its parent had still to write stays with the parent.
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

from .line import LIMIT

MAX_LINES: Final = 8_192
MAX_BYTES: Final = 4 * 1024 * 1024
# Seconds that a line may wait for others, and how many are written without waiting: PIPE_BUF takes about as many.
HOLD: Final = 0.02
HELD_LINES: Final = 10
# Seconds that the end of a process may take for what is still to be written.
EXIT_DEADLINE: Final = 1.0
# Seconds between two reports of what was dropped while nothing can be written.
_REPORT_INTERVAL = 0.5


class _Backlog:
    """The lines that a process has still to write, and the number of those it had to drop."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.lines: deque[bytes] = deque()
        self.size = 0
        self.held: deque[tuple[Callable[[Any], bytes], Any]] = deque()
        self.releasing = False  # what was held is on its way
        self.holding = False  # the thread is about to write what is held
        self.last_rare = 0.0
        self.writing = False  # guards against a log call from within a log call
        self.begun = False  # a part of the first line has been written
        self.torn = False  # a line broke off, so the next one needs a newline before it
        self.full = False
        self.dropped: Counter[str] = Counter()  # not yet reported
        self.unannounced = 0
        self.thread: threading.Thread | None = None
        self.calls: SimpleQueue[None] = SimpleQueue()
        self.called = False
        self.waiting: list[SimpleQueue[None]] = []
        self.closed = False


class Writer:
    """Writes lines to `descriptor` in the order they come.

    `report(reason, lines)` is told of dropped lines from the writer's thread, and `announce(lines)` makes the line that
    tells of them. Reasons are queue_full, write_failed and exit.
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
        self._late = False
        _writers.add(self)

    def write(self, line: bytes) -> None:
        """Write `line`, which ends in a newline, now or soon; returns at once."""
        if self._late:
            # The thread may be gone, and locks with it. Whoever read a moment ago is expected to go on.
            if _is_writable(self._descriptor, 0):
                self._put(line)
            return
        backlog = self._backlog
        written: int | None = 0
        pending = backlog.held or backlog.releasing or backlog.lines or backlog.unannounced
        if self._never_blocks and not pending and len(line) <= LIMIT:
            # The usual case needs no lock: this thread's earlier lines are out, and a pipe takes all of it or nothing.
            written = self._put(line)
            if written == len(line):
                return
        with backlog.lock:
            if written and not backlog.lines:  # a disk that is full takes a part
                line = line[written:]
                backlog.begun = True
            elif written:  # and another thread has put its line behind that part
                backlog.torn = True
            elif backlog.held:
                self._write_held(backlog)
            self._append(backlog, line)
            while self._never_blocks and self._advance(backlog):
                pass
            if backlog.lines or backlog.dropped:
                self._call_thread(backlog)

    def enqueue(self, make: Callable[[Any], bytes], of: Any) -> None:
        """Write the line `make(of)` within HOLD seconds: at once where lines are rare, else with those that come then.

        It is made when it is written: for several lines in a row that costs a fraction.
        """
        if not self._never_blocks or self._late:
            self.write(make(of))
            return
        backlog = self._backlog
        held = backlog.held
        held.append((make, of))
        if len(held) >= HELD_LINES:
            self._release(backlog)
        elif not backlog.holding:
            now = time.monotonic()
            rare, backlog.last_rare = now - backlog.last_rare > HOLD, now
            if rare:
                self._release(backlog)
            else:
                self._hold(backlog)

    def _release(self, backlog: _Backlog) -> None:
        """Make the lines that are held and write them: as a rule with one call, which a pipe takes whole."""
        with backlog.lock:
            self._write_held(backlog)
            while self._advance(backlog):
                pass
            if backlog.lines or backlog.dropped:
                self._call_thread(backlog)

    def _write_held(self, backlog: _Backlog) -> None:
        # Before anything is taken out: `write` looks at what is held first, then at this.
        backlog.releasing = True
        try:
            self._write_together(backlog, _made(backlog))
        finally:
            backlog.releasing = False

    def _write_together(self, backlog: _Backlog, lines: list[bytes]) -> None:
        data = b"".join(lines)
        usual = not (backlog.lines or backlog.unannounced or backlog.writing) and 0 < len(data) <= LIMIT
        written = self._put(data) if usual else 0
        if written == len(data):
            return
        for line in lines:
            self._append(backlog, line)
        if usual:
            self._settle(backlog, lines, written)

    def _hold(self, backlog: _Backlog) -> None:
        """Have the thread write what there is in a moment."""
        with backlog.lock:
            backlog.holding = True  # until the thread, which needs the lock for it, has written
            self._call_thread(backlog)
            if backlog.thread is None:
                backlog.holding = False

    def _append(self, backlog: _Backlog, line: bytes) -> None:
        if self._has_room(backlog, line):
            backlog.lines.append(line)
            backlog.size += len(line)
        else:
            backlog.full = True
            _drop(backlog, "queue_full", 1)

    def flush(self, timeout: float) -> bool:
        """Wait until everything is written, `timeout` seconds at most; whether it is."""
        backlog = self._backlog
        written: SimpleQueue[None] = SimpleQueue()
        with backlog.lock:
            if self._never_blocks:
                self._release(backlog)
            if not backlog.lines:
                return True
            backlog.waiting.append(written)
            self._call_thread(backlog)
        with contextlib.suppress(Empty):
            written.get(timeout=timeout)
        return not backlog.lines

    def close(self, timeout: float = EXIT_DEADLINE) -> None:
        """Write what is left, `timeout` seconds at most. Later lines are written at once, or not at all."""
        if self._late:
            return
        backlog = self._backlog
        self.flush(timeout)
        with backlog.lock:
            if backlog.lines:
                backlog.dropped["exit"] += len(backlog.lines)
            self._late = backlog.closed = True
        backlog.calls.put(None)
        self._report(backlog)

    def start_anew(self) -> None:
        """In a forked child: forget the parent's lines, its thread, and its lock, which another thread may hold."""
        self._backlog = _Backlog()
        self._late = False

    def _has_room(self, backlog: _Backlog, line: bytes) -> bool:
        if not backlog.lines:
            return True
        return not backlog.full and len(backlog.lines) < self._max_lines and backlog.size + len(line) <= self._max_bytes

    def _call_thread(self, backlog: _Backlog) -> None:
        if backlog.thread is None:
            thread = threading.Thread(target=self._run, args=[backlog], name="log-writer", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread can be had: the next line tries again
                thread.start()
                backlog.thread = thread
        if not backlog.called:
            backlog.called = True
            backlog.calls.put(None)

    def _run(self, backlog: _Backlog) -> None:
        while not backlog.closed:
            backlog.calls.get()
            backlog.called = False
            if backlog.holding:
                time.sleep(HOLD)
                with backlog.lock:
                    backlog.holding = False
                    self._release(backlog)
            while backlog.lines and not backlog.closed:
                if _is_writable(self._descriptor, _REPORT_INTERVAL):
                    # Where a write may block, nobody else writes, and nobody may have to wait for it.
                    with backlog.lock if self._never_blocks else contextlib.nullcontext():
                        self._advance(backlog)
                self._report(backlog)
            self._report(backlog)
            with backlog.lock:
                while backlog.waiting and not backlog.lines:
                    backlog.waiting.pop().put(None)

    def _advance(self, backlog: _Backlog) -> bool:
        """Write what one call carries whole: the first line, and those after it up to PIPE_BUF bytes together.

        Whether that was done, so that the next ones may follow.
        """
        with backlog.lock:
            if backlog.writing or not backlog.lines:
                return False
            backlog.writing = True
            batch = _first_lines(backlog.lines, LIMIT - backlog.torn)
        try:
            written = self._put(b"\n" * backlog.torn + b"".join(batch))
            with backlog.lock:
                self._settle(backlog, batch, written)
        finally:
            backlog.writing = False
        return bool(written)

    def _put(self, data: bytes) -> int | None:
        """Write to the descriptor. Return the number of bytes written, or None if it is broken for good."""
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
            _drop(backlog, "write_failed", len(batch))
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


def _made(backlog: _Backlog) -> list[bytes]:
    """The lines that are held."""
    lines = []
    while backlog.held:
        make, of = backlog.held.popleft()
        try:
            lines.append(make(of))
        except Exception:  # noqa: BLE001 -- neither the others nor whoever logs must suffer from it
            _drop(backlog, "write_failed", 1)
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
    """A descriptor of the same file, and whether writing to it never blocks.

    O_NONBLOCK belongs to a pipe's open description, which other programs share; a description of our own can be had
    from /proc, unless the pipe is another user's. A regular file and /dev/null have no reader that could stall them.
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


def _start_anew() -> None:
    for writer in list(_writers):
        writer.start_anew()


def flush(timeout: float = EXIT_DEADLINE) -> bool:
    """Wait until this process has written its lines, `timeout` seconds at most; whether it has.

    For a process that ends by os._exit: every other end flushes by itself.
    """
    deadline = time.monotonic() + timeout
    written = [writer.flush(max(0.0, deadline - time.monotonic())) for writer in list(_writers)]
    return all(written)


def _close() -> None:
    deadline = time.monotonic() + EXIT_DEADLINE
    for writer in list(_writers):
        writer.close(max(0.0, deadline - time.monotonic()))


os.register_at_fork(after_in_child=_start_anew)
# Registered as this is imported, so that it runs after the hooks of what is imported later.
atexit.register(_close)
