"""A small service with limits, and requests that pass them."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.process.raw import Answer, answers, exchange, request
from tests.process.service import Service, service, wait_for

APPLICATION = """
import asyncio, os
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from app.monitoring import Observability

app = FastAPI()

@app.get("/health/ready")
async def ready():
    return "ready"

@app.get("/pid")
async def pid(seconds: float = 0):
    await asyncio.sleep(seconds)
    return os.getpid()

@app.post("/health/body")
@app.post("/echo")
async def echo(request: Request):
    return PlainTextResponse(await request.body(), headers={"x-upgrade": request.headers.get("upgrade", "none")})

@app.post("/late")
async def late(request: Request):
    await asyncio.sleep(3)
    return PlainTextResponse(await request.body())

@app.post("/unread")
async def unread():
    return "answered"

@app.get("/large")
async def large():
    return PlainTextResponse("x" * 20_000_000)

@app.get("/path{path:path}")
@app.get("/")
async def path(request: Request):
    return PlainTextResponse(request.scope["path"])

@app.websocket("/ws")
async def ws(socket: WebSocket):
    await socket.accept()
    await socket.send_text(await socket.receive_text())

Observability.current().instrument(app)
"""
CONFIGURATION = """
import sys
sys.path.insert(0, {directory!r})
from app.monitoring import Observability
globals().update(Observability("shop", namespace="shop").gunicorn("limited_service:app"))
"""
LAST = "Connection: close"


@contextmanager
def limited(directory: Path, **environment: str) -> Iterator[Service]:
    """Start the service with one worker and the options of `environment`."""
    (directory / "limited_service.py").write_text(APPLICATION)
    file = directory / "service_conf.py"
    file.write_text(CONFIGURATION.format(directory=str(directory)))
    with service(directory, None, file, **{"WEB_CONCURRENCY": "1", **environment}) as running:
        yield running


def connect(running: Service, *data: bytes) -> socket.socket:
    """Open a connection and send `data`."""
    connection = socket.create_connection(("127.0.0.1", running.port), timeout=30)
    for part in data:
        connection.sendall(part)
    return connection


def rest(connection: socket.socket) -> bytes:
    """Return every byte until the server closes, and close."""
    with connection:
        received = b""
        while part := connection.recv(1 << 16):
            received += part
        return received


def only_answer(connection: socket.socket, method: str = "GET") -> Answer:
    """Return the one response on a connection that the server closes."""
    (answer,) = answers(rest(connection), method)
    return answer


def ask(running: Service, *parts: bytes, method: str = "GET") -> Answer:
    """Return the one response to what is sent at once."""
    (answer,) = answers(exchange(running.port, *parts), method)
    return answer


def rejected(running: Service, reason: str) -> float:
    return running.total("shop_connections_rejected_total", reason=reason)


def wait_for_rejected(running: Service, reason: str, count: float) -> None:
    wait_for(lambda: rejected(running, reason) >= count, f"{count:g} of {reason}")


def serves(running: Service) -> bool:
    return ask(running, request("GET", "/pid", LAST)).status == 200
