"""A child that a worker forks shares neither signals nor connections nor the port with the service."""

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.process.replacement import CONFIGURATION, PID, Connection, reload
from tests.process.service import Service, gone, service, wait_for

APPLICATION = """
import asyncio, contextlib, gc, multiprocessing, os, signal, time
from concurrent.futures import ProcessPoolExecutor
import asyncpg
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from redis.asyncio import Redis
from app.monitoring import Observability
from app.monitoring.health import run_checks

fork = multiprocessing.get_context("fork")

@contextlib.asynccontextmanager
async def lifespan(app):
    if "DATABASE_URL" not in os.environ:
        yield
        return
    app.database = await asyncpg.connect(os.environ["DATABASE_URL"])
    app.redis = Redis.from_url(os.environ["REDIS_URL"])
    await app.redis.ping()
    yield
    await app.redis.aclose()
    await app.database.close()

app = FastAPI(lifespan=lifespan)

@app.get("/health/ready")
async def ready():
    fit, body = await run_checks([], "1")
    return JSONResponse(body, 200 if fit else 503)

@app.get("/pid")
async def pid():
    return os.getpid()

def start_process():
    process = fork.Process(target=time.sleep, args=[600], daemon=True)
    process.start()
    return process.pid

def start_pool():
    app.pool = ProcessPoolExecutor(1, mp_context=fork)
    app.pool.submit(time.sleep, 600)
    return next(iter(app.pool._processes))

def start_fork():
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    return child

@app.get("/start")
async def start(how: str):
    start = {"process": start_process, "pool": start_pool, "fork": start_fork}
    return await asyncio.to_thread(start_fork) if how == "thread" else start[how]()

def connection_to_redis():
    (connection,) = app.redis.connection_pool._available_connections
    return connection

def close_everything():
    app.database.terminate()
    connection_to_redis()._writer.transport.abort()
    for transport in app.transports:
        transport.abort()

@app.get("/close")
async def close():
    "Close all connections in a child, and let its loop do so."
    loop, child = asyncio.get_running_loop(), os.fork()
    if child == 0:
        close_everything()
        gc.collect()
        # The loop ends what it has begun to close.
        loop.call_soon(os._exit, 0)
        return await asyncio.sleep(60)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        await asyncio.sleep(0.01)
    return child

@app.get("/stores")
async def stores():
    return [await app.database.fetchval("SELECT 1"), await app.redis.ping()]

def inode(stream):
    return os.readlink(f"/proc/self/fd/{stream.get_extra_info('socket').fileno()}")

@app.get("/sockets")
async def sockets():
    found = [app.database._transport, connection_to_redis()._writer.transport]
    return [inode(one) for one in found]

Observability.current().instrument(app)
"""
RECORDING = """
from app.monitoring.server.protocol import Protocol

transports = []
made = Protocol.connection_made

def connection_made(self, transport):
    transports.append(transport)
    made(self, transport)

Protocol.connection_made = connection_made

def post_worker_init(worker):
    import replaced_service
    replaced_service.app.transports = transports
"""
WAYS = ["process", "pool", "fork", "thread"]


@contextlib.contextmanager
def worker_service(directory: Path, addresses: dict[str, str]) -> Iterator[Service]:
    """A service of one worker."""
    (directory / "replaced_service.py").write_text(APPLICATION)
    configuration = directory / "service_conf.py"
    configuration.write_text(CONFIGURATION.format(directory=str(directory), settings="{}") + RECORDING)
    with service(directory, None, configuration, WEB_CONCURRENCY="1", GRACEFUL_TIMEOUT="8", **addresses) as started:
        yield started


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Service]:
    """A service of one worker, for a test that stops it or replaces its worker."""
    with worker_service(tmp_path, {}) as started:
        yield started


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory, servers: dict[str, str]) -> Iterator[Service]:
    """A service of one worker, with connections to PostgreSQL and Redis, that outlives the children of all tests."""
    with worker_service(tmp_path_factory.mktemp("connected"), servers) as started:
        (worker,) = started.workers()
        yield started
        assert started.workers() == [worker]
        assert started.stop() == 0
        assert started.left("shop_worker_exits_total") == started.left("shop_worker_exits_total", reason="stopped") == 1


@contextlib.contextmanager
def child_of(running: Service, how: str = "fork") -> Iterator[psutil.Process]:
    """Let the worker start a child; end it afterwards."""
    child = psutil.Process(int(running.get(f"/start?how={how}").text))
    try:
        yield child
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def sockets_of(process: psutil.Process) -> set[str]:
    """The sockets of a process, by inode."""
    found = set()
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(entry.readlink()))
    return {one for one in found if one.startswith("socket:")}


def pairs_of(process: psutil.Process) -> int:
    """The Unix sockets of a process that have no name."""
    return sum(not found.laddr and not found.raddr for found in process.net_connections("unix"))


@pytest.mark.parametrize("how", WAYS)
def test_each_stop_signal_ends_the_child_and_leaves_the_worker_alone(connected: Service, how: str) -> None:
    (worker,) = connected.workers()
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
        with child_of(connected, how) as child:
            child.send_signal(number)
            wait_for(lambda: gone([child]), f"the end of the child by {number!r}")
        assert [int(connected.get("/pid").text) for _ in range(3)] == [worker.pid] * 3
        assert connected.workers() == [worker]
    assert connected.total("shop_worker_exits_total") == 0


@pytest.mark.parametrize("how", WAYS)
def test_a_child_has_no_connection_of_its_worker(connected: Service, how: str) -> None:
    (worker,) = connected.workers()
    with contextlib.closing(Connection(connected)) as client:
        client.ask()
        stores = set(connected.get("/sockets").json())
        with child_of(connected, how) as child:
            assert stores <= sockets_of(worker)
            # The parent goes on before the child does.
            wait_for(lambda: not child.net_connections("inet") and not stores & sockets_of(child), "their end")
            # All that is shared are the unnamed pairs, without the one that connections are handed over through.
            assert len(sockets_of(worker) & sockets_of(child)) <= pairs_of(worker) - 2


def test_a_client_sees_the_close_while_a_child_lives(connected: Service) -> None:
    with socket.create_connection(("127.0.0.1", connected.port), timeout=30) as client:
        client.sendall(PID)
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        with child_of(connected):
            client.sendall(PID.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            while client.recv(4096):
                pass


def test_a_child_does_not_hold_the_port_after_the_service(running: Service) -> None:
    with child_of(running) as child:
        assert running.stop() == 0
        assert child.is_running()
        with socket.socket() as next_one:
            next_one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            next_one.bind(("127.0.0.1", running.port))
            next_one.listen()


def test_a_child_does_not_take_connections_that_are_handed_over(running: Service) -> None:
    with contextlib.closing(Connection(running)) as client, child_of(running) as child:
        old = client.ask()
        reload(running)
        assert client.ask() != old
        assert child.is_running()


def test_a_child_that_closes_what_it_has_inherited_does_not_close_it_for_its_worker(connected: Service) -> None:
    with contextlib.closing(Connection(connected)) as client:
        old = client.ask()
        assert connected.get("/close").status_code == 200
        assert connected.get("/stores").json() == [1, True]
        assert client.ask() == old
