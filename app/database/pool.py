"""The connection pool of a worker, and the one place where a driver's error becomes "the database is away".

The pool connects when it is first used, so a worker starts, serves and recovers whatever the database does.
"""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import asyncpg

from app.database import sessions
from app.database.failures import AWAY, FOREIGN_SESSION, OTHER_PRIMARY, is_away, is_undone, schema_has_changed
from app.database.turns import Turns
from app.database.usage import Usage
from app.metrics import DatabaseMetrics, Query
from app.metrics import metrics as agency_metrics
from app.monitoring.logging import get_logger
from app.throttle import Throttle

log = get_logger("database")
Result = TypeVar("Result")
Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
Again = Callable[[Exception, bool], bool]
"""Says of an error, and of whether the connection has ended, if the request may be repeated."""
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
REPEAT_PAUSE = 0.01, 0.05
# A pool on a server that is about to leave would else be made again with each error.
MIN_RENEWAL_INTERVAL = 1.0
IS_READ_ONLY = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean"


class DatabaseUnavailable(Exception):  # noqa: N818 -- reads as what happened
    """The database could not be reached, or did not answer in time. Nothing is said about a commit under way."""


class DatabaseReadOnly(DatabaseUnavailable):
    """The server at the database's address is not the primary."""


class _Repeat(Exception):  # noqa: N818 -- no error yet
    """A request was undone and may be repeated."""


