"""Metrics of the pool and of operations, on a real PostgreSQL."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from app.database import pool as module
from app.database.pool import Connection, Database, DatabaseUnavailable
from tests.agency import metrics_in

NO_CONNECTIONS = {"in_use": 0.0, "idle": 0.0}


class Recorded:
    """A pool of `size` connections and its metrics."""

    def __init__(self, url: str, size: int) -> None:
        self.registry = CollectorRegistry()
        self.database = Database(url, size=size, metrics=metrics_in(self.registry).database)

    def value(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(f"baliblissed_database_{name}", labels)
        assert value is not None, (name, labels)
        return value

    def connections(self) -> dict[str, float]:
        return {state: self.value("pool_connections", state=state) for state in ("in_use", "idle")}

    def operations(self) -> float:
        """Return the number of operations with a duration."""
        return self._total("query_duration_seconds_count")

    def errors(self) -> dict[tuple[str, str], float]:
        """Return the errors that were counted, by operation and reason."""
        return {
            (sample.labels["operation"], sample.labels["reason"]): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "baliblissed_database_errors_total" and sample.value
        }

    def _total(self, name: str) -> float:
        samples = [sample for family in self.registry.collect() for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name == f"baliblissed_database_{name}")


@asynccontextmanager
async def opened(url: str, size: int = 2) -> AsyncIterator[Recorded]:
    recorded = Recorded(url, size)
    await recorded.database.open()
    yield recorded
    await recorded.database.close()
    assert recorded.value("pool_size") == 0
    assert recorded.connections() == NO_CONNECTIONS
    assert recorded.value("pool_waiting") == 0


@pytest.fixture
async def recorded(database_url: str) -> AsyncIterator[Recorded]:
    """Yield a pool of two connections."""
    async with opened(database_url) as one:
        yield one


@pytest.fixture
async def small(database_url: str) -> AsyncIterator[Recorded]:
    """Yield a pool of one connection."""
    async with opened(database_url, 1) as one:
        yield one


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- nothing tells
            await asyncio.sleep(0.001)


async def one(connection: Connection) -> object:
    return await connection.fetchval("SELECT 1")


async def execute(recorded: Recorded, statement: str) -> None:
    async with recorded.database.connection(operation="list_inquiries") as connection:
        await connection.execute(statement)


async def test_the_gauges_follow_the_connections(recorded: Recorded) -> None:
    assert recorded.value("pool_size") == 2
    assert recorded.connections() == NO_CONNECTIONS
    async with recorded.database.connection():
        assert recorded.connections() == {"in_use": 1, "idle": 0}
        async with recorded.database.connection():
            assert recorded.connections() == {"in_use": 2, "idle": 0}
            waiter = asyncio.create_task(recorded.database.read("ping", one, 10))
            await until(lambda: recorded.value("pool_waiting") == 1)
        assert await waiter == 1
        assert recorded.value("pool_waiting") == 0
        assert recorded.connections() == {"in_use": 1, "idle": 1}
    assert recorded.connections() == {"in_use": 0, "idle": 2}


async def test_connections_that_change_hands_at_once_are_idle_once(database_url: str) -> None:
    async with opened(database_url, 10) as recorded:
        for _ in range(5):
            await asyncio.gather(*(recorded.database.read("ping", one, 10) for _ in range(60)))
        connections = recorded.connections()
        assert connections["in_use"] == 0
        assert 0 < connections["idle"] <= 10


async def test_a_request_that_opens_its_connection_uses_one(scratch: Path) -> None:
    arrived = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        writer.close()

    async with (
        await asyncio.start_unix_server(silent, scratch / ".s.PGSQL.5432"),
        opened(f"postgresql://postgres@/postgres?host={scratch}") as recorded,
    ):
        request = asyncio.create_task(recorded.database.ping())
        await arrived.wait()
        assert recorded.connections() == {"in_use": 1, "idle": 0}
        request.cancel()
        await asyncio.wait([request])
        assert recorded.connections() == NO_CONNECTIONS


async def test_a_connection_that_the_server_closes_is_idle_no_longer(recorded: Recorded, database_url: str) -> None:
    async with recorded.database.connection() as connection:
        pid = await connection.fetchval("SELECT pg_backend_pid()")
    assert recorded.connections() == {"in_use": 0, "idle": 1}
    other = await asyncpg.connect(database_url)
    await other.execute("SELECT pg_terminate_backend($1)", pid)
    await other.close()
    await until(lambda: recorded.connections() == NO_CONNECTIONS)
    await recorded.database.ping()
    assert recorded.connections() == {"in_use": 0, "idle": 1}


async def test_a_pool_that_is_cut_has_no_connections_left(recorded: Recorded) -> None:
    held, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with recorded.database.connection():
            held.set()
            await release.wait()

    async with recorded.database.connection():
        holder = asyncio.create_task(hold())
        await held.wait()
    assert recorded.connections() == {"in_use": 1, "idle": 1}
    await recorded.database.close(timeout=0.01)
    assert (recorded.value("pool_size"), recorded.connections()["idle"]) == (0, 0)
    release.set()
    await asyncio.wait([holder])
    assert recorded.connections() == NO_CONNECTIONS
    await recorded.database.open()
    await recorded.database.ping()
    assert recorded.value("pool_size") == 2
    assert recorded.connections() == {"in_use": 0, "idle": 1}


async def test_a_pool_without_a_free_connection_counts_a_time_out(
    small: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACQUIRE_TIMEOUT", 0.01)
    async with small.database.connection():
        waits = small.value("pool_wait_seconds_count")
        with pytest.raises(DatabaseUnavailable, match="PoolTimeoutError"):
            await small.database.transact("add_review", one)
    assert small.value("pool_timeouts_total") == 1
    assert small.value("pool_wait_seconds_count") == waits + 1
    assert small.value("pool_wait_seconds_sum") >= 0.01
    assert small.errors() == {("add_review", "pool_timeout"): 1}
    assert small.operations() == 0
    assert small.value("pool_waiting") == 0


async def test_a_wait_is_no_part_of_an_operations_duration(small: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]

    async def work(connection: Connection) -> None:
        await one(connection)
        clock[0] += 2  # seconds

    async with small.database.connection():
        monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
        waiter = asyncio.create_task(small.database.read("get_destination", work, 10))
        await until(lambda: small.value("pool_waiting") == 1)
        before = small.value("pool_wait_seconds_sum")
        clock[0] += 3
    await waiter
    assert small.value("pool_wait_seconds_sum") - before == pytest.approx(3)
    assert small.value("query_duration_seconds_sum", operation="get_destination") == 2
    assert small.value("query_duration_seconds_count", operation="get_destination") == 1


async def test_a_cancelled_request_leaves_no_trace_however_far_it_has_come(small: Recorded) -> None:
    for steps in range(40):
        tasks = [asyncio.create_task(small.database.transact("add_inquiry", one)) for _ in range(2)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert small.connections()["in_use"] == 0, f"after {steps} steps of the loop"
        assert small.value("pool_waiting") == 0
    assert small.errors() == {}
    assert await small.database.read("ping", one) == 1
    assert small.connections() == {"in_use": 0, "idle": 1}


async def test_an_operation_that_is_cancelled_has_no_duration(small: Recorded) -> None:
    asked = asyncio.Event()

    async def work(connection: Connection) -> None:
        asked.set()
        await connection.execute("SELECT pg_sleep(60)")

    request = asyncio.create_task(small.database.read("list_reviews", work))
    await asked.wait()
    request.cancel()
    await asyncio.wait([request])
    assert request.cancelled()
    assert small.operations() == 0
    assert small.errors() == {}
    assert small.connections()["in_use"] == 0


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("25006", "read_only"),
        ("40001", "conflict"),
        ("40P01", "conflict"),
        ("55P03", "conflict"),
        ("42P01", "schema"),
        ("26000", "schema"),
        ("53300", "resources"),
        ("58030", "resources"),
        ("57014", "timeout"),
        ("25P04", "timeout"),
        ("57P01", "connection_lost"),
        ("22012", "statement"),
        ("23505", "statement"),
        ("42501", "statement"),
    ],
)
async def test_an_error_of_an_operation_counts_by_its_reason(recorded: Recorded, code: str, reason: str) -> None:
    with pytest.raises((DatabaseUnavailable, asyncpg.PostgresError)):
        await execute(recorded, f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
    assert recorded.errors() == {("list_inquiries", reason): 1}
    assert recorded.value("query_duration_seconds_count", operation="list_inquiries") == 1
    assert recorded.connections()["in_use"] == 0


async def test_errors_that_the_driver_raises_count_by_their_reason(recorded: Recorded) -> None:
    with pytest.raises(DatabaseUnavailable):
        await execute(recorded, "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(DatabaseUnavailable):
        await recorded.database.read("ping", lambda connection: connection.execute("SELECT pg_sleep(9)", timeout=0.01))
    with pytest.raises(asyncpg.DataError):
        await recorded.database.read("list_reviews", lambda connection: connection.fetch("SELECT $1::int", "text"))
    assert recorded.errors() == {
        ("list_inquiries", "connection_lost"): 1,
        ("ping", "timeout"): 1,
        ("list_reviews", "statement"): 1,
    }


async def test_an_error_of_the_services_own_is_none_of_the_database(recorded: Recorded) -> None:
    async def fail(_connection: Connection) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await recorded.database.transact("add_review", fail)
    assert recorded.errors() == {}
    assert recorded.value("query_duration_seconds_count", operation="add_review") == 1


async def test_a_database_that_cannot_be_reached_counts_without_a_duration() -> None:
    async with opened("postgresql://postgres@/postgres?host=/nonexistent") as recorded:
        with pytest.raises(DatabaseUnavailable):
            await recorded.database.ping()
        assert recorded.errors() == {("ping", "connect_failed"): 1}
        assert recorded.operations() == 0
        assert recorded.value("pool_wait_seconds_count") == 1
        assert recorded.value("pool_timeouts_total") == 0


async def test_each_attempt_of_a_repeated_operation_counts(recorded: Recorded) -> None:
    attempts: list[int] = []

    async def conflict_once(connection: Connection) -> object:
        attempts.append(1)
        if len(attempts) == 1:
            await connection.execute("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END $$")
        return await one(connection)

    assert await recorded.database.transact("add_review", conflict_once) == 1
    assert recorded.errors() == {("add_review", "conflict"): 1}
    assert recorded.value("query_duration_seconds_count", operation="add_review") == 2
