"""The connection pool of a worker, and the one place where a driver's error becomes "the database is away".

The pool connects when it is first used, so a worker starts, serves and recovers whatever the database does.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg

from app.database.turns import Turns
from app.monitoring.logging import get_logger

log = get_logger("database")

# With QUEUE_TIMEOUT (0.5 s) these two add up to 2 s, the latency objective of monitoring/slo.yaml, for a request with
# one statement on an open connection. COMMAND_TIMEOUT is that of each statement, BEGIN and COMMIT included, and a
# request that has to open its connection waits for up to CONNECT_TIMEOUT more.
ACQUIRE_TIMEOUT = 0.5
"""Seconds that a request waits for one of the pool's connections."""
COMMAND_TIMEOUT = 1.0
# Not a part of ACQUIRE_TIMEOUT: a connection that takes longer to open would otherwise never be opened.
CONNECT_TIMEOUT = 2.0
MIN_RETRY_DELAY, MAX_RETRY_DELAY = 0.1, 5.0

# Errors of the connection or the server, not of the statement. asyncpg raises InterfaceError for a connection that was
# closed during its use.
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, in recovery, a query cancelled
    asyncpg.InsufficientResourcesError,  # connections, memory, disk
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,  # a password is being changed
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, in the middle of a failover
    # The server has ended a session that took too long.
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.LockNotAvailableError,  # lock_timeout
    asyncpg.TransactionRollbackError,  # a deadlock, a serialization failure
    asyncpg.InvalidCachedStatementError,  # a migration has changed the table under a transaction
    asyncpg.UndefinedTableError,  # the migrations have not run yet
)


class DatabaseUnavailable(Exception):  # noqa: N818 -- reads as what happened
    """The database could not be reached, or did not answer in time. Nothing is said about a commit under way."""


class Database:
    """A lazily connected pool on `url` (postgresql://...) of at most `size` connections."""

    def __init__(self, url: str, *, size: int = 10) -> None:
        self._url = url
        self._size = size
        self._turns = Turns(size)
        self._pool: asyncpg.Pool | None = None
        self.migrated = False
        """True once the migrations have set up the schema."""

    async def open(self) -> None:
        """Make the pool; connects to nothing."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._size,
            timeout=CONNECT_TIMEOUT,
            command_timeout=COMMAND_TIMEOUT,
            max_inactive_connection_lifetime=300,
            server_settings={"application_name": "baliblissed"},
        )

    @contextlib.asynccontextmanager
    async def connection(
        self, wait: float | None = None, *, first: bool = False
    ) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"]:
        """Yield a connection of the pool; raise DatabaseUnavailable in place of the driver's errors.

        Wait up to `wait` seconds for a free one, ACQUIRE_TIMEOUT by default, in the order of arrival or `first`.
        OSError and TimeoutError count as the driver's wherever in the block they are raised: do no other I/O in it.
        """
        if self._pool is None:
            raise DatabaseUnavailable("the pool is not open")
        try:
            turn = self._turns.turn(ACQUIRE_TIMEOUT if wait is None else wait, first=first)
            async with turn, self._pool.acquire(timeout=CONNECT_TIMEOUT) as connection:
                yield connection
        except AWAY as error:
            log.warning("database_unavailable", error=f"{type(error).__name__}: {error}")
            raise DatabaseUnavailable(type(error).__name__) from error

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"]:
        """Yield a connection inside a transaction, which is committed if the block ends without an error."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def ping(self) -> None:
        """Run `SELECT 1` on the next free connection: behind requests the check of a busy service would fail.

        A statement ends within COMMAND_TIMEOUT, so one gets free in that time as long as the database answers.
        """
        async with self.connection(COMMAND_TIMEOUT, first=True) as connection:
            await connection.fetchval("SELECT 1")

    async def close(self, timeout: float = 2.0) -> None:  # noqa: ASYNC109 -- asyncpg's own close has none
        """Close the pool, and cut what has not come back after `timeout` seconds."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), timeout)
        except (TimeoutError, *AWAY):
            pool.terminate()
