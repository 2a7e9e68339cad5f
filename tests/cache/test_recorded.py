"""Metrics of calls to Redis, on a real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import DataError, RedisError

from app.cache.connection import RedisAway, RedisGate
from tests.agency import metrics_in


class Recorded:
    """A gate and its metrics."""

    def __init__(self, url: str) -> None:
        self.registry = CollectorRegistry()
        self.gate = RedisGate(url, metrics_in(self.registry).redis)

    def durations(self) -> dict[str, float]:
        """Return the number of calls with a duration, by command."""
        return {labels["command"]: value for labels, value in self._series("command_duration_seconds_count")}

    def errors(self) -> dict[tuple[str, str], float]:
        """Return the errors that were counted, by command and reason."""
        return {(labels["command"], labels["reason"]): value for labels, value in self._series("errors_total")}

    def _series(self, name: str) -> list[tuple[dict[str, str], float]]:
        return [
            (sample.labels, sample.value)
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == f"baliblissed_redis_{name}" and sample.value
        ]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Recorded]:
    recorded = Recorded(url)
    yield recorded
    await recorded.gate.close()


@pytest.fixture
async def recorded(redis_url: str) -> AsyncIterator[Recorded]:
    """Yield a gate to the session's Redis."""
    async with connected(redis_url) as gate:
        yield gate


async def get(client: Redis) -> object:
    return await client.get("key")


async def test_an_answer_has_a_duration_and_is_no_error(recorded: Recorded) -> None:
    await recorded.gate.call("get", get)
    await recorded.gate.call("mget", lambda client: client.mget("key", "other"))
    await recorded.gate.ping()
    assert recorded.durations() == {"get": 1, "mget": 1, "ping": 1}
    assert recorded.errors() == {}


async def test_a_refusal_counts_as_one(recorded: Recorded) -> None:
    await recorded.gate.call("set", lambda client: client.set("key", "no hash"))
    with pytest.raises(RedisAway):
        await recorded.gate.call("hset", lambda client: cast("Any", client.hset("key", "field", "value")))
    assert recorded.errors() == {("hset", "refused"): 1}
    assert recorded.durations() == {"set": 1, "hset": 1}


async def test_a_redis_that_is_away_counts_once_and_then_as_not_asked() -> None:
    async with connected("unix:///nonexistent.sock") as recorded:
        for _ in range(3):
            with pytest.raises(RedisAway):
                await recorded.gate.call("lease", get)
        with pytest.raises(RedisError):
            await recorded.gate.ping()
        assert recorded.errors() == {("lease", "connection"): 1, ("lease", "not_asked"): 2, ("ping", "connection"): 1}
        assert recorded.durations() == {"lease": 1, "ping": 1}


async def test_a_redis_that_does_not_answer_counts_as_a_time_out(scratch: Path) -> None:
    ended: asyncio.Queue[None] = asyncio.Queue()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.put_nowait(None)

    path = scratch / "recorded.sock"
    async with await asyncio.start_unix_server(silent, path):
        async with connected(f"unix://{path}") as recorded:
            with pytest.raises(RedisAway):
                await recorded.gate.call("get", get)
        for _ in range(2):  # the call and its one retry
            await asyncio.wait_for(ended.get(), 10)
    assert recorded.errors() == {("get", "timeout"): 1}
    assert recorded.durations() == {"get": 1}


async def test_errors_of_the_client_and_of_the_service_are_told_apart(recorded: Recorded) -> None:
    async def fail(_client: Redis) -> None:
        raise LookupError

    async def misuse(_client: Redis) -> None:
        raise DataError

    with pytest.raises(LookupError):
        await recorded.gate.call("rate_limit", fail)
    assert (recorded.errors(), recorded.durations()) == ({}, {})
    with pytest.raises(RedisAway):
        await recorded.gate.call("rate_limit", misuse)
    assert recorded.errors() == {("rate_limit", "other"): 1}


async def test_a_cancelled_call_is_not_recorded(recorded: Recorded) -> None:
    call = asyncio.create_task(
        recorded.gate.call("get", lambda client: cast("Any", client.blpop(["queue"], timeout=60)))
    )
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    assert (recorded.errors(), recorded.durations()) == ({}, {})
