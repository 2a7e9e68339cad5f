"""Metrics of a pool: its connections by state, waiting, and the operations on its connections."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias, get_args

import asyncpg

from app.database.failures import reason_of
from app.database.sessions import Session, session_of
from app.database.turns import PoolTimeoutError
from app.metrics import Calls, DatabaseMetrics, Query, QueryError

Lent: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"


class Usage:
    """The use of one pool.

    Gauges are changed by differences: a process may have several pools, and those of its tests do.
    """

    def __init__(self, metrics: DatabaseMetrics) -> None:
        self._metrics = metrics
        self.waiting = metrics.pool_waiting
        self._in_use, self._at_rest = (metrics.pool_connections.labels(state) for state in ("in_use", "idle"))
        self._calls: Calls[Query, QueryError] = Calls(
            metrics.query_duration, metrics.errors, get_args(Query), get_args(QueryError)
        )
        self._idle: set[Session] = set()

    def open(self, size: int) -> None:
        """Record a pool of at most `size` connections."""
        self._metrics.pool_size.inc(size)

    def close(self, size: int) -> None:
        """Record the end of a pool of `size` connections. The end of each of them is noticed by itself."""
        self._metrics.pool_size.dec(size)

    def watch(self, session: Session) -> None:
        """Notice the end of a new connection, which the server or the pool may close while it is idle."""
        session.add_termination_listener(lambda _: self._take(session))

    @asynccontextmanager
    async def connection(
        self, acquisition: "AbstractAsyncContextManager[Lent]", asked: float, operation: Query | None
    ) -> AsyncIterator[Lent]:
        """Yield the connection of `acquisition`, requested at `asked` (perf_counter), for `operation`.

        What a client has cancelled says nothing about the database, and has no duration.
        """
        session = None
        self._in_use.inc()
        try:
            async with acquisition as connection:
                session = session_of(connection)
                self._take(session)
                begun = time.perf_counter()
                self._metrics.pool_wait.observe(begun - asked)
                try:
                    yield connection
                except (asyncio.CancelledError, GeneratorExit):
                    operation = None
                    raise
                finally:
                    if operation is not None:
                        self._calls.ended(operation, time.perf_counter() - begun)
                    # Before the release: once it is free, another request may have it before this one goes on.
                    self._give_back(session)
        finally:
            if session is None:
                self._in_use.dec()

    def failed(self, error: Exception, asked: float, operation: Query | None, *, connected: bool) -> None:
        """Count an `error` of an operation, on its connection or (not `connected`) before it had one."""
        if not connected:
            self._metrics.pool_wait.observe(time.perf_counter() - asked)
        if isinstance(error, PoolTimeoutError):
            self._metrics.pool_timeouts.inc()
        reason = reason_of(error, connected=connected)
        if reason is not None and operation is not None:
            self._calls.failed(operation, reason)

    def _give_back(self, session: Session) -> None:
        """Count a connection that was in use as idle, unless it is closed."""
        self._in_use.dec()
        if not session.is_closed():
            self._idle.add(session)
            self._at_rest.inc()

    def _take(self, session: Session) -> None:
        """Count an idle connection as idle no longer."""
        if session in self._idle:
            self._idle.remove(session)
            self._at_rest.dec()
