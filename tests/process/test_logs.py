"""Log lines of real processes on real pipes."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.process import programs
from tests.process.service import PATIENCE, ROOT, service, wait_for
from tests.processes import communicate, started

F_SETPIPE_SZ = 1031
PIPE_BUF = 4096


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Yield a function that starts a Python process, with pipes for the streams not given. Stop it after the test."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with contextlib.ExitStack() as ended:

        def start(program: str, *arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
            command = [sys.executable, "-c", programs.SET_UP + program, *map(str, arguments)]
            return ended.enter_context(started(command, cwd=ROOT, **{**pipes, **options}))

        yield start


def read_to_the_end(descriptor: int) -> bytes:
    return b"".join(iter(lambda: os.read(descriptor, 1 << 20), b""))


def parsed(output: bytes) -> list[dict[str, Any]]:
    """Return the lines of `output`, parsed as JSON."""
    assert output.endswith(b"\n")
    return [json.loads(line) for line in output.splitlines()]


class Pipe:
    """A small pipe for a service's standard output. Reading starts with `read`."""

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        fcntl.fcntl(self.write_end, F_SETPIPE_SZ, PIPE_BUF)
        self.output = b""
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        while more := os.read(self.read_end, 1 << 20):
            self.output += more

    def read(self) -> None:
        self._reader.start()

    def lines(self) -> list[dict[str, Any]]:
        """Close the write end, wait until all other writers have exited, and return the parsed lines."""
        os.close(self.write_end)
        self.write_end = -1
        self._reader.join(PATIENCE)
        assert not self._reader.is_alive()
        return parsed(self.output)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    for descriptor in (made.read_end, made.write_end):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def test_lines_of_eight_processes_on_one_pipe_do_not_mix(start: Start) -> None:
    read_end, write_end = os.pipe()
    each = 1_000
    writers = [start(programs.MANY_LINES, number, each, stdout=write_end) for number in range(8)]
    os.close(write_end)
    output = read_to_the_end(read_end)
    os.close(read_end)
    assert [communicate(writer, PATIENCE)[1] for writer in writers] == [b""] * 8
    assert [writer.returncode for writer in writers] == [0] * 8
    lines = output.splitlines(keepends=True)
    assert max(map(len, lines)) <= PIPE_BUF
    seen: dict[int, list[int]] = {number: [] for number in range(8)}
    cut = 0
    for line in parsed(output):
        seen[line["process"]].append(line["number"])
        cut += line.get("truncated", False)
    assert seen == {number: list(range(each)) for number in range(8)}
    assert cut > 8 * each // 10


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_while_nobody_reads_the_event_loop_turns_and_the_backlog_is_bounded(start: Start, kind: str) -> None:
    read_end, write_end = os.pipe() if kind == "pipe" else [end.detach() for end in socket.socketpair()]
    process = start(programs.STALLED_READER, stdout=write_end)
    os.close(write_end)
    assert process.stderr is not None
    told = json.loads(process.stderr.readline())
    assert told["turns"] > 500
    assert told["lines"] == told["max_lines"]
    assert told["bytes"] <= told["max_bytes"]
    assert told["dropped"] > 0
    assert process.stdin is not None
    process.stdin.close()
    output = read_to_the_end(read_end)
    os.close(read_end)
    assert (process.wait(PATIENCE), process.stderr.read()) == (0, b"")
    process.stderr.close()
    *kept, announcement, after = parsed(output)
    assert [line["number"] for line in kept] == list(range(len(kept)))
    assert len(kept) >= told["max_lines"]
    assert after["event"] == "after"
    assert {"event": "log_lines_dropped", "level": "warning", "logger": "logging", "service": "test"}.items() <= (
        announcement.items()
    )
    assert announcement["lines"] == 12_000 - len(kept)


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1), ("os.kill(os.getpid(), signal.SIGKILL)", -9)],
    ids=["end of the program", "sys.exit", "exception", "crash"],
)
def test_what_is_queued_at_the_end_is_written(start: Start, end: str, status: int) -> None:
    process = start(programs.END, f"import signal\n{end}")
    assert process.stderr is not None
    assert process.stderr.readline() == b"logged\n", "nobody has read so far"
    if status < 0:
        process.wait(PATIENCE)  # reading before the signal arrives would drain every line
    output, _ = communicate(process, PATIENCE)
    assert process.returncode == status
    lines = parsed(output)
    numbers = [line["number"] for line in lines if line["event"] == "end"]
    assert numbers == list(range(len(numbers)))
    if status >= 0:
        assert len(numbers) == 3_000
        assert lines[-1]["event"] == "at exit"
    else:
        assert 100 < len(numbers) < 3_000, "what was in the pipe outlives the process"


