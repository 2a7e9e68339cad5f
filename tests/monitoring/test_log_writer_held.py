"""Lines that may wait for others: how long, with how many, in which order, and that none is left behind."""

import time
from typing import Any

import pytest

from app.monitoring.logs import writer as log_writer
from app.monitoring.logs.line import MAX_LINE_BYTES
from tests.monitoring.piped import PATIENCE, Pipe, line, made, taking
from tests.process.service import wait_for


def test_a_line_that_may_wait_does_not_where_lines_are_rare(pipe: Pipe) -> None:
    pipe.writer.enqueue(made, (1, 20))
    assert pipe.read() == line(1, 20)
    assert pipe.writer._backlog.thread is None


def test_lines_that_follow_each_other_are_written_together(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe.writer._backlog.batch_scheduled = True  # as if the thread were about to write, which it never does here
    writes: list[bytes] = []
    monkeypatch.setattr(pipe.writer, "_put", taking(writes))
    for number in range(2 * log_writer.BATCH_LINES + 1):
        pipe.writer.enqueue(made, (number, 300))
    size = log_writer.BATCH_LINES
    assert writes == [b"".join(line(number, 300) for number in range(at, at + size)) for at in (0, size)]
    pipe.writer.write(line(99))  # which may not wait, and does not overtake
    assert b"".join(writes[2:]) == line(2 * size, 300) + line(99)


def test_a_line_that_waits_for_others_waits_in_vain_for_a_moment_only(pipe: Pipe) -> None:
    pipe.writer._backlog.last_enqueued = time.monotonic()
    pipe.writer.enqueue(made, (1, 20))
    assert wait_for(pipe.read, "the line") == line(1, 20)


def test_lines_that_together_are_too_long_for_a_pipe_go_out_in_parts_that_are_not(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.writer._backlog.last_enqueued = time.monotonic()
    writes: list[bytes] = []
    monkeypatch.setattr(pipe.writer, "_put", taking(writes))
    for number in range(log_writer.BATCH_LINES):
        pipe.writer.enqueue(made, (number, 1_000))
    pipe.writer.flush(PATIENCE)
    assert b"".join(writes) == b"".join(line(number, 1_000) for number in range(log_writer.BATCH_LINES))
    assert max(map(len, writes)) <= MAX_LINE_BYTES
    assert all(data.endswith(b"\n") for data in writes)


def test_a_line_that_cannot_be_made_is_counted_and_the_others_are_written(pipe: Pipe) -> None:
    def fail(_: object) -> bytes:
        raise LookupError

    pipe.writer._backlog.last_enqueued = time.monotonic()
    pipe.writer.enqueue(made, (1, 20))
    pipe.writer.enqueue(fail, None)
    pipe.writer.enqueue(made, (2, 20))
    assert pipe.read_all() == [line(1, 20), line(2, 20), b"dropped 1\n"]
    wait_for(lambda: pipe.dropped == {"write_failed": 1}, "the report")


def test_a_thread_that_is_quicker_than_whoever_calls_it_leaves_nothing_behind(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = pipe.writer._call_thread

    def call_and_fall_asleep(backlog: Any) -> None:
        call(backlog)
        time.sleep(3 * log_writer.BATCH_SECONDS)

    monkeypatch.setattr(pipe.writer, "_call_thread", call_and_fall_asleep)
    for number in range(3):
        pipe.writer._backlog.last_enqueued = time.monotonic()
        pipe.writer.enqueue(made, (number, 20))
        assert wait_for(pipe.read, "the line") == line(number, 20)


def test_lines_of_two_threads_that_saw_each_others_are_written_with_the_next(pipe: Pipe) -> None:
    pipe.writer._backlog.batch.append((made, (0, 20)))  # whose thread has found two, as has the other
    pipe.writer._backlog.last_enqueued = time.monotonic()
    pipe.writer.enqueue(made, (1, 20))
    assert wait_for(pipe.read, "the lines") == line(0, 20) + line(1, 20)


def test_a_newline_that_closes_a_torn_line_is_within_what_a_pipe_takes_whole(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[bytes] = []
    monkeypatch.setattr(pipe.writer, "_put", taking(writes))
    backlog = pipe.writer._backlog
    with backlog.lock:
        backlog.torn = True
        backlog.lines.extend(line(number, MAX_LINE_BYTES // 4) for number in range(4))
        backlog.size = MAX_LINE_BYTES
    pipe.writer.flush(PATIENCE)
    assert b"".join(writes) == b"\n" + b"".join(line(number, MAX_LINE_BYTES // 4) for number in range(4))
    assert max(map(len, writes)) <= MAX_LINE_BYTES
