"""A connection to PostgreSQL or to a pooler in front of it, such as PgBouncer in transaction mode.

Behind a pooler each transaction may run in another session of the server, which other clients use too. Statements that
were prepared by name, session settings and session locks belong to the session and not to the connection.
"""

import os
import socket
from typing import Any, cast

import asyncpg
from opentelemetry.instrumentation.utils import suppress_instrumentation

# Seconds until an idle connection is probed, and between its probes. A peer that has vanished closes nothing.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3}
# Milliseconds that sent data may stay without acknowledgement.
USER_TIMEOUT = {"TCP_USER_TIMEOUT": 5000}


class Session(asyncpg.Connection):
    """A connection whose prepared statements have names that no other connection uses.

    Where a pooler is not recognised, a statement can then be missing, but never be that of another client.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._token = os.urandom(8).hex()
        self.shared = False
        """True if the sessions of the server are shared: nothing is left in them."""

    @property
    def itself(self) -> "Session":
        """The connection behind the pool's proxy."""
        return self

    def _get_unique_id(self, prefix: str) -> str:
        # asyncpg counts from 1 in each process.
        return f"{super()._get_unique_id(prefix)}{self._token}"  # type: ignore[misc]

    def get_reset_query(self) -> str:
        """Return what is sent when the connection is released: nothing in a shared session.

        It would end the locks and the settings of another client. asyncpg itself ends an open transaction.
        """
        return "" if self.shared else super().get_reset_query()

    def share(self) -> None:
        """Use only what ends with the transaction. Call it before the first statement with arguments."""
        self.shared = True
        # As with statement_cache_size=0: unnamed statements, parsed again in the transaction that executes them.
        self._stmt_cache_enabled = False
        # asyncpg sets jit for the session while it looks up types, and sets it back in another one.
        self._server_caps = self._server_caps._replace(jit=False)  # type: ignore[has-type]

    async def is_shared(self) -> bool:
        """Return True if a pooler is in front: it gives its clients process ids of its own.

        A simple query, which prepares nothing.
        """
        own = await self.execute(f"SELECT WHERE pg_backend_pid() = {self.get_server_pid()}")
        return own != "SELECT 1"

    def notice_lost_peer(self) -> None:
        """Have the kernel close the connection once its peer or the network is gone."""
        connected = self._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        if connected is None or connected.family not in {socket.AF_INET, socket.AF_INET6}:
            return
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in {**KEEPALIVE, **USER_TIMEOUT}.items():
            option = getattr(socket, name, None)  # not every system has every one
            if option is not None:
                connected.setsockopt(socket.IPPROTO_TCP, option, value)


def session_of(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> Session:
    """Return the connection that the pool has lent as `connection`."""
    session: Session = cast("Any", connection).itself
    return session


async def connect(*args: Any, shared: bool, **kwargs: Any) -> Session:
    """Connect as asyncpg.connect does. A session that is `shared`, or found to be, is used as such."""
    session: Session = await asyncpg.connect(*args, **kwargs)
    try:
        session.notice_lost_peer()
        with suppress_instrumentation():  # the request that opens the connection did not ask this
            if shared or await session.is_shared():
                session.share()
    except BaseException:
        session.terminate()
        raise
    return session
