"""The listeners of a worker: pauses, the backlog at a stop, and handshakes that do not end. In this process."""

import asyncio
import errno
import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from uvicorn.config import Config
from uvicorn.server import Server

from app.monitoring.server import listeners, receiver, serving
from app.monitoring.server.handover import Queue
from app.monitoring.server.limits import Limits
from app.monitoring.server.link import MasterLink
from app.monitoring.server.protocol import Protocol
from app.monitoring.server.receiver import Receiver, accepted
from app.monitoring.server.server_state import ServerState
from app.monitoring.server.serving import WorkerServer

Address = tuple[str, int]


class Exhausted(socket.socket):
    """A listener of a process that has no descriptor left."""

    def dup(self) -> Self:
        raise OSError(errno.EMFILE, "no descriptor is left")


class Aborted(socket.socket):
    """A listener whose first connection has ended before it is accepted."""

    ended = False

    def accept(self) -> tuple[socket.socket, Any]:
        if self.ended:
            return super().accept()
        self.ended = True
        raise ConnectionAbortedError(errno.ECONNABORTED, "the client has left")


class Transferred(asyncio.Protocol):
    """A connection that may be marked as handed over."""

    transferred = False


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Count the ends of the lifespan; answer 204."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})


@pytest.fixture
def queue() -> Iterator[Queue]:
    made = Queue()
    yield made
    for end in vars(made).values():
        end.close()


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Yield the one listener of a worker; a pause puts a copy in its place."""
    held = [listener(socket.socket)]
    yield held
    for one in held:
        one.close()


@pytest.fixture
async def worker(
    sockets: list[socket.socket], queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WorkerServer]:
    """Yield a server that listens; its service stops when it does."""
    monkeypatch.setattr(serving, "set_stopping", lambda: None)  # lasts as long as the process
    config = Config(application, http=Protocol, lifespan="on", log_config=None, timeout_graceful_shutdown=2)
    config.load()
    link = MasterLink(os.getpid())
    link.queue = queue
    server = WorkerServer(config, link, 2**31)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets)
    yield server
    if not server.lifespan.shutdown_event.is_set():
        await Server.shutdown(server, sockets)


def listener(kind: type[socket.socket]) -> socket.socket:
    """Return a listener on a free port."""
    made = kind(socket.AF_INET, socket.SOCK_STREAM)
    made.bind(("127.0.0.1", 0))
    made.listen()
    made.setblocking(False)
    return made


async def is_answered(address: Address) -> bool:
    """Return whether the worker responds to a request on a new connection."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.startswith(b"HTTP/1.1 204 ")


def is_refused(address: Address) -> bool:
    with socket.socket() as client:
        return client.connect_ex(address) == errno.ECONNREFUSED


@pytest.mark.parametrize("seconds", [0.0, 0.02])
async def test_a_backlog_is_accepted_at_once_where_a_round_of_the_loop_takes_long(
    worker: WorkerServer, sockets: list[socket.socket], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, rounds, started = 60, 0, asyncio.get_running_loop().time()
    # The clock of a machine that does nothing else: a round takes what its work takes.
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: started + rounds * seconds)
    clients = [socket.create_connection(sockets[0].getsockname()) for _ in range(many)]
    while len(worker.server_state.connections) < many:
        await asyncio.sleep(0)
        rounds += 1
    for client in clients:
        client.close()
    assert (rounds < many / 2) is (seconds > 0)


async def test_a_full_worker_leaves_the_backlog_to_the_others(
    worker: WorkerServer, sockets: list[socket.socket]
) -> None:
    worker.server_state.limits = Limits(max_connections=5)
    clients = [socket.create_connection(sockets[0].getsockname()) for _ in range(5)]
    while len(worker.server_state.connections) < 5:  # noqa: ASYNC110 -- nothing tells
        await asyncio.sleep(0)
    late = socket.create_connection(sockets[0].getsockname())
    clients.append(late)
    accepted_more: list[object] = []
    assert worker._receiver is not None
    worker._receiver.accept = lambda *arguments: accepted_more.append(arguments)  # type: ignore[method-assign]
    worker._listeners._accept(worker.server_state.room, worker._receiver, 0.0)
    assert accepted_more == []
    for client in clients:
        client.close()


