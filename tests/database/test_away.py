"""Errors that mean "the database is away" and errors of a statement, provoked on a real PostgreSQL where it can be."""

import asyncio
import inspect
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from app.database.failures import AWAY
from app.database.pool import Database, DatabaseUnavailable
from tests.conftest import own_database
from tests.process.service import wait_for

Connection = Any
Work = Callable[[Connection, str], Awaitable[object]]
ERRORS = {
    name: kind
    for name, kind in vars(asyncpg.exceptions).items()
    if inspect.isclass(kind) and issubclass(kind, Exception) and not issubclass(kind, Warning)
}
# By SQLSTATE: the classes and codes after which the same request may succeed later, unchanged.
RETRYABLE_CLASSES = ("08", "28", "40", "53", "57", "58")
RETRYABLE = {"25006", "25P03", "25P04", "26000", "3D000", "42P01", "42P05", "55P03"}


@pytest.fixture(scope="module")
async def url(servers: dict[str, str], template: str) -> AsyncIterator[str]:
    """Yield a database for this module; no test depends on what another leaves in it."""
    async with own_database(servers["DATABASE_URL"], template) as found:
        yield found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """Yield an open pool on that database."""
    async with opened(url, size=10) as found:
        yield found


@asynccontextmanager
async def opened(url: str, size: int = 1) -> AsyncIterator[Database]:
    """Yield an open pool."""
    database = Database(url, size=size)
    await database.open()
    yield database
    await database.close()


async def cause(url: str, work: Work) -> BaseException | None:
    """Return the driver's error in `work`, which is called with a pooled connection and the database URL."""
    async with opened(url) as database:

        async def run() -> None:
            async with database.connection() as connection:
                await work(connection, url)

        with pytest.raises(DatabaseUnavailable) as caught:
            await run()
        await database.ping()  # the pool goes on
    return caught.value.__cause__


@asynccontextmanager
async def stopped(connection: Connection) -> AsyncIterator[psutil.Process]:
    """Suspend the server process of `connection`; resume it after a statement has been sent to it."""
    server = psutil.Process(connection.get_server_pid())
    server.suspend()
    wait_for(lambda: server.status() == psutil.STATUS_STOPPED, "the server process to stop")
    yield server
    statement = asyncio.create_task(connection.execute("SELECT 1"))
    for _ in range(5):  # until it is written to the socket
        await asyncio.sleep(0)
    server.resume()
    await statement


async def expired(connection: Connection, setting: str) -> None:
    """Let a session time-out expire; a statement is in flight when the server reports it."""
    await connection.execute(f"SET {setting} = '1s'")
    async with stopped(connection) as server:
        status = Path(f"/proc/{server.pid}/status")

        def pending() -> bool:
            """Return True if the timer's signal is pending for the process."""
            words = status.read_text().split()
            return bool(int(words[words.index("ShdPnd:") + 1], 16) >> (signal.SIGALRM - 1) & 1)

        wait_for(pending, "the time-out")


async def idle_in_transaction(connection: Connection, _: str) -> None:
    await connection.execute("BEGIN")
    await expired(connection, "idle_in_transaction_session_timeout")


async def idle_in_transaction_of_the_driver(connection: Connection, _: str) -> None:
    # The end of the driver's transaction fails as well, and that error hides the first.
    async with connection.transaction():
        await expired(connection, "idle_in_transaction_session_timeout")


async def idle_session(connection: Connection, _: str) -> None:
    await expired(connection, "idle_session_timeout")


async def long_transaction(connection: Connection, _: str) -> None:
    await connection.execute("BEGIN")
    await expired(connection, "transaction_timeout")


async def shut_down(connection: Connection, _: str) -> None:
    async with stopped(connection) as server:
        server.terminate()


async def long_statement(connection: Connection, _: str) -> None:
    await connection.execute("SET statement_timeout = '50ms'")
    await connection.execute("SELECT pg_sleep(30)")


async def beside(url: str, *statements: str) -> None:
    """Execute `statements` on a connection of their own."""
    other = await asyncpg.connect(url)
    try:
        for statement in statements:
            await other.execute(statement)
    finally:
        await other.close()


async def awaited_lock(connection: Connection, url: str) -> None:
    other = await asyncpg.connect(url)
    await other.execute("BEGIN; LOCK TABLE inquiries")
    await connection.execute("SET lock_timeout = '50ms'")
    try:
        await connection.execute("SELECT count(*) FROM inquiries")
    finally:
        await other.close()


async def terminated(connection: Connection, url: str) -> None:
    await beside(url, f"SELECT pg_terminate_backend({connection.get_server_pid()}, 10000)")
    async with asyncio.timeout(30):
        while connection.get_server_pid():  # noqa: ASYNC110 -- raises once the driver has noticed
            await asyncio.sleep(0.001)


async def cancelled(connection: Connection, _: str) -> None:
    await connection.execute("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(30)")


async def standby(connection: Connection, _: str) -> None:
    await connection.execute("SET default_transaction_read_only = on")
    await connection.execute("DELETE FROM inquiries")


async def full_disk(connection: Connection, _: str) -> None:
    await connection.execute("SET temp_file_limit = '64kB'")
    await connection.execute("SET work_mem = '64kB'")
    await connection.execute("SELECT number FROM generate_series(1, 200000) AS number ORDER BY md5(number::text)")


async def closed_under_it(connection: Connection, _: str) -> None:
    connection.terminate()
    await connection.execute("SELECT 1")


