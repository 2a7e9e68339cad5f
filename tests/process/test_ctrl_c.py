"""The first Ctrl-C drains requests in flight, the second one exits at once.

After the first SIGINT gunicorn's master ignores further signals and waits for its workers. The workers therefore have
to act on the second SIGINT, which the terminal sends to them too.
"""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from app.monitoring.server.serving import TICKS_A_SECOND
from loadtest.programs import free_port
from tests.process.raw import Answer, answers, request
from tests.process.service import ROOT, gone, service, wait_for

# Longer than any test, so a process that exits earlier exits because of a signal.
FOR_EVER = "600"
APPLICATION = """
import asyncio
import pathlib

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/slow":
        pathlib.Path("entered").touch()
        while not pathlib.Path("released").exists():
            await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"done"})
"""


@dataclass
class Small:
    """A gunicorn with one worker of ours, in a session of its own as a terminal's foreground is."""

    directory: Path
    port: int
    process: "subprocess.Popen[bytes]"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def answers(self) -> bool:
        assert self.process.poll() is None
        try:
            with self.connect() as connection:
                connection.sendall(request("GET", "/", "Connection: close"))
                return connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Small]:
    """Yield a gunicorn that answers; kill it afterwards if it still runs."""
    (tmp_path / "small.py").write_text(APPLICATION)
    port = free_port()
    options = ["--worker-class", "app.monitoring.server.worker.Worker", "--workers", "1", "--bind", f"127.0.0.1:{port}"]
    options += ["--graceful-timeout", FOR_EVER, "--timeout", FOR_EVER, "--no-control-socket"]
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("gunicorn")), *options, "small:application"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        start_new_session=True,
    )
    started = Small(tmp_path, port, process)
    wait_for(started.answers, "gunicorn")
    family = [*started.workers(), psutil.Process(process.pid)]
    yield started
    for one in family:
        if not gone([one]):
            one.kill()
    process.wait(30)


@contextmanager
def in_flight(small: Small) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a request in progress, and an idle keep-alive connection."""
    with small.connect() as busy, small.connect() as idle:
        idle.sendall(request("GET", "/"))
        with idle.makefile("rb") as lines:
            assert next(line for line in lines if line == b"\r\n")
            assert lines.read(4) == b"done"
        busy.sendall(request("GET", "/slow"))
        wait_for((small.directory / "entered").exists, "the request")
        yield busy, idle


def rest(connection: socket.socket) -> bytes:
    """Return the bytes until the server closes the connection."""
    received = b""
    try:
        while part := connection.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


def answer(connection: socket.socket) -> Answer:
    """Return the single response before the server closes the connection."""
    [found] = answers(rest(connection), "GET")
    return found


def drains(idle: socket.socket) -> bool:
    """Wait until the worker drains: it closes idle connections then."""
    return rest(idle) == b""


def is_let_alone(busy: socket.socket) -> bool:
    """Return whether nothing comes for longer than Uvicorn takes to notice that it is to cut a request."""
    return not select.select([busy], [], [], 5 / TICKS_A_SECOND)[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_worker_answers_what_is_in_flight_before_it_ends(small: Small, number: signal.Signals) -> None:
    [worker] = small.workers()
    with in_flight(small) as (busy, idle):
        worker.send_signal(number)
        assert drains(idle)
        (small.directory / "released").touch()
        assert answer(busy).body == b"done"
    wait_for(lambda: gone([worker]), "the end of the worker")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_sigint_ends_a_worker_that_drains_at_once(small: Small, first: signal.Signals) -> None:
    [worker] = small.workers()
    with in_flight(small) as (busy, idle):
        worker.send_signal(first)
        assert drains(idle)
        worker.send_signal(signal.SIGINT)
        wait_for(lambda: gone([worker]), "the end of the worker")
        assert b"done" not in rest(busy)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGQUIT])
def test_another_signal_does_not_cut_short_what_a_worker_answers(small: Small, second: signal.Signals) -> None:
    [worker] = small.workers()
    with in_flight(small) as (busy, idle):
        worker.send_signal(signal.SIGINT)
        assert drains(idle)
        worker.send_signal(second)
        assert is_let_alone(busy)
        (small.directory / "released").touch()
        assert answer(busy).body == b"done"


def test_one_ctrl_c_in_a_terminal_answers_what_is_in_flight(small: Small) -> None:
    with in_flight(small) as (busy, idle):
        os.killpg(small.process.pid, signal.SIGINT)
        assert drains(idle)
        assert is_let_alone(busy)
        (small.directory / "released").touch()
        assert answer(busy).body == b"done"
    assert small.process.wait(30) == 0


def test_a_second_ctrl_c_in_a_terminal_ends_everything_at_once(small: Small) -> None:
    family = [psutil.Process(small.process.pid), *small.workers()]
    with in_flight(small) as (busy, idle):
        os.killpg(small.process.pid, signal.SIGINT)
        assert drains(idle)
        os.killpg(small.process.pid, signal.SIGINT)
        assert small.process.wait(30) == 0
        assert b"done" not in rest(busy)
    assert gone(family)


def test_a_second_ctrl_c_ends_the_service_and_its_embedded_servers(tmp_path: Path, scratch: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {
            "ENVIRONMENT": "development",
            "DATA_DIRECTORY": str(scratch / "twice"),
            "WEB_CONCURRENCY": "1",
            "GRACEFUL_TIMEOUT": FOR_EVER,
            "AI_TIMEOUT": "300",
            "AI_BASE_URL": f"http://127.0.0.1:{silent.getsockname()[1]}/v1",
        }
        with service(tmp_path, **settings) as running:
            family = running.family()
            with (
                socket.create_connection(("127.0.0.1", running.port), timeout=30) as busy,
                socket.create_connection(("127.0.0.1", running.port), timeout=30) as idle,
            ):
                idle.sendall(request("HEAD", "/health/live"))
                with idle.makefile("rb") as lines:
                    assert next(line for line in lines if line == b"\r\n")
                chat = request(
                    "POST", "/api/v1/assistant/chat", "Content-Type: application/json", body=b'{"message":"temples"}'
                )
                busy.sendall(chat)
                with silent.accept()[0]:
                    os.killpg(running.process.pid, signal.SIGINT)
                    assert drains(idle)
                    os.killpg(running.process.pid, signal.SIGINT)
                    assert running.process.wait(30) == 0
            wait_for(lambda: gone(family), "the end of every process")