def test_the_end_does_not_wait_for_a_reader_that_never_comes(start: Start) -> None:
    process = start(programs.END, "")
    assert process.wait(PATIENCE) == 0
    process.communicate()


@pytest.mark.parametrize("threads", [0, 2, 4, 8])
def test_finalisers_and_threads_that_log_do_not_hang_the_end_of_the_interpreter(start: Start, threads: int) -> None:
    process = start(programs.LAST_WORDS, threads)
    output, errors = communicate(process, PATIENCE)
    assert (process.returncode, errors) == (0, b"")
    lines = parsed(output)
    assert sum(line["event"] == "started" for line in lines) == 1
    if not threads:
        assert [line["logger"] for line in lines] == ["test", "test", "library"]


def test_children_forked_while_threads_log_can_log_and_repeat_no_line(
    start: Start,
) -> None:
    process = start(programs.FORKS)
    output, errors = communicate(process, PATIENCE)
    assert (process.returncode, errors) == (0, b"")
    lines = parsed(output)
    assert lines[-1]["event"] == "all ended"
    children = Counter((line["child"], line["number"]) for line in lines if line["event"] == "child")
    assert children == {(child, number): 1 for child in range(40) for number in range(5)}
    assert sum(line["event"].startswith("child ") for line in lines) == 40 * 5
    parents = [(line["thread"], line["number"]) for line in lines if line["event"] == "parent" and "thread" in line]
    assert len(parents) == len(set(parents))
    for thread in range(4):
        own = [number for at, number in parents if at == thread]
        assert own == sorted(own)


def test_a_service_whose_output_nobody_reads_goes_on_answering_and_ends(
    tmp_path: Path, addresses: dict[str, str], pipe: Pipe
) -> None:
    with service(tmp_path, pipe.write_end, **addresses) as running:
        for number in range(400):
            assert running.get("/health/live", headers={"X-Request-ID": f"{number:08x}"}).status_code == 200
        running.workers()[0].kill()  # makes the master log, which must not block it
        wait_for(lambda: running.total("baliblissed_worker_exits_total", reason="killed") == 1, "the account of it")
        assert running.answers("/health/ready")
        assert running.stop() == 0


def test_lines_that_waited_for_a_reader_are_all_there_and_each_process_keeps_its_order(
    tmp_path: Path, addresses: dict[str, str], pipe: Pipe
) -> None:
    with service(tmp_path, pipe.write_end, **addresses) as running:
        for number in range(200):
            running.get("/health/live", headers={"X-Request-ID": f"aa{number:06x}"})
        pipe.read()
        wait_for(lambda: b'"aa0000c7"' in pipe.output, "the last line")
        assert running.stop() == 0
    lines = pipe.lines()
    ids = [str(line.get("request_id", "")) for line in lines]
    assert Counter(found for found in ids if found.startswith("aa") and len(found) == len("aa000000")) == {
        f"aa{number:06x}": 1 for number in range(200)
    }
    for worker in {line["worker"] for line in lines}:
        times = [line["timestamp"] for line in lines if line["worker"] == worker]
        assert times == sorted(times)
    ends = [line["event"] for line in lines if line["logger"] == "gunicorn.error"]
    assert ends[-1] == "Shutting down: Master"
    assert sum(event.startswith("Worker exiting") for event in ends) == 2


@pytest.mark.parametrize("to", ["file", "pipe"])
def test_no_line_of_a_worker_that_is_recycled_or_stopped_is_lost(
    tmp_path: Path, addresses: dict[str, str], pipe: Pipe, to: str
) -> None:
    stdout = pipe.write_end if to == "pipe" else None
    if stdout is not None:
        pipe.read()
    with service(tmp_path, stdout, MAX_REQUESTS="25", **addresses) as running:
        sent = 0

        def recycled() -> bool:
            nonlocal sent
            sent += running.answers("/health/live")
            return running.total("baliblissed_worker_exits_total", reason="max_requests") > 2

        wait_for(recycled, "recycled workers")
        counted = running.total("http_requests_total", handler="/health/live")
        assert running.stop(signal.SIGTERM) == 0
        lines = pipe.lines() if stdout is not None else parsed(running.output.encode())
    assert sum(line["event"] == "request" and line.get("route") == "/health/live" for line in lines) == counted == sent


def test_log_level_holds_for_each_logger_of_a_service(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, LOG_LEVEL="ERROR,gunicorn.error=INFO,uvicorn=info", **addresses) as running:
        running.get("/health/live")
        assert running.stop() == 0
        lines = parsed(running.output.encode())
    assert {line["logger"] for line in lines} == {"gunicorn.error", "uvicorn.error"}