async def test_accepting_is_tried_again_if_it_cannot_be_resumed(
    worker: WorkerServer, sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "RETRY_SECONDS", 0.01)
    loop, address = asyncio.get_running_loop(), sockets[0].getsockname()
    create, failures = loop.create_server, [OSError(errno.ENOMEM, "no memory is left")] * 2

    async def create_server(*arguments: Any, sock: socket.socket, **options: Any) -> Any:
        if failures:
            sock.close()  # as the event loop does
            raise failures.pop()
        return await create(*arguments, sock=sock, **options)

    monkeypatch.setattr(loop, "create_server", create_server)
    assert worker.server_state.room.pause()
    await asyncio.sleep(0)
    worker.server_state.room.resume()
    async with asyncio.timeout(30):
        assert await is_answered(address)
    assert not failures


async def test_a_worker_that_stops_does_not_resume_accepting(worker: WorkerServer) -> None:
    assert worker.server_state.room.pause()
    worker.server_state.room.resume()
    worker._listeners.freeze()
    for _ in range(10):
        await asyncio.sleep(0)
    assert worker.servers == []


async def test_a_stop_while_accepting_is_paused_closes_the_listener_before_it_waits(
    worker: WorkerServer, sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, refused = sockets[0].getsockname(), []

    async def await_first_requests() -> None:
        refused.append(is_refused(address))

    monkeypatch.setattr(worker, "_await_first_requests", await_first_requests)
    assert worker.server_state.room.pause()
    await worker.shutdown(sockets)
    assert refused == [True]


async def test_a_worker_without_descriptors_stops_in_order(worker: WorkerServer, sockets: list[socket.socket]) -> None:
    sockets.append(listener(Exhausted))
    await worker.shutdown(sockets)
    assert worker.lifespan.shutdown_event.is_set()
    assert [one.fileno() for one in sockets] == [-1, -1]


def test_a_connection_that_was_aborted_does_not_hide_the_rest_of_the_backlog() -> None:
    with listener(Aborted) as made, socket.create_connection(made.getsockname()):
        connections = list(accepted(made))
        assert len(connections) == 1
        connections[0].close()


@pytest.mark.parametrize(("connections", "received"), [(0, 5), (1, 1)])
async def test_a_worker_at_its_limit_leaves_queued_connections_to_the_others(
    queue: Queue, monkeypatch: pytest.MonkeyPatch, connections: int, received: int
) -> None:
    monkeypatch.setattr(receiver, "RETRY_SECONDS", 600.0)
    state, made = ServerState(Limits(max_connections=1)), []
    state.connections.update(Transferred() for _ in range(connections))  # type: ignore[misc]
    pairs = [socket.socketpair() for _ in range(5)]
    for _, connection in pairs:
        assert queue.send(connection)
        connection.close()

    def make() -> Transferred:
        made.append(Transferred())
        return made[-1]

    receiving = Receiver(queue, make, None, state.room)
    receiving.start()
    async with asyncio.timeout(30):
        while len(made) < received:  # noqa: ASYNC110 -- the receiver makes no event
            await asyncio.sleep(0)
    await receiving.stop()
    left = list(queue.receive())
    assert (len(made), len(left)) == (received, 5 - received)
    assert all(one.transferred for one in made)
    for one in (*left, *(client for client, _ in pairs)):
        one.close()


async def test_a_handshake_that_does_not_end_is_cut_at_the_stop(
    tmp_path: Path, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "TLS_HANDSHAKE_SECONDS", 600.0)
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)  # noqa: ASYNC221
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    receiving = Receiver(queue, asyncio.Protocol, context, ServerState().room)
    receiving.start()
    silent, connection = socket.socketpair()
    silent.setblocking(False)
    connection.setblocking(False)
    receiving.accept(connection)
    async with asyncio.timeout(30):
        await receiving.stop(0.01)
        assert await asyncio.get_running_loop().sock_recv(silent, 1) == b""
    silent.close()
