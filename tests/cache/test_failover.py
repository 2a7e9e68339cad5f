"""Redis servers that change their roles or refuse commands, behind a TCP proxy that leads to one, then to another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError
from structlog.testing import capture_logs

from app.cache import connection
from app.cache.connection import RedisAway, RedisGate
from app.embedded_servers import find_redis
from loadtest.programs import free_port
from tests.conftest import Application
from tests.process.service import wait_for
from tests.processes import started
from tests.switch import Switch, switch

HOST = "127.0.0.1"
REVIEWS = "/api/v1/destinations/tanah-lot/reviews"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for answers as long as a busy machine takes."""
    for name in ("TIMEOUT_SECONDS", "PROBE_TIMEOUT_SECONDS"):
        monkeypatch.setattr(connection, name, 60.0)


@contextmanager
def redis_server(directory: Path) -> Iterator[int]:
    """Run an empty Redis; yield its port."""
    port, log = free_port(), directory / "redis.log"
    command: list[str | Path] = [find_redis(), "--port", str(port), "--bind", HOST, "--save", "", "--logfile", log]
    with started([*command, "--dir", directory]):
        wait_for(lambda: log.exists() and "Ready to accept connections" in log.read_text(), "Redis")
        yield port


@pytest.fixture(scope="module")
def ports(scratch: Path) -> Iterator[list[int]]:
    """Yield the ports of two servers."""
    with ExitStack() as running:
        found = []
        for name in ("one", "other"):
            directory = scratch / f"redis-{name}"
            directory.mkdir()
            found.append(running.enter_context(redis_server(directory)))
        yield found


@pytest.fixture
async def pair(ports: list[int]) -> AsyncIterator[list[Redis]]:
    """Yield clients of the two servers, both empty primaries with the default settings."""
    clients = [Redis(host=HOST, port=port) for port in ports]
    for client in clients:
        await client.replicaof("NO", "ONE")
        await client.config_set("maxmemory", 0)
        await client.config_set("replica-serve-stale-data", "yes")
        await client.flushall()
    yield clients
    for client in clients:
        await client.aclose()


@asynccontextmanager
async def gate_to(port: int) -> AsyncIterator[tuple[Switch, RedisGate]]:
    """Yield a proxy in front of a server, and a gate that has several connections through it."""
    async with switch((HOST, port)) as proxy:
        gate = RedisGate(f"redis://{HOST}:{proxy.port}/0")
        try:
            await asyncio.gather(*(gate.call("set", lambda client: client.set("key", "old")) for _ in range(5)))
            await gate.ping()
            yield proxy, gate
        finally:
            await gate.close()


async def set_new(client: Redis) -> object:
    return await client.set("key", "new")


async def test_after_one_refusal_calls_go_to_the_new_primary(pair: list[Redis], ports: list[int]) -> None:
    old, new = pair
    async with gate_to(ports[0]) as (proxy, gate):
        await old.replicaof(HOST, str(ports[1]))
        proxy.lead_to((HOST, ports[1]))
        with capture_logs() as lines:
            with pytest.raises(RedisAway, match="refused"):
                await gate.call("set", set_new)
            assert await asyncio.gather(*(gate.call("set", set_new) for _ in range(20))) == [True] * 20
            await gate.ping()
        assert [line["event"] for line in lines] == ["redis_refused"]
    assert await new.get("key") == b"new"


async def test_a_replica_is_reported_and_logged_once(
    application: Application, pair: list[Redis], ports: list[int]
) -> None:
    async with application(redis_url=f"redis://{HOST}:{ports[0]}/0") as client:
        assert (await client.get("/health")).json()["checks"]["redis"]["status"] == "pass"
        await pair[0].replicaof(HOST, str(ports[1]))
        with capture_logs() as lines:
            for _ in range(10):
                answer = await client.post(
                    "/api/v1/destinations/tanah-lot/reviews", json={"rating": 5, "text": "Good."}
                )
                assert answer.status_code == 201
        assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["redis_refused"]
        health = await client.get("/health")
    check = health.json()["checks"]["redis"]
    assert (health.status_code, health.json()["status"], check["status"]) == (200, "degraded", "warn")
    assert check["error"] == "Redis refuses writes; every route works without it"


