"""Accept connections that other workers hand over, and those in the backlog of a listener that is closed."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from ..logging import get_logger
from .handover import Queue
from .room import Room

# Seconds until a process without free descriptors tries again.
RETRY_SECONDS = 0.1
# Seconds that the TLS handshake of a connection from the backlog may take.
TLS_HANDSHAKE_SECONDS = 2.0
# Connections that are received before the event loop does something else.
MAX_RECEIVED_AT_ONCE = 16
# Errors of one connection of a backlog: it has ended before it was accepted. See accept(2).
_LOST = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
    }
)


class Receiver:
    """Accepts connections of the queue, and of the backlog of listeners, in this worker."""

    def __init__(
        self, queue: Queue, make_protocol: Callable[[], Any], context: ssl.SSLContext | None, room: Room
    ) -> None:
        self._queue, self._make_protocol, self._room = queue, make_protocol, room
        self._tls = {} if context is None else {"ssl": context, "ssl_handshake_timeout": TLS_HANDSHAKE_SECONDS}
        self._loop = asyncio.get_running_loop()
        self._accepting: set[asyncio.Task[None]] = set()
        self._stopped = False

    def start(self) -> None:
        """Receive connections from now on."""
        self._stopped = False
        self._loop.add_reader(self._queue.fileno(), self.receive)

    def receive(self, limit: int | None = MAX_RECEIVED_AT_ONCE) -> None:
        """Accept up to `limit` queued connections; None is all.

        A worker at its limit of connections accepts one at a time, and leaves the others to workers that have room.
        """
        crowded = limit is not None and self._room.at_limit
        try:
            for connection in islice(self._queue.receive(), 1 if crowded else limit):
                self.accept(connection, self._make_transferred)
        except OSError:  # another worker may have a descriptor left
            crowded = True
        if crowded:
            self._loop.remove_reader(self._queue.fileno())
            self._loop.call_later(RETRY_SECONDS, self._retry)

    def _retry(self) -> None:
        if not self._stopped:
            self.start()

    def _make_transferred(self) -> Any:
        protocol = self._make_protocol()
        protocol.transferred = True
        return protocol

    def accept(self, connection: socket.socket, make_protocol: Callable[[], Any] | None = None) -> None:
        """Serve a connection."""
        task = self._loop.create_task(self._accept(connection, make_protocol or self._make_protocol))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _accept(self, connection: socket.socket, make_protocol: Callable[[], Any]) -> None:
        options: dict[str, Any] = self._tls
        try:
            await self._loop.connect_accepted_socket(make_protocol, connection, **options)
        except OSError as error:  # the client has left meanwhile, or its TLS handshake has failed
            get_logger("gunicorn.handover").debug("connection_not_accepted", error=str(error))
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise

    async def stop(self, seconds: float = TLS_HANDSHAKE_SECONDS) -> None:
        """Receive nothing more. Wait up to `seconds` for what was received, then close what is not accepted yet."""
        self._stopped = True
        self._loop.remove_reader(self._queue.fileno())
        if not self._accepting:
            return
        _, late = await asyncio.wait(self._accepting, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


def accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections in the backlog of a listener, until it is empty or no descriptor is left."""
    listener.setblocking(False)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError as error:
            if error.errno in _LOST:
                continue
            return
        connection.setblocking(False)
        yield connection