async def deadlock(connection: Connection, url: str) -> None:
    other = await asyncpg.connect(url)
    first, second = (f"SELECT pg_advisory_xact_lock({number})" for number in (1, 2))
    await connection.execute("SET deadlock_timeout = '10ms'")
    await other.execute("SET deadlock_timeout = '1h'")
    try:
        async with connection.transaction(), other.transaction():
            await connection.execute(first)
            await other.execute(second)
            crossing = asyncio.create_task(other.execute(first))
            try:
                await connection.execute(second)
            finally:
                crossing.cancel()
                await asyncio.wait([crossing])
    finally:
        other.terminate()


async def serialization(connection: Connection, url: str) -> None:
    async with connection.transaction(isolation="repeatable_read"):
        await connection.execute("SELECT count(*) FROM destinations")
        await beside(url, "UPDATE destinations SET entrance_fee_idr = 1")
        await connection.execute("UPDATE destinations SET entrance_fee_idr = 2")


async def migrated_meanwhile(connection: Connection, url: str) -> None:
    query = "SELECT * FROM schema_migrations"
    async with connection.transaction():
        await connection.fetch(query)
        await connection.execute("ALTER TABLE schema_migrations ADD COLUMN remark text")
        await connection.fetch(query)


GONE = asyncpg.ConnectionDoesNotExistError
# The driver's error, and a part of its message. If the server ends the session, the driver raises its own error, which
# quotes the server's.
PROVOKED: dict[Work, tuple[type[Exception], str]] = {
    idle_in_transaction: (GONE, "terminating connection due to idle-in-transaction timeout"),
    idle_in_transaction_of_the_driver: (asyncpg.InterfaceError, "the underlying connection is closed"),
    idle_session: (GONE, "terminating connection due to idle-session timeout"),
    long_transaction: (GONE, "terminating connection due to transaction timeout"),
    shut_down: (GONE, "terminating connection due to administrator command"),
    terminated: (asyncpg.InterfaceError, "connection has been released"),
    closed_under_it: (asyncpg.InterfaceError, "connection has been released"),
    long_statement: (asyncpg.QueryCanceledError, "statement timeout"),
    cancelled: (asyncpg.QueryCanceledError, "user request"),
    awaited_lock: (asyncpg.LockNotAvailableError, "lock timeout"),
    standby: (asyncpg.ReadOnlySQLTransactionError, "read-only transaction"),
    full_disk: (asyncpg.ConfigurationLimitExceededError, "temp_file_limit"),
    deadlock: (asyncpg.DeadlockDetectedError, "deadlock detected"),
    serialization: (asyncpg.SerializationError, "concurrent update"),
    migrated_meanwhile: (asyncpg.InvalidCachedStatementError, "cached statement plan is invalid"),
}


@pytest.mark.parametrize("work", PROVOKED, ids=lambda work: work.__name__)
async def test_a_statement_that_the_server_could_not_finish_means_away(url: str, work: Work) -> None:
    kind, words = PROVOKED[work]
    error = await cause(url, work)
    assert type(error) is kind
    assert words in str(error)


STATEMENTS: list[tuple[str, type[Exception]]] = [
    ("SELECT 1 / 0", asyncpg.DivisionByZeroError),
    ("SELEKT 1", asyncpg.PostgresSyntaxError),
    ("SELECT nothing FROM inquiries", asyncpg.UndefinedColumnError),
    ("SELECT nothing()", asyncpg.UndefinedFunctionError),
    ("INSERT INTO inquiries (name) VALUES (NULL)", asyncpg.NotNullViolationError),
    ("INSERT INTO schema_migrations SELECT * FROM schema_migrations", asyncpg.UniqueViolationError),
    ("SET no_such_setting = 1", asyncpg.UndefinedObjectError),
    ("SELECT 'x'::integer", asyncpg.InvalidTextRepresentationError),
    ("BEGIN; SELECT 1 / 0; SELECT 1", asyncpg.DivisionByZeroError),
]


async def test_an_error_of_a_statement_comes_through(database: Database) -> None:
    async def run(statement: str) -> None:
        async with database.connection() as connection:
            await connection.execute(statement)

    for statement, kind in STATEMENTS:
        with pytest.raises(kind):
            await run(statement)
    await database.ping()


def means_away(kind: type[Exception]) -> bool:
    """Return True if the SQLSTATE means away. The driver's own errors have none and are about the connection."""
    code = getattr(kind, "sqlstate", None)
    if code is None:
        return not issubclass(kind, asyncpg.PostgresError)
    return code[:2] in RETRYABLE_CLASSES or code in RETRYABLE or kind is asyncpg.InvalidCachedStatementError


async def test_each_error_of_the_driver_means_what_its_code_says(database: Database) -> None:
    async def fail(error: Exception) -> None:
        async with database.connection():
            raise error

    wrong = []
    for kind in ERRORS.values():
        error = kind("from the driver")
        try:
            await fail(error)
        except DatabaseUnavailable:
            wrong += [] if means_away(kind) else [f"{kind.__name__} means away"]
        except kind:
            wrong += [f"{kind.__name__} comes through"] if means_away(kind) else []
    assert wrong == []


def test_each_kind_of_error_that_means_away_is_tried() -> None:
    tried = [kind for kind in ERRORS.values() if means_away(kind)] + [OSError, TimeoutError]
    assert all(kind in tried or any(issubclass(one, kind) for one in tried) for kind in AWAY)
