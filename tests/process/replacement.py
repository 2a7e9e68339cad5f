"""A small service whose workers are replaced while clients are connected."""

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import psutil

from loadtest.keep_alive import Opener, Results, tcp, traffic
from tests.process.service import Service, gone, wait_for

APPLICATION = """
import asyncio, gc, os
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from app.monitoring import Observability
from app.monitoring.health import Check, CheckFailed, Readiness, run_checks

app = FastAPI()
fit = not os.path.exists(os.path.join(os.path.dirname(__file__), "unfit"))

async def tables():
    if not fit:
        raise CheckFailed("this worker was started without its tables")
    return {}

@app.get("/health/ready")
async def ready():
    fit, body = await run_checks([], "1")
    return JSONResponse(body, 200 if fit else 503)

@app.get("/collected")
async def collected():
    return {"application": any(one is app for one in gc.get_objects()), "threshold": gc.get_threshold()[0]}

@app.get("/pid")
async def pid(seconds: float = 0):
    await asyncio.sleep(seconds)
    return os.getpid()

Observability.current().instrument(app, readiness=Readiness([Check("tables", tables, 1.0)], "1"))
"""
CONFIGURATION = """
import os, sys
sys.path.insert(0, {directory!r})
from app.monitoring import Observability
globals().update(Observability("shop", namespace="shop").gunicorn("replaced_service:app", **{settings}))
"""
IMPORTING = """
import os, pathlib, time
pathlib.Path(__file__).with_name(f"importing.{os.getpid()}").touch()
time.sleep(60)
"""
PID = b"GET /pid HTTP/1.1\r\nHost: localhost\r\n\r\n"


def configured(directory: Path, settings: str = "{}", more: str = "") -> Path:
    """Write the application and its configuration, with gunicorn's `settings` and `more` lines; return the latter."""
    (directory / "replaced_service.py").write_text(APPLICATION)
    file = directory / "service_conf.py"
    file.write_text(CONFIGURATION.format(directory=str(directory), settings=settings) + more)
    return file


def replace_code(directory: Path, code: str) -> None:
    """Replace the application's file in one step: a worker that boots must not import half of it."""
    written = directory / "replaced_service.new"
    written.write_text(code)
    written.replace(directory / "replaced_service.py")


def wait_for_imports(directory: Path, number: int) -> list[psutil.Process]:
    """Wait until `number` workers import `IMPORTING`, and return them."""

    def importing() -> list[Path]:
        return list(directory.glob("importing.*"))

    wait_for(lambda: len(importing()) >= number, "workers that import")
    found = importing()
    assert len(found) == number
    return [psutil.Process(int(file.suffix[1:])) for file in found]


def wait_for_workers(running: Service, number: int = 2) -> None:
    """Wait for all workers: a reload replaces a worker that still boots at once."""
    wait_for(lambda: running.output.count("Application startup complete.") == number, "all workers")


class Connection:
    """One keep-alive connection, which is never opened again."""

    def __init__(self, running: Service) -> None:
        self._socket = socket.create_connection(("127.0.0.1", running.port), timeout=30)
        self._received = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """The next answer, head and body."""
        while True:
            head, end, rest = self._received.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]) if end else 0
            if end and len(rest) >= length:
                self._received = rest[length:]
                return head + end + rest[:length]
            part = self._socket.recv(4096)
            assert part, f"the connection was closed after {self._received!r}"
            self._received += part

    def answer(self) -> int:
        """The body of the next answer, a process id."""
        received = self.receive()
        assert received.startswith(b"HTTP/1.1 200 "), received
        assert b"connection: close" not in received.lower()
        return int(received.partition(b"\r\n\r\n")[2])

    def ask(self) -> int:
        """The process that answers."""
        self.send(PID)
        return self.answer()

    def close(self) -> None:
        self._socket.close()


def reload(running: Service) -> None:
    before = running.workers()
    running.master.send_signal(signal.SIGHUP)
    wait_for(lambda: gone(before) and len(running.workers()) == len(before), "the workers of the reload")


def under_traffic(running: Service, *steps: Callable[[], object], opener: Opener | None = None) -> Results:
    """Take the steps one after the other while clients ask over connections of `opener`."""

    async def run() -> Results:
        async with traffic(opener or tcp(running.port), "/pid", connections=20, rate=100) as results:
            for step in steps:
                await asyncio.to_thread(step)
        return results

    return asyncio.run(run())
