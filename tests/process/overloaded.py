"""A small service whose handlers run until a probe releases them, so that tests can fill it exactly."""

import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.process.raw import request
from tests.process.service import Service, service, wait_for

APPLICATION = """
import asyncio, os
from collections import defaultdict
from contextvars import ContextVar
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from app.monitoring import Observability
from app.monitoring.overload import release_slot
from app.monitoring.server.admission import Admission

app = FastAPI()
make_admission = Admission.__init__

def keep_admission(self, *arguments):
    make_admission(self, *arguments)
    app.admission = self

Admission.__init__ = keep_admission
variable = ContextVar("variable")
events, started, running, most, ended = defaultdict(asyncio.Event), [], set(), [0], []

async def hold(name):
    started.append(name)
    running.add(name)
    most[0] = max(most[0], len(running))
    try:
        await events[name].wait()
    finally:
        running.discard(name)
    ended.append(name)

@app.get("/hold/{name}")
async def held(name: str):
    await hold(name)
    return name

@app.post("/hold/{name}")
async def posted(name: str, request: Request):
    size = len(await request.body())
    await hold(name)
    return size

@app.get("/background/{name}")
async def background(name: str, tasks: BackgroundTasks):
    tasks.add_task(hold, name)
    return name

@app.get("/long/{name}")
async def long(name: str, request: Request):
    release_slot(request.scope)
    await hold(name)
    return name

@app.get("/context/{name}")
async def context(name: str, request: Request):
    before = variable.get(None)
    variable.set(name)
    await hold(name)
    release_slot(request.scope)
    return before

@app.get("/stream/{name}")
async def stream(name: str):
    async def parts():
        yield "data: 1\\n\\n"
        await hold(name)
    return StreamingResponse(parts(), media_type="text/event-stream")

@app.websocket("/socket/{name}")
async def websocket(socket: WebSocket, name: str):
    await socket.accept()
    await hold(name)
    await socket.close()

@app.get("/pid")
async def pid(seconds: float = 0):
    await asyncio.sleep(seconds)
    return os.getpid()

@app.get("/quick")
async def quick():
    return "quick"

@app.get("/health/ready")
async def ready():
    return "ready"

@app.get("/health/hold/{name}")
async def held_probe(name: str):
    await hold(name)
    return name

@app.get("/health/stream")
async def while_connected():
    async def parts():
        yield "begun"
        await asyncio.Event().wait()
    return StreamingResponse(parts())

@app.get("/health/release/{name}")
async def release(name: str):
    events[name].set()

@app.get("/health/forget")
async def forget():
    events.clear()
    started.clear()
    ended.clear()
    most[0] = 0

@app.get("/health/state")
async def state():
    admission = app.admission  # its gauges are published once a second
    counts = {"in_flight": admission.in_flight, "queued": len(admission._queue)}
    return {"started": started, "running": sorted(running), "most": most[0], "ended": ended, **counts}

Observability.current().instrument(app)
"""
CONFIGURATION = """
import sys
sys.path.insert(0, {directory!r})
from app.monitoring import Observability
globals().update(Observability("shop", namespace="shop").gunicorn("overloaded_service:app"))
"""
MAX_IN_FLIGHT, MAX_QUEUED = 2, 3


class Client:
    """One connection, which reads answers one by one."""

    def __init__(self, running: Service) -> None:
        self.socket = socket.create_connection(("127.0.0.1", running.port), timeout=30)
        self._received = b""

    def send(self, data: bytes) -> "Client":
        self.socket.sendall(data)
        return self

    def get(self, path: str, *headers: str) -> "Client":
        return self.send(request("GET", path, *headers))

    def answer(self, *, body: bool = True) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the next answer."""
        while b"\r\n\r\n" not in self._received:
            self._read()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", 0)) if body else 0
        while len(self._received) < length:
            self._read()
        content, self._received = self._received[:length], self._received[length:]
        return int(first.split()[1]), headers, content

    def status(self) -> int:
        return self.answer()[0]

    def closed(self) -> bool:
        """Wait for the close. False if something comes before it."""
        return not self._received and self.socket.recv(1) == b""

    def close(self) -> None:
        self.socket.close()

    def _read(self) -> None:
        part = self.socket.recv(65536)
        assert part, f"the connection was closed after {self._received!r}"
        self._received += part


class Overloaded:
    """The service with one worker, and the clients that fill it."""

    def __init__(self, running: Service) -> None:
        self.service = running
        self.clients: list[Client] = []

    def client(self) -> Client:
        opened = Client(self.service)
        self.clients.append(opened)
        return opened

    def state(self) -> Any:
        return self.service.get("/health/state").json()

    def hold(self, *names: str) -> list[Client]:
        """Have a client for each name start a request, and wait until all of them run."""
        clients = [self.client().get(f"/hold/{name}") for name in names]
        wait_for(lambda: set(names) <= set(self.state()["running"]), "the running requests")
        return clients

    def queue(self, *names: str) -> list[Client]:
        """Have a client for each name send a request, one after the other, and wait until all of them are queued."""
        clients = []
        for number, name in enumerate(names, self.queued() + 1):
            clients.append(self.client().get(f"/hold/{name}"))
            wait_for(partial(self._queues, number), f"{number} queued requests")
        return clients

    def fill(self) -> tuple[list[Client], list[Client]]:
        """Return the clients of the requests a and b, which run, and c, d and e, which are queued."""
        return self.hold("a", "b"), self.queue("c", "d", "e")

    def _queues(self, number: int) -> bool:
        return self.queued() == number

    def queued(self) -> int:
        return int(self.state()["queued"])

    def release(self, *names: str) -> None:
        for name in names:
            self.service.get(f"/health/release/{name}")

    def reset(self) -> None:
        """End everything that a test has started, and forget it. Its counters stay."""
        for client in self.clients:
            client.close()
        self.clients.clear()

        def rests() -> bool:
            self.release(*self.state()["running"])
            state = self.state()
            return not state["queued"] and not state["in_flight"] and not state["running"]

        wait_for(rests, "the end of every request")
        self.service.get("/health/forget")

    def shed(self, reason: str) -> float:
        return self.service.total("shop_requests_shed_total", reason=reason)


@contextlib.contextmanager
def overloaded(directory: Path, **environment: str) -> Iterator[Overloaded]:
    """Start the service with one worker, MAX_IN_FLIGHT and MAX_QUEUED, and a deadline that no test waits for."""
    (directory / "overloaded_service.py").write_text(APPLICATION)
    configuration = directory / "service_conf.py"
    configuration.write_text(CONFIGURATION.format(directory=str(directory)))
    settings = {
        "WEB_CONCURRENCY": "1",
        "MAX_IN_FLIGHT": str(MAX_IN_FLIGHT),
        "MAX_QUEUED_REQUESTS": str(MAX_QUEUED),
        "QUEUE_TIMEOUT": "600",
        "GRACEFUL_TIMEOUT": "2000",
        **environment,
    }
    with service(directory, None, configuration, **settings) as running:
        started = Overloaded(running)
        try:
            yield started
        finally:
            for client in started.clients:
                client.close()
            if running.process.poll() is None:
                started.release(*(f"{name}" for name in started.state()["running"]))
