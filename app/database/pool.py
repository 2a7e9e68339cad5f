"""The connection pool of a worker, and the one place where a driver's error becomes "the database is away".

The pool connects when it is first used, so a worker starts, serves and recovers whatever the database does.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import asyncpg

from app.database import sessions
from app.database.failures import AWAY, FOREIGN_SESSION, OTHER_PRIMARY, is_away, is_undone, schema_has_changed
from app.database.turns import Turns
from app.monitoring.logging import get_logger
from app.throttle import Throttle

log = get_logger("database")
Result = TypeVar("Result")
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Scope = Callable[[], contextlib.AbstractAsyncContextManager["Connection"]]
Work = Callable[["Connection"], Awaitable[Result]]

# With QUEUE_TIMEOUT (0.5 s) these two add up to 2 s, the latency objective of monitoring/slo.yaml, for a request with
# one statement on an open connection. COMMAND_TIMEOUT is that of each statement, BEGIN and COMMIT included, and a
# request that has to open its connection waits for up to CONNECT_TIMEOUT more.
ACQUIRE_TIMEOUT = 0.5
"""Seconds that a request waits for one of the pool's connections."""
COMMAND_TIMEOUT = 1.0
# Not a part of ACQUIRE_TIMEOUT: a connection that takes longer to open would otherwise never be opened.
CONNECT_TIMEOUT = 2.0
MIN_RETRY_DELAY, MAX_RETRY_DELAY = 0.1, 5.0

# A repetition starts no later than this after the request's first statement, so that both end in the client's patience.
REPEAT_WITHIN = 1.5
# A pool on a server that is about to leave would else be made again with each error.
MIN_RENEWAL_INTERVAL = 1.0
IS_READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"


class DatabaseUnavailable(Exception):  # noqa: N818 -- reads as what happened
    """The database could not be reached, or did not answer in time. Nothing is said about a commit under way."""

    def __init__(self, message: str, *, lost: bool = False) -> None:
        super().__init__(message)
        self.lost = lost
        """True if the connection has ended during its use."""


class DatabaseReadOnly(DatabaseUnavailable):
    """The server at the database's address is not the primary."""


