"""The connection pool of a worker, and the one place where a driver's error becomes "the database is away".

The pool connects when it is first used, so a worker starts, serves and recovers whatever the database does.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import asyncpg

from app.database import sessions
from app.database.failures import AWAY, FOREIGN_SESSION, READ_AGAIN, TRANSACT_AGAIN
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


class DatabaseUnavailable(Exception):  # noqa: N818 -- reads as what happened
    """The database could not be reached, or did not answer in time. Nothing is said about a commit under way."""


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
        try:
            turn = self._turns.turn(ACQUIRE_TIMEOUT if wait is None else wait, first=first)
            async with turn, self._pool.acquire(timeout=CONNECT_TIMEOUT) as connection:
                yield connection
        except AWAY as error:
            if isinstance(error, FOREIGN_SESSION):
                await self._share()
            self._warnings.warning("database_unavailable", f"{type(error).__name__}: {error}")
            raise DatabaseUnavailable(type(error).__name__) from error

    async def _share(self) -> None:
        """Use unnamed statements from now on. Connections in use are closed when they are released."""
        if not self._shared and self._pool is not None:
            self._shared = True
            await self._pool.expire_connections()
            log.warning("database_sessions_are_shared", consequence="statements are not prepared by name")

    @contextlib.asynccontextmanager
    async def transaction(self, wait: float | None = None, *, first: bool = False) -> AsyncIterator[Connection]:
        """Yield a connection inside a transaction, which is committed if the block ends without an error."""
        async with self.connection(wait, first=first) as connection, connection.transaction():
            yield connection

    async def read(self, work: "Work[Result]", wait: float | None = None, *, first: bool = False) -> Result:
        """Return `work(connection)`, which only reads. Repeat it once if the error may not come again.

        Raise DatabaseUnavailable in place of the driver's errors; `wait` and `first` are those of `connection`.
        """
        return await self._repeated(work, lambda: self.connection(wait, first=first), READ_AGAIN)

    async def transact(self, work: "Work[Result]") -> Result:
        """Return `work(connection)`, called in a transaction, after the commit.

        Repeat it once if the server has rolled it back and it may succeed: `work` must have no effect elsewhere.
        Raise DatabaseUnavailable in place of the driver's errors.
        """
        return await self._repeated(work, self.transaction, TRANSACT_AGAIN)

    async def _repeated(self, work: "Work[Result]", scope: "Scope", again: tuple[type[Exception], ...]) -> Result:
        until = time.monotonic() + REPEAT_WITHIN
        try:
            async with scope() as connection:
                return await work(connection)
        except DatabaseUnavailable as error:
            if not isinstance(error.__cause__, again) or time.monotonic() > until:
                raise
        async with scope() as connection:
            return await work(connection)

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
