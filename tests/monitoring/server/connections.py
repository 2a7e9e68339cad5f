"""One connection of a worker in this process, without sockets: its transport keeps what is written."""

import asyncio
import atexit
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from uvicorn.config import Config

from app.monitoring.server.admission import Admission, AdmissionLimits
from app.monitoring.server.limits import Limits
from app.monitoring.server.protocol import Protocol
from app.monitoring.server.server_state import ServerState

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
# A connection whose client neither sends nor leaves.
PAIR = socket.socketpair()
for end in PAIR:
    atexit.register(end.close)
LIMITS = Limits(header_timeout=2, body_timeout=3)


class Wire(asyncio.Transport):
    """A transport that keeps what is written, or has `unsent` bytes that its client does not read."""

    def __init__(self, connection: socket.socket = PAIR[0]) -> None:
        super().__init__({"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2), "socket": connection})
        self.written = b""
        self.unsent = 0
        self.reads = True
        self.ended = self.closed = self.aborted = False

    def write(self, data: Any) -> None:
        if self.ended:
            raise RuntimeError("write after write_eof()")
        self.written += bytes(data)

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Held:
    """An application whose requests are answered one by one. `started` has their paths."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.left: list[str] = []
        self.bytes_read = 0
        self.gates: list[asyncio.Event] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.started.append(scope["path"])
        gate = asyncio.Event()
        self.gates.append(gate)
        watch = asyncio.ensure_future(self._watch(scope["path"], receive))
        await gate.wait()
        watch.cancel()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def _watch(self, path: str, receive: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            self.bytes_read += len(message["body"])
        self.left.append(path)


class Connected:
    """One connection of a worker to an application. The worker admits `in_flight` requests and queues `queued`."""

    def __init__(self, limits: Limits = LIMITS, *, in_flight: int | None = None, queued: int = 10) -> None:
        self.application, self.wire, self.state = Held(), Wire(), ServerState(limits)
        if in_flight is not None:
            options = AdmissionLimits(in_flight, queued, 60.0, ("/health",))
            self.state.admission = Admission(options, self.state.tasks, 60.0)
        config: Any = Config(self.application, log_config=None, lifespan="off")
        config.load()
        config.loaded_app = self.application
        self.config, self.all = config, list[tuple[Wire, Protocol]]()
        self.protocol = self.connect(self.wire)

    def connect(self, wire: Wire) -> Protocol:
        protocol = Protocol(self.config, self.state, {})
        protocol.connection_made(wire)
        self.all.append((wire, protocol))
        return protocol

    def tick(self, seconds: int) -> None:
        """Let `seconds` pass for the limits."""
        for _ in range(seconds):
            self.state.clock += 1
            self.protocol.sweep()

    async def answer(self, number: int) -> None:
        """Answer the request that was started as the `number`-th."""
        self.application.gates[number].set()
        await settle()


async def settle() -> None:
    """Run what is ready."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def connected(limits: Limits = LIMITS, **options: Any) -> AsyncIterator[Connected]:
    """Yield a connection to an application whose requests are answered at the end."""
    made = Connected(limits, **options)
    try:
        yield made
    finally:
        for wire, protocol in made.all:
            wire.close()
            protocol.flow.resume_writing()
        for gate in made.application.gates:
            gate.set()
        await settle()
        for task in made.state.tasks:
            task.cancel()
        await settle()