class Database:
    """A lazily connected pool on `url` (postgresql://...) of at most `size` connections."""

    def __init__(self, url: str, *, size: int = 10) -> None:
        self._url = url
        self._size = size
        self._turns = Turns(size)
        self._pool: asyncpg.Pool | None = None
        self._warnings = Throttle(log)
        # True once named statements were lost or known already: a pooler that was not recognised.
        self._shared = False
        # Counts the renewals: only connections of the current generation are in use or kept.
        self._generation = 0
        self._renewed = -math.inf
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
            # All are cached by name: an unnamed statement is not parsed again for each execution, and in a shared
            # session it can be another client's.
            max_cacheable_statement_size=0,
            server_settings={"application_name": "baliblissed"},
            connection_class=sessions.Session,
            connect=self._connect,
        )

    async def _connect(self, *args: Any, **kwargs: Any) -> sessions.Session:
        return await sessions.connect(*args, shared=self._shared, **kwargs)

    @contextlib.asynccontextmanager
    async def connection(self, wait: float | None = None, *, first: bool = False) -> AsyncIterator[Connection]:
        """Yield a connection of the pool; raise DatabaseUnavailable in place of the driver's errors.

        Wait up to `wait` seconds for a free one, ACQUIRE_TIMEOUT by default, in the order of arrival or `first`.
        OSError and TimeoutError count as the driver's wherever in the block they are raised: do no other I/O in it.
        """
        if self._pool is None:
            raise DatabaseUnavailable("the pool is not open")
        session, generation = None, self._generation
        try:
            turn = self._turns.turn(ACQUIRE_TIMEOUT if wait is None else wait, first=first)
            async with turn, self._pool.acquire(timeout=CONNECT_TIMEOUT) as connection:
                session, generation = sessions.session_of(connection), self._generation
                try:
                    yield connection
                except Exception as error:
                    if schema_has_changed(error) and not session.is_closed():
                        await session.reload_schema_state()  # in the whole pool
                    raise
        except Exception as error:
            if not is_away(error):
                raise
            raise await self._unavailable(error, session, generation) from error
        finally:
            # The server, a proxy or the driver has closed it: after the same fate, others look as if they were open.
            if session is not None and session.is_closed():
                await self._renew(generation, "connection closed")

    async def _unavailable(
        self, error: Exception, session: sessions.Session | None, generation: int
    ) -> DatabaseUnavailable:
        """Draw the consequences of the driver's `error` for the pool; return the error to raise in its place."""
        name = type(error).__name__
        if isinstance(error, OTHER_PRIMARY):
            await self._renew(generation, name)
        if isinstance(error, FOREIGN_SESSION) and not self._shared:
            self._shared = True
            log.warning("database_sessions_are_shared", consequence="statements are not prepared by name")
            await self._expire()
        self._warnings.warning("database_unavailable", f"{name}: {error}")
        kind = DatabaseReadOnly if isinstance(error, asyncpg.ReadOnlySQLTransactionError) else DatabaseUnavailable
        return kind(name, lost=session is not None and session.is_closed())

    async def _renew(self, generation: int, reason: str) -> None:
        """Replace the connections of `generation`, if they are the current ones and have not just replaced others."""
        if generation == self._generation and time.monotonic() - self._renewed >= MIN_RENEWAL_INTERVAL:
            self._renewed = time.monotonic()
            self._warnings.warning("database_pool_renewed", reason)
            await self._expire()

    async def _expire(self) -> None:
        """Let every connection be closed when it is released or would be used next. New ones look the name up again."""
        self._generation += 1
        if self._pool is not None:
            await self._pool.expire_connections()

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Yield a connection inside a transaction, which is committed if the block ends without an error."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def read(self, work: "Work[Result]", wait: float | None = None, *, first: bool = False) -> Result:
        """Return `work(connection)`, which only reads. Repeat it once if the error may not come again.

        Raise DatabaseUnavailable in place of the driver's errors; `wait` and `first` are those of `connection`.
        """
        return await self._repeated(work, lambda: self.connection(wait, first=first), reads=True)

    async def transact(self, work: "Work[Result]") -> Result:
        """Return `work(connection)`, called in a transaction, after the commit.

        Repeat it once if the server has rolled it back and it may succeed: `work` must have no effect elsewhere.
        Raise DatabaseUnavailable in place of the driver's errors.
        """
        return await self._repeated(work, self.transaction, reads=False)

    async def _repeated(self, work: "Work[Result]", scope: "Scope", *, reads: bool) -> Result:
        until = time.monotonic() + REPEAT_WITHIN
        try:
            async with scope() as connection:
                return await work(connection)
        except Exception as error:
            unavailable = isinstance(error, DatabaseUnavailable)
            again = is_undone(error.__cause__ if unavailable else error) or (reads and getattr(error, "lost", False))
            if not again or time.monotonic() > until:
                raise
        async with scope() as connection:
            return await work(connection)

    async def ping(self) -> None:
        """Raise DatabaseUnavailable unless the database accepts writes: DatabaseReadOnly if the server is no primary.

        Ask on the next free connection: behind requests the check of a busy service would fail. A statement ends within
        COMMAND_TIMEOUT, so one gets free in that time as long as the database answers.
        """
        await self.read(_check_role, COMMAND_TIMEOUT, first=True)

    async def close(self, timeout: float = 2.0) -> None:  # noqa: ASYNC109 -- asyncpg's own close has none
        """Close the pool, and cut what has not come back after `timeout` seconds."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), timeout)
        except (TimeoutError, *AWAY):
            pool.terminate()


async def _check_role(connection: Connection) -> None:
    if await connection.fetchval(IS_READ_ONLY):
        raise asyncpg.ReadOnlySQLTransactionError("the server accepts no writes")