async def test_a_connection_in_use_is_kept_until_it_is_released(pair: list[Redis], ports: list[int]) -> None:
    async with gate_to(ports[0]) as (proxy, gate):
        waiting = asyncio.create_task(gate.call("get", lambda client: client.blpop(["queue"], timeout=60)))
        async with asyncio.timeout(30):
            while not (await pair[0].info("clients"))["blocked_clients"]:
                pass
        accepted = proxy.accepted
        await gate._renew()
        await pair[0].lpush("queue", "value")
        assert tuple(await waiting or ()) == (b"queue", b"value")
        await gate.call("set", set_new)
        assert proxy.accepted == accepted + 1


async def test_connections_to_a_server_that_vanished_are_given_up_together(
    pair: list[Redis], ports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(connection, "PAUSE_SECONDS", 0.0)
    async with gate_to(ports[0]) as (proxy, gate):
        proxy.lead_to((HOST, free_port()))
        proxy.swallow()
        with pytest.raises(RedisAway):
            await gate.call("set", set_new)
        idle = cast("Any", gate.client.connection_pool)._available_connections
        assert [one.is_connected for one in idle] == [False] * 5
        proxy.lead_to((HOST, ports[1]))
        assert await asyncio.gather(*(gate.call("set", set_new) for _ in range(5))) == [True] * 5
    assert await pair[1].get("key") == b"new"


async def out_of_memory(server: Redis) -> None:
    await server.config_set("maxmemory", 1)


async def without_primary(server: Redis) -> None:
    await server.config_set("replica-serve-stale-data", "no")
    await server.replicaof(HOST, "1")


@pytest.mark.parametrize("refuse", [out_of_memory, without_primary], ids=lambda refuse: refuse.__name__)
async def test_a_server_that_refuses_is_unfit_until_it_accepts_again(
    pair: list[Redis], ports: list[int], refuse: Any
) -> None:
    async with gate_to(ports[0]) as (_, gate):
        await refuse(pair[0])
        with capture_logs() as lines:
            for _ in range(20):
                with pytest.raises(RedisAway, match="refused"):
                    await gate.call("set", set_new)
        assert [line["event"] for line in lines] == ["redis_refused"]
        with pytest.raises(ResponseError):
            await gate.ping()
        await pair[0].replicaof("NO", "ONE")
        await pair[0].config_set("maxmemory", 0)
        await gate.ping()
        assert await gate.call("set", set_new) is True


ERRORS = {
    "MOVED 866 127.0.0.1:1": "refused",
    "ASK 866 127.0.0.1:1": "refused",
    "CLUSTERDOWN The cluster is down": "refused",
    "TRYAGAIN Multiple keys request during rehashing of slot": "refused",
    "MISCONF Errors writing to the AOF file": "refused",
    "NOREPLICAS Not enough good replicas to write.": "refused",
    "LOADING Redis is loading the dataset in memory": "BusyLoadingError",
    "NOAUTH Authentication required.": "AuthenticationError",
}


@asynccontextmanager
async def refusing(error: str) -> AsyncIterator[Switch]:
    """Yield a proxy to a server that answers SET with `error`: states that a server cannot be brought into quickly."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while line := await reader.readline():
                words = []
                for _ in range(int(line[1:])):
                    length = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(length + 2))[:-2].upper())
                answer = {b"HELLO": b"%1\r\n+proto\r\n:3\r\n", b"SET": f"-{error}\r\n".encode()}
                writer.write(answer.get(words[0], b"+OK\r\n"))

    server = await asyncio.start_server(serve, HOST, 0)
    async with server, switch((HOST, server.sockets[0].getsockname()[1])) as proxy:
        yield proxy


@pytest.mark.parametrize("error", ERRORS)
async def test_after_any_refusal_a_new_connection_is_made(pair: list[Redis], ports: list[int], error: str) -> None:
    async with refusing(error) as proxy:
        gate = RedisGate(f"redis://{HOST}:{proxy.port}/0")
        with pytest.raises(RedisAway, match=ERRORS[error]):
            await gate.call("set", set_new)
        with pytest.raises(RedisError):
            await gate.ping()
        proxy.lead_to((HOST, ports[1]))
        await gate.ping()  # opens the gate, too
        assert await gate.call("set", set_new) is True
        await gate.close()
    assert await pair[1].get("key") == b"new"
