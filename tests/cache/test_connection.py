"""The gate in front of Redis, with a Redis that is stopped and started."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from app.cache import connection
from app.cache.connection import RedisAway, RedisGate
from app.embedded import EmbeddedServers


class Server:
    """A Redis of the test's own at one address."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._servers: EmbeddedServers | None = None

    def start(self) -> str:
        self._servers = EmbeddedServers(self._data, postgres=False)
        return self._servers.wait_until_ready()["REDIS_URL"]

    def stop(self) -> None:
        if self._servers is not None:
            self._servers.stop()
            self._servers = None


@pytest.fixture
def server(scratch: Path) -> Iterator[Server]:
    """Yield a Redis that a test may stop."""
    owned = Server(scratch / "gate")
    yield owned
    owned.stop()


@pytest.fixture
async def away() -> AsyncIterator[RedisGate]:
    """Yield a gate to an address without a server."""
    gate = RedisGate("unix:///nonexistent.sock")
    yield gate
    await gate.close()


async def get(client: Redis) -> object:
    return await client.get("key")


async def test_an_answer_passes_the_gate(redis_url: str) -> None:
    gate = RedisGate(redis_url)
    assert await gate.call("set", lambda client: client.set("key", "value")) is True
    assert await gate.call("get", get) == b"value"
    assert not gate.is_away
    await gate.close()


async def test_an_error_closes_the_gate_and_redis_is_not_asked_meanwhile(away: RedisGate) -> None:
    with capture_logs() as lines, pytest.raises(RedisAway, match="ConnectionError"):
        await away.call("get", get)
    assert [(line["event"], line["log_level"]) for line in lines] == [("redis_away", "warning")]
    assert away.is_away

    async def never(_client: Redis) -> None:
        pytest.fail("Redis was asked")

    with pytest.raises(RedisAway, match="not asked"):
        await away.call("get", never)


async def test_the_gate_opens_after_its_pause(away: RedisGate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PAUSE_SECONDS", 0.05)
    with pytest.raises(RedisAway, match="ConnectionError"):
        await away.call("get", get)
    async with asyncio.timeout(10):
        while away.is_away:  # noqa: ASYNC110 -- a clock has no event
            await asyncio.sleep(0.01)
    with pytest.raises(RedisAway, match="ConnectionError"):
        await away.call("get", get)


async def test_one_call_finds_out_after_the_pause_and_the_others_go_on_without(redis_url: str) -> None:
    gate = RedisGate(redis_url)
    gate._away_until = 1e-9
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(_client: Redis) -> str:
        asked.set()
        await answer.wait()
        return "here"

    first = asyncio.create_task(gate.call("get", slow))
    await asked.wait()
    with pytest.raises(RedisAway, match="not asked"):
        await gate.call("get", get)
    answer.set()
    assert await first == "here"
    assert await gate.call("get", get) is None
    await gate.close()


async def test_a_command_that_redis_refuses_leaves_the_gate_open(redis_url: str) -> None:
    gate = RedisGate(redis_url)
    await gate.call("set", lambda client: client.set("key", "no list"))
    with capture_logs() as lines, pytest.raises(RedisAway, match="refused"):
        await gate.call("get", lambda client: cast("Any", client.lpush("key", "x")))
    assert [line["event"] for line in lines] == ["redis_refused"]
    assert await gate.call("get", get) == b"no list"
    await gate.close()


async def test_a_lease_is_released_by_its_holder_only(redis_url: str) -> None:
    gate = RedisGate(redis_url)
    await gate.client.set("lease", "mine")
    await connection.release(gate.client, "lease", "another's")
    assert await gate.client.exists("lease") == 1
    await connection.release(gate.client, "lease", "mine")
    assert await gate.client.exists("lease") == 0
    await gate.close()


async def test_an_error_that_is_not_of_redis_is_the_callers(redis_url: str) -> None:
    gate = RedisGate(redis_url)

    async def wrong(_client: Redis) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await gate.call("get", wrong)
    assert not gate.is_away
    await gate.close()


async def test_a_redis_that_does_not_answer_is_away(scratch: Path) -> None:
    path = scratch / "silent.sock"
    ended: asyncio.Queue[None] = asyncio.Queue()
    connections = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()
        ended.put_nowait(None)

    async with await asyncio.start_unix_server(silent, path):
        gate = RedisGate(f"unix://{path}")
        with pytest.raises(RedisAway):
            await gate.call("get", get)
        assert gate.is_away
        await gate.close()
        for _ in range(2):  # the call and its one retry
            await asyncio.wait_for(ended.get(), 10)
    assert connections == 2


async def test_what_is_logged_of_a_redis_that_is_away_holds_no_password() -> None:
    gate = RedisGate("redis://user:hunter2@127.0.0.1:1/0")
    with capture_logs() as lines, pytest.raises(RedisAway, match=r"^ConnectionError$"):
        await gate.call("get", get)
    await gate.close()
    assert lines == [
        {
            "event": "redis_away",
            "log_level": "warning",
            "error": "ConnectionError",
            "pause_seconds": connection.PAUSE_SECONDS,
        }
    ]


async def test_closing_leaves_no_connection(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        before = len(await client.client_list())
        gate = RedisGate(redis_url)
        await gate.call("get", get)
        await gate.ping()
        assert len(await client.client_list()) == before + 2
        await gate.close()
        # No asyncio.timeout: redis-py may take its cancellation for an error of the connection, and go on.
        deadline = time.monotonic() + 10
        left = before + 1
        while left > before and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
            left = len(await client.client_list())
        await gate._probe.aclose()  # what is left open by a failure would not let the event loop end
    assert left == before


async def test_a_cancellation_is_never_lost_however_far_a_call_has_come(redis_url: str) -> None:
    for steps in range(1, 200):
        gate = RedisGate(redis_url)
        call = asyncio.create_task(gate.call("get", get))
        for _ in range(steps):
            await asyncio.sleep(0)
        came_too_late = not call.cancel()
        await asyncio.wait([call])
        await gate.close()
        if came_too_late:
            return
        assert call.cancelled(), f"lost after {steps} steps of the loop"
    pytest.fail("the call never ended")


async def test_a_restart_of_redis_is_not_noticed(server: Server) -> None:
    gate = RedisGate(server.start())
    await gate.call("get", get)
    server.stop()
    server.start()
    assert await gate.call("get", get) is None
    assert not gate.is_away
    await gate.close()


async def test_a_ping_asks_through_the_closed_gate_and_opens_it(server: Server) -> None:
    gate = RedisGate(server.start())
    await gate.ping()
    server.stop()
    with pytest.raises(RedisAway):
        await gate.call("get", get)
    with pytest.raises(RedisError):
        await gate.ping()
    assert gate.is_away
    server.start()
    gate._away_until = float("inf")
    await gate.ping()
    assert not gate.is_away
    assert await gate.call("get", get) is None
    await gate.close()
