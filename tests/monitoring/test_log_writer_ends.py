"""A log writer after close, fork and interruption, and the position of its announcements."""

import os
import threading
from types import SimpleNamespace

import pytest

from app.monitoring.logs import writer as log_writer
from tests.monitoring.piped import PATIENCE, Pipe, line, made


def fill(pipe: Pipe) -> bytes:
    """Leave no room in the pipe."""
    return line(0, os.write(pipe.writer._descriptor, line(0, 4096)))


def test_a_child_forked_after_the_end_keeps_lines_that_nobody_reads_yet(pipe: Pipe) -> None:
    pipe.writer.close()
    pipe.writer.reset()
    filled = fill(pipe)
    pipe.writer.write(line(1))
    assert b"".join([pipe.read(4096), *pipe.read_all()]) == filled + line(1)


def test_after_a_gap_nothing_is_taken_before_the_gap_is_announced(pipe: Pipe) -> None:
    pipe.writer._max_lines = 4
    filled = fill(pipe)
    with pipe.writer._backlog.lock:  # the thread writes nothing meanwhile
        for number in range(6):
            pipe.writer.write(line(number))
        pipe.writer._backlog.lines.popleft()  # there is room for one again, which is not half of it
        pipe.writer.write(line(6))
        assert [*pipe.writer._backlog.lines] == [line(1), line(2), line(3)]
        pipe.writer._backlog.size -= 100
    assert b"".join([pipe.read(4096), *pipe.read_all()]) == filled + b"".join(map(line, (1, 2, 3))) + b"dropped 3\n"


def test_a_gap_is_not_announced_while_half_the_bytes_still_wait(pipe: Pipe) -> None:
    pipe.writer._max_bytes = 10_000
    backlog = pipe.writer._backlog
    with backlog.lock:
        backlog.lines.extend(line(number, 3_000) for number in range(3))
        backlog.size, backlog.unannounced = 9_000, 1
        pipe.writer._settle(backlog, [line(0, 3_000)], 3_000)
        assert (len(backlog.lines), backlog.unannounced) == (2, 1)
        pipe.writer._settle(backlog, [line(1, 3_000)], 3_000)
        assert (len(backlog.lines), backlog.unannounced) == (2, 0)


def test_a_log_call_that_a_signal_breaks_off_does_not_silence_the_next(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: bytes) -> int:
        raise SystemExit  # as the exporter's handler of SIGTERM does

    with monkeypatch.context() as patched:
        patched.setattr(pipe.writer, "_put", interrupted)
        with pytest.raises(SystemExit):
            pipe.writer.write(line(1, 5_000))
    assert not pipe.writer._backlog.writing
    pipe.writer.write(line(2))
    assert pipe.read_all() == [line(1, 5_000), line(2)]


def test_a_line_that_may_not_wait_is_behind_those_that_are_just_being_made(pipe: Pipe) -> None:
    def write() -> None:
        writing.set()
        pipe.writer.write(line(2))

    def make(_: object) -> bytes:
        other.start()
        assert writing.wait(PATIENCE)
        other.join(0.1)  # it waits for this line, if it is in order
        return line(1)

    writing, other = threading.Event(), threading.Thread(target=write)
    pipe.writer.enqueue(make, None)
    other.join(PATIENCE)
    assert pipe.read_all() == [line(1), line(2)]


def test_all_writers_together_end_within_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, allowed = SimpleNamespace(now=100.0), list[float]()

    def close(timeout: float = log_writer.EXIT_DEADLINE) -> None:
        allowed.append(timeout)
        clock.now += 0.75

    monkeypatch.setattr(log_writer, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(log_writer, "_writers", [SimpleNamespace(close=close)] * 3)
    log_writer._close()
    assert allowed == [1.0, 0.25, 0.0]


def test_a_line_that_waits_for_others_is_written_by_the_end(pipe: Pipe) -> None:
    pipe.writer._backlog.batch_scheduled = True
    pipe.writer.enqueue(made, (1, 20))
    pipe.writer.close()
    assert pipe.read() == line(1, 20)
