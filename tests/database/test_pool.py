"""The pool, with a PostgreSQL that is stopped and started."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import yaml

from app.database import pool as module
from app.database.pool import Database, DatabaseUnavailable
from app.embedded import EmbeddedServers
from app.monitoring import Options
from app.settings import ROOT


@pytest.fixture
async def small(database_url: str) -> AsyncIterator[Database]:
    """Yield a pool of one connection."""
    database = Database(database_url, size=1)
    await database.open()
    yield database
    await database.close()


async def count_inquiries(database: Database) -> object:
    async with database.connection() as connection:
        return await connection.fetchval("SELECT count(*) FROM inquiries")


async def execute(database: Database, statement: str) -> None:
    async with database.connection() as connection:
        await connection.execute(statement)


async def add_inquiry(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> None:
    await connection.execute(
        "INSERT INTO inquiries (name, email, message, party_size, request_digest) VALUES ('a', 'b', 'c', 1, 'd')"
    )


async def test_a_pool_that_is_not_open_is_unavailable() -> None:
    database = Database("postgresql://postgres@/postgres?host=/nonexistent")
    with pytest.raises(DatabaseUnavailable, match="the pool is not open"):
        await database.ping()
    await database.close()


async def test_a_pool_that_is_closed_is_unavailable_and_can_be_opened_again(database_url: str) -> None:
    database = Database(database_url)
    await database.open()
    await database.ping()
    await database.close()
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    await database.open()
    await database.ping()
    await database.close()


async def test_opening_connects_to_nothing() -> None:
    database = Database("postgresql://postgres@/postgres?host=/nonexistent")
    await database.open()
    with pytest.raises(DatabaseUnavailable):
        await database.ping()
    await database.close()


async def test_a_database_of_another_name_is_unavailable(servers: dict[str, str]) -> None:
    database = Database(servers["DATABASE_URL"].replace("/postgres?", "/atlantis?"))
    await database.open()
    with pytest.raises(DatabaseUnavailable, match="InvalidCatalogNameError"):
        await database.ping()
    await database.close()


async def test_a_transaction_is_committed_at_its_end(database: Database) -> None:
    async with database.transaction() as connection:
        await add_inquiry(connection)
        assert await count_inquiries(database) == 0
    assert await count_inquiries(database) == 1


async def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await add_inquiry(connection)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await count_inquiries(database) == 0


async def test_an_error_of_a_statement_is_the_statements(database: Database) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await execute(database, "SELECT 1 / 0")
    await database.ping()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("25006", "ReadOnlySQLTransactionError"),  # a standby in the middle of a failover
        ("28P01", "InvalidPasswordError"),  # a password that is being changed
        ("40P01", "DeadlockDetectedError"),
        ("53100", "DiskFullError"),
        ("53300", "TooManyConnectionsError"),
        ("57014", "QueryCanceledError"),
        ("57P01", "AdminShutdownError"),
        ("58030", "PostgresIOError"),
    ],
)
async def test_an_error_of_the_server_is_no_error_of_the_statement(database: Database, code: str, error: str) -> None:
    with pytest.raises(DatabaseUnavailable, match=error):
        await execute(database, f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")
    await database.ping()


async def test_a_connection_that_ends_between_two_statements_is_unavailable(small: Database, database_url: str) -> None:
    async def hold() -> None:
        async with small.connection() as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            other = await asyncpg.connect(database_url)
            await other.execute("SELECT pg_terminate_backend($1)", pid)
            await other.close()
            while not connection.is_closed():  # noqa: ASYNC110 -- the driver sets no event
                await asyncio.sleep(0.01)
            await connection.fetchval("SELECT 1")

    with pytest.raises(DatabaseUnavailable, match="InterfaceError"):
        await asyncio.wait_for(hold(), 10)
    await small.ping()


async def test_a_table_that_is_not_there_yet_is_unavailable(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    await database.open()
    with pytest.raises(DatabaseUnavailable, match="UndefinedTableError"):
        await count_inquiries(database)
    await database.close()


async def test_a_statement_that_takes_too_long_is_unavailable_and_the_pool_goes_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMAND_TIMEOUT", 1.0)
    database = Database(database_url, size=1)
    await database.open()
    with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
        await execute(database, "SELECT pg_sleep(30)")
    await database.ping()
    await database.close()


async def test_a_pool_that_is_exhausted_is_unavailable(small: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ACQUIRE_TIMEOUT", 0.05)
    async with small.connection():
        with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
            await execute(small, "SELECT 1")


async def test_a_ping_is_not_behind_the_requests_of_a_busy_pool(small: Database) -> None:
    order: list[str] = []

    async def use() -> None:
        async with small.connection():
            order.append("request")
            await asyncio.sleep(0.01)

    async def ping() -> None:
        await small.ping()
        order.append("ping")

    async with asyncio.TaskGroup() as tasks, small.connection():
        for _ in range(3):
            tasks.create_task(use())
        await asyncio.sleep(0)
        tasks.create_task(ping())
        await asyncio.sleep(0)
    assert order == ["ping", "request", "request", "request"]


async def test_a_connection_that_is_cut_is_unavailable_once(small: Database) -> None:
    with pytest.raises(DatabaseUnavailable):
        await execute(small, "SELECT pg_terminate_backend(pg_backend_pid())")
    await small.ping()


async def test_closing_cuts_what_does_not_come_back(database_url: str) -> None:
    database = Database(database_url, size=1)
    await database.open()
    held, release = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with database.connection():
            held.set()
            await release.wait()

    holder = asyncio.create_task(hold())
    await held.wait()
    await asyncio.wait_for(database.close(timeout=0.05), 10)
    watcher = await asyncpg.connect(database_url)
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with asyncio.timeout(10):
        while await watcher.fetchval(query):  # noqa: ASYNC110 -- another process has no event
            await asyncio.sleep(0.01)
    await watcher.close()
    release.set()
    await asyncio.wait([holder])
    assert holder.exception() is None or isinstance(holder.exception(), DatabaseUnavailable)


async def test_a_pool_recovers_by_itself_when_the_server_is_back(scratch: Path) -> None:
    servers = EmbeddedServers(scratch / "pool", redis=False)
    database = Database(servers.wait_until_ready()["DATABASE_URL"], size=3)
    try:
        await database.open()
        await asyncio.gather(*(database.ping() for _ in range(3)))
        servers.stop()
        endings = await asyncio.gather(*(database.ping() for _ in range(6)), return_exceptions=True)
        assert {type(ending) for ending in endings} == {DatabaseUnavailable}
        servers = EmbeddedServers(scratch / "pool", redis=False)
        servers.wait_until_ready()
        await asyncio.gather(*(database.ping() for _ in range(6)))
    finally:
        await database.close()
        servers.stop()


def test_waiting_for_slot_connection_and_statement_stays_inside_the_objective() -> None:
    objective = yaml.safe_load((ROOT / "monitoring" / "slo.yaml").read_text())["alerts"]["HighLatencyP99"]
    waits = Options().queue_timeout + module.ACQUIRE_TIMEOUT + module.COMMAND_TIMEOUT
    assert waits <= objective["threshold_seconds"]


async def test_requests_wait_for_a_connection_in_the_order_of_arrival(small: Database) -> None:
    order: list[int] = []

    async def use(number: int) -> None:
        async with small.connection():
            order.append(number)

    async with small.connection():
        tasks = [asyncio.create_task(use(number)) for number in range(5)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order == list(range(5))