class Database:
    """A lazily connected pool on `url` (postgresql://...) of at most `size` connections.

    Its use is recorded in `metrics`, those of this process by default.
    """

    def __init__(self, url: str, *, size: int = 10, metrics: DatabaseMetrics | None = None) -> None:
        self._url = url
        self._size = size
        self._usage = Usage(metrics or agency_metrics().database)
        self._turns = Turns(size, self._usage.waiting)
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
        self._usage.open(self._size)

    async def _connect(self, *args: Any, **kwargs: Any) -> sessions.Session:
        session = await sessions.connect(*args, shared=self._shared, **kwargs)
        self._usage.watch(session)
        return session

    @contextlib.asynccontextmanager
    async def connection(
        self, wait: float | None = None, *, first: bool = False, operation: Query | None = None
    ) -> AsyncIterator[Connection]:
        """Yield a connection of the pool; raise DatabaseUnavailable in place of the driver's errors.

        Wait up to `wait` seconds for a free one, ACQUIRE_TIMEOUT by default, in the order of arrival or `first`. The
        block's duration and its error are recorded as those of `operation`.
        OSError and TimeoutError count as the driver's wherever in the block they are raised: do no other I/O in it.
        """
        async with self._lend(operation, wait, first=first) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def _lend(
        self,
        operation: Query | None,
        wait: float | None = None,
        *,
        first: bool = False,
        again: "Again | None" = None,
    ) -> AsyncIterator[Connection]:
        """Yield a connection as `connection` does; raise _Repeat in place of an error that `again` accepts."""
        if self._pool is None:
            raise DatabaseUnavailable("the pool is not open")
        session, generation, asked = None, self._generation, time.perf_counter()
        try:
            turn = self._turns.turn(ACQUIRE_TIMEOUT if wait is None else wait, first=first)
            acquisition = self._pool.acquire(timeout=CONNECT_TIMEOUT)
            async with turn, self._usage.connection(acquisition, asked, operation) as connection:
                session, generation = sessions.session_of(connection), self._generation
                try:
                    yield connection
                except Exception as error:
                    if schema_has_changed(error) and not session.is_closed():
                        await session.reload_schema_state()  # in the whole pool
                    raise
        except Exception as error:
            self._usage.failed(error, asked, operation, connected=session is not None)
            await self._draw_consequences(error, generation)
            lost = session is not None and session.is_closed()
            if again is not None and again(error, lost):
                self._warnings.warning("database_repeated", _described(error))
                raise _Repeat from error
            if not is_away(error):
                raise
            self._warnings.warning("database_unavailable", _described(error))
            kind = DatabaseReadOnly if isinstance(error, asyncpg.ReadOnlySQLTransactionError) else DatabaseUnavailable
            raise kind(type(error).__name__) from error
        finally:
            # The server, a proxy or the driver has closed it: after the same fate, others look as if they were open.
            if session is not None and session.is_closed():
                await self._renew(generation, "connection closed")

    async def _draw_consequences(self, error: Exception, generation: int) -> None:
        """Replace connections that the driver's `error` shows to be of no use."""
        if isinstance(error, OTHER_PRIMARY):
            await self._renew(generation, type(error).__name__)
        if isinstance(error, FOREIGN_SESSION) and not self._shared:
            self._shared = True
            log.warning("database_sessions_are_shared", consequence="statements are not prepared by name")
            await self._expire()

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
    async def transaction(self, operation: Query | None = None) -> AsyncIterator[Connection]:
        """Yield a connection inside a transaction, which is committed if the block ends without an error."""
        async with self.connection(operation=operation) as connection, connection.transaction():
            yield connection

    async def read(
        self, operation: Query, work: "Work[Result]", wait: float | None = None, *, first: bool = False
    ) -> Result:
        """Return `work(connection)`, which only reads. Repeat it once if the error may not come again.

        Raise DatabaseUnavailable in place of the driver's errors; `wait` and `first` are those of `connection`. Each
        attempt is recorded as one `operation`.
        """

        async def attempt(again: Again | None) -> Result:
            async with self._lend(operation, wait, first=first, again=again) as connection:
                if not sessions.session_of(connection).shared:
                    return await work(connection)
                # An unnamed statement is described, and parsed anew for its execution once its types are looked up. In
                # a transaction no ALTER comes between them: the values would be read as those of the types before.
                async with connection.transaction():
                    return await work(connection)

        return await _repeated(attempt, lambda error, lost: lost or is_undone(error))

    async def transact(self, operation: Query, work: "Work[Result]") -> Result:
        """Return `work(connection)`, called in a transaction, after the commit.

        Repeat it once if the server has rolled it back and it may succeed: `work` must have no effect elsewhere.
        Raise DatabaseUnavailable in place of the driver's errors. Each attempt is recorded as one `operation`.
        """

        async def attempt(again: Again | None) -> Result:
            async with self._lend(operation, again=again) as connection, connection.transaction():
                return await work(connection)

        return await _repeated(attempt, lambda error, _lost: is_undone(error))

    async def ping(self) -> None:
        """Raise DatabaseUnavailable unless the database accepts writes: DatabaseReadOnly if the server is no primary.

        Ask on the next free connection: behind requests the check of a busy service would fail. A statement ends within
        COMMAND_TIMEOUT, so one gets free in that time as long as the database answers.
        """
        await self.read("ping", _check_role, COMMAND_TIMEOUT, first=True)

    async def close(self, timeout: float = 2.0) -> None:  # noqa: ASYNC109 -- asyncpg's own close has none
        """Close the pool, and cut what has not come back after `timeout` seconds."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None
        try:
            await asyncio.wait_for(pool.close(), timeout)
        except (TimeoutError, *AWAY):
            pool.terminate()
        finally:
            self._usage.close(self._size)


async def _repeated(attempt: Callable[[Again | None], Awaitable[Result]], again: Again) -> Result:
    """Return the result of an attempt, of the second one if `again` accepts the first one's error in time."""
    until = time.monotonic() + REPEAT_WITHIN
    try:
        return await attempt(lambda error, lost: time.monotonic() <= until and again(error, lost))
    except _Repeat as repeat:
        if isinstance(repeat.__cause__, asyncpg.TransactionRollbackError):
            # The transaction that was in the way needs a moment, and several of these must not meet again.
            await asyncio.sleep(random.uniform(*REPEAT_PAUSE))  # noqa: S311
    return await attempt(None)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


async def _check_role(connection: Connection) -> None:
    if await connection.fetchval(IS_READ_ONLY):
        raise asyncpg.ReadOnlySQLTransactionError("the server accepts no writes")
