"""Logging never blocks on a slow reader; dropped lines are counted and announced."""

import fcntl
import os
import socket
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.monitoring.logs import writer as log_writer
from app.monitoring.logs.line import MAX_LINE_BYTES
from app.monitoring.logs.writer import Writer
from tests.monitoring.piped import F_SETPIPE_SZ, PATIENCE, Pipe, line, made


def announcements(lines: list[bytes], written: int) -> list[int]:
    """Return the number in each announcement. Assert that exactly that many lines are missing there."""
    found, expected = [], 0
    for each in lines:
        if each.startswith(b"dropped"):
            found.append(int(each[8:]))
            expected += found[-1]
        else:
            assert int(each[:8]) == expected
            expected += 1
    assert expected == written
    return found


def test_a_line_is_in_the_pipe_when_the_call_returns_and_no_thread_was_needed(pipe: Pipe) -> None:
    pipe.writer.write(line(1))
    assert pipe.read() == line(1)
    assert pipe.writer._backlog.thread is None


def test_the_description_that_other_programs_share_stays_as_it_was(pipe: Pipe) -> None:
    assert os.get_blocking(pipe.write_end)
    assert not os.get_blocking(pipe.writer._descriptor)


@pytest.mark.parametrize("kind", ["pipe", "shared_pipe"])
def test_lines_that_nobody_reads_are_kept_up_to_the_limit_and_then_counted(
    kind: str, request: pytest.FixtureRequest
) -> None:
    pipe: Pipe = request.getfixturevalue(kind)
    pipe.writer._max_lines = 50
    for number in range(1000):
        pipe.writer.write(line(number))
        assert len(pipe.writer._backlog.lines) <= 50
    lines = pipe.read_all()
    found = announcements(lines, 1000)
    assert 50 <= 1000 - sum(found) <= 2 * 50 + 2 * 41, (
        "a backlog, what the pipe holds, and what the thread made room for"
    )
    pipe.writer.write(line(1000))
    assert pipe.read_all() == [line(1000)]
    pipe.writer.close()
    assert pipe.dropped == {"queue_full": sum(found)}


def test_the_bytes_that_are_kept_are_limited_too(pipe: Pipe) -> None:
    pipe.writer._max_bytes = 50_000
    for number in range(100):
        pipe.writer.write(line(number, MAX_LINE_BYTES))
        assert pipe.writer._backlog.size == sum(map(len, pipe.writer._backlog.lines)) <= 50_000
    *kept, announcement = pipe.read_all()
    assert announcement == b"dropped %d\n" % (100 - len(kept))


def test_a_line_over_the_limit_of_bytes_is_written_when_there_is_nothing_else(pipe: Pipe) -> None:
    pipe.writer._max_bytes = 10
    pipe.writer.write(line(1, 20_000))
    assert pipe.read_all() == [line(1, 20_000)]


def test_drops_are_reported_while_the_reader_still_stalls(pipe: Pipe) -> None:
    told = threading.Event()
    pipe.writer.report = lambda _reason, _lines: told.set()
    pipe.writer._max_lines = 1
    for number in range(100):
        pipe.writer.write(line(number))
    assert told.wait(PATIENCE)


def test_drops_are_announced_in_their_place_and_not_between_single_lines(pipe: Pipe) -> None:
    pipe.writer._max_lines = 64
    read = b""
    for number in range(2_000):
        pipe.writer.write(line(number))
        read += pipe.read(60)  # a reader that is too slow
    found = announcements((read + b"".join(pipe.read_all())).splitlines(), 2_000)
    assert 1 < len(found) <= 1 + 2_000 // 32


@pytest.mark.parametrize("kind", ["pipe", "shared_pipe"])
def test_a_reader_that_has_gone_costs_the_lines_and_nothing_else(kind: str, request: pytest.FixtureRequest) -> None:
    pipe: Pipe = request.getfixturevalue(kind)
    os.close(pipe.read_end)
    for number in range(100):
        pipe.writer.write(line(number))
    assert pipe.writer.flush(PATIENCE)
    pipe.writer.close()
    assert pipe.dropped == {"write_failed": 100}
    pipe.read_end = os.open(os.devnull, os.O_RDONLY)


class Scripted(Writer):
    """A writer whose descriptor takes what the script says: so many bytes, or None for a refusal."""

    script: list[int | None]
    taken: bytes

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.script, self.taken = [], b""

    def _put(self, data: bytes) -> int | None:
        most = self.script.pop(0) if self.script else len(data)
        if most is None:
            return None
        self.taken += data[:most]
        return min(most, len(data))


@given(st.lists(st.integers(0, 300), max_size=30))
@settings(deadline=None)
def test_short_writes_are_continued_where_they_ended(script: list[int]) -> None:
    pipe = Pipe(Scripted)
    writer = pipe.writer
    assert isinstance(writer, Scripted)
    writer.script = [*script]
    for number in range(20):
        writer.write(line(number, MAX_LINE_BYTES + 100))
    assert writer.flush(PATIENCE)
    assert writer.taken == b"".join(line(number, MAX_LINE_BYTES + 100) for number in range(20))
    pipe.close()


@pytest.mark.parametrize("length", [100, MAX_LINE_BYTES + 1])
def test_after_a_line_that_broke_off_the_next_one_starts_anew(length: int) -> None:
    pipe = Pipe(Scripted)
    writer = pipe.writer
    assert isinstance(writer, Scripted)
    writer.script = [30, None, None, 0, 1]
    writer.write(line(1, length))
    assert writer.flush(PATIENCE)
    writer.write(line(2))
    writer.write(line(3))
    assert writer.flush(PATIENCE)
    assert writer.taken == line(1, length)[:30] + b"\n" + line(3) + b"dropped 2\n"
    pipe.close()


def test_lines_that_were_refused_are_announced_when_one_is_taken_again() -> None:
    pipe = Pipe(Scripted)
    writer = pipe.writer
    assert isinstance(writer, Scripted)
    writer.script = [None] * 6  # the first line is tried twice: at once, and in its turn
    for number in range(6):
        writer.write(line(number))
    assert writer.flush(PATIENCE)
    assert writer.taken == line(5) + b"dropped 5\n"
    assert writer._backlog.size == 0
    pipe.close()


def test_a_log_call_from_within_a_log_call_is_written_after_it() -> None:
    class Finalising(Writer):
        nested = False

        def _put(self, data: bytes) -> int | None:
            if not self.nested:
                self.nested = True
                self.write(line(2))
            return super()._put(data)

    pipe = Pipe(Finalising)
    fcntl.fcntl(pipe.write_end, F_SETPIPE_SZ, 65_536)
    pipe.writer.write(line(1, MAX_LINE_BYTES + 1))  # the way with the lock
    assert pipe.read_all() == [line(1, MAX_LINE_BYTES + 1), line(2)]
    pipe.close()


@pytest.mark.parametrize("kind", ["pipe", "shared_pipe"])
def test_lines_of_many_threads_stay_whole_and_in_each_threads_order(kind: str, request: pytest.FixtureRequest) -> None:
    pipe: Pipe = request.getfixturevalue(kind)
    read: list[bytes] = []

    def log(thread: int) -> None:
        for number in range(500):
            one = thread * 1000 + number, 10 + number % 300
            if number % 3:
                pipe.writer.enqueue(made, one)
            else:
                pipe.writer.write(made(one))

    threads = [threading.Thread(target=log, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        read.append(pipe.read())
    lines = [*b"".join(read).splitlines(keepends=True)]
    rest = pipe.read_all()
    if lines and not lines[-1].endswith(b"\n"):
        rest[0] = lines.pop() + rest[0]
    lines += rest
    for at in range(4):
        own = [each for each in lines if int(each[:8]) // 1000 == at]
        assert own == [line(at * 1000 + number, 10 + number % 300) for number in range(500)]


@given(st.lists(st.one_of(st.integers(10, MAX_LINE_BYTES), st.integers(-9_000, -1)), max_size=120))
@settings(deadline=None)
def test_whatever_the_reader_does_lines_arrive_in_order_and_the_missing_ones_are_announced(turns: list[int]) -> None:
    pipe = Pipe(max_lines=8)
    read, written = b"", 0
    for turn in turns:
        if turn > 0:
            if turn % 2:
                pipe.writer.enqueue(made, (written, turn))
            else:
                pipe.writer.write(line(written, turn))
            written += 1
        else:
            read += pipe.read(-turn)
    announcements((read + b"".join(pipe.read_all())).splitlines(), written)
    pipe.close()


def test_flush_waits_for_the_reader_and_no_longer_than_it_may(pipe: Pipe) -> None:
    assert pipe.writer.flush(0)
    for number in range(100):
        pipe.writer.write(line(number))
    assert not pipe.writer.flush(0.01)
    reader = threading.Thread(target=pipe.read_all)
    reader.start()
    assert pipe.writer.flush(PATIENCE)
    reader.join()


@pytest.mark.parametrize("kind", ["pipe", "shared_pipe"])
def test_the_end_does_not_wait_for_a_reader_that_stalls_and_counts_what_is_lost(
    kind: str, request: pytest.FixtureRequest
) -> None:
    pipe: Pipe = request.getfixturevalue(kind)
    for number in range(100):
        pipe.writer.write(line(number))
    thread = pipe.writer._backlog.thread
    pipe.writer.close(0.01)
    pipe.writer.write(line(100))
    pipe.writer.close(0.01)
    assert thread is not None
    thread.join(PATIENCE)
    assert 100 - 2 * 40 <= pipe.dropped["exit"] <= 100


def test_after_the_end_lines_are_written_at_once_without_thread_or_lock(pipe: Pipe) -> None:
    lock = pipe.writer._backlog.lock
    locked = threading.Thread(target=lock.acquire)
    locked.start()
    locked.join()
    pipe.writer._closed = True
    pipe.writer.write(line(1))
    assert pipe.read() == line(1)
    pipe.writer.reset()


def test_a_write_that_blocks_after_all_holds_up_the_thread_only(
    shared_pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = threading.Event()

    def has_just_been_writable(*_: object) -> bool:
        blocked.set()
        return True  # until another process was quicker

    monkeypatch.setattr(log_writer, "_is_writable", has_just_been_writable)
    for number in range(10):
        shared_pipe.writer.write(line(number, MAX_LINE_BYTES))
    assert blocked.wait(PATIENCE)
    assert not shared_pipe.writer.flush(0.05)
    assert shared_pipe.read_all() == [line(number, MAX_LINE_BYTES) for number in range(10)]


def test_a_socket_is_written_by_the_thread_because_it_could_block() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = Writer(ours.fileno())
        writer.write(line(1))
        assert writer.flush(PATIENCE)
        assert theirs.recv(1000) == line(1)
        thread = writer._backlog.thread
        assert thread is not None
        writer.close()
        thread.join(PATIENCE)


def test_a_socket_that_does_not_block_is_written_at_once() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        writer = Writer(ours.fileno())
        writer.write(line(1))
        assert writer._backlog.thread is None
        assert theirs.recv(1000) == line(1)


def test_without_a_thread_to_be_had_lines_go_out_with_later_ones(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for number in range(60):
        pipe.writer.write(line(number))
    read = pipe.read()
    pipe.writer.write(line(60))
    read += pipe.read()
    assert read == b"".join(line(number) for number in range(61))
