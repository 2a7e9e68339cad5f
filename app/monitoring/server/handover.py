"""Hands idle keep-alive connections of a worker that retires to whichever worker serves.

One pair of Unix datagram sockets, made by the master, carries the descriptors (SCM_RIGHTS) of all workers. Invariants:

- A connection belongs to one process: reading stops before its descriptor is sent, and the sender closes its own copy.
- Nothing that was read is passed on: only a connection between two messages is idle.
- What waits in the queue survives every worker, because the master holds its ends.
- Nothing is handed over while the whole service ends.

TLS connections are not handed over, since their session lives in the process: each response announces their close.
"""

import array
import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

# Seconds between attempts to hand over what could not be at once, and until a process without descriptors tries again.
INTERVAL, RETRY = 0.02, 0.1
# Seconds that the TLS handshake of a connection from the backlog may take.
HANDSHAKE = 2.0
# Connections that are handed over, and taken, before the event loop does something else.
MAX_GIVEN, MAX_TAKEN = 64, 16
_DESCRIPTOR = array.array("i").itemsize


class Queue:
    """The sockets between those that retire and those that serve."""

    def __init__(self) -> None:
        self._taking, self._giving = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._taking.setblocking(False)
        self._giving.setblocking(False)

    def fileno(self) -> int:
        """The descriptor that is readable while connections wait."""
        return self._taking.fileno()

    def give(self, connection: socket.socket) -> bool:
        """Pass a copy of the connection on. Return False if the queue is full."""
        try:
            socket.send_fds(self._giving, [b"c"], [connection.fileno()])
        except OSError:  # full, or more descriptors are on their way than the kernel allows
            return False
        return True

    def take(self) -> Iterator[socket.socket]:
        """Yield the connections that wait. Raise OSError if this process has no descriptor left for one."""
        while True:
            # The kernel drops a connection for which the receiver has no descriptor.
            os.close(os.dup(self.fileno()))
            try:
                _, ancillary, _, _ = self._taking.recvmsg(1, socket.CMSG_LEN(_DESCRIPTOR), socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            for _, _, data in ancillary:
                (descriptor,) = array.array("i", data[:_DESCRIPTOR])
                connection = socket.socket(fileno=descriptor)
                connection.setblocking(False)
                yield connection


class State(ServerState):
    """The state of a worker's connections.

    `queue` is set while connections are handed over as soon as they are idle, `closing` once each response is to be the
    last on its connection.
    """

    queue: Queue | None = None
    closing = False

    def close_after_responses(self) -> None:
        """Announce the close of each connection with its next response."""
        self.queue, self.closing = None, True
        for connection in self.connections:
            if isinstance(connection, Protocol) and connection.cycle is not None:
                connection.announce_close()


class Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1 protocol on httptools, which knows whether it is between two messages."""

    server_state: State
    _in_message = False

    def on_message_begin(self) -> None:
        """Note that a message has begun."""
        self._in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start a request; its response announces the close if this worker stops."""
        super().on_headers_complete()
        if self.server_state.closing and self.cycle is not None:
            self.announce_close()

    def on_message_complete(self) -> None:
        """Note that the message has ended."""
        self._in_message = False
        super().on_message_complete()
        self._give_soon()

    def on_response_complete(self) -> None:
        """Go on with the next request of the connection, or hand it over."""
        super().on_response_complete()
        self._give_soon()

    def announce_close(self) -> None:
        """Have the response say that the connection is closed after it, unless its head is sent already."""
        if not self.cycle.response_started:
            self.cycle.keep_alive = False

    @property
    def idle(self) -> bool:
        """Whether nothing of a request or of its response is on its way."""
        return (
            not self._in_message
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
            and not self.transport.is_closing()
            and self.transport.get_write_buffer_size() == 0
        )

    def give(self, queue: Queue) -> bool:
        """Hand an idle connection over. Return False if the queue is full."""
        self.transport.pause_reading()
        if not queue.give(self.transport.get_extra_info("socket")):
            self.transport.resume_reading()
            return False
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self.transport.abort()
        return True

    def _give_soon(self) -> None:
        """Hand the connection over once the parser has returned: it may hold the beginning of another message."""
        if self.server_state.queue is not None:
            self.loop.call_soon(self._give_if_idle)

    def _give_if_idle(self) -> None:
        if self.server_state.queue is not None and self in self.connections and self.idle:
            self.give(self.server_state.queue)

    def await_request(self) -> None:
        """Close the connection if no request comes in the keep-alive time; Uvicorn's does so after a response only."""
        if self.timeout_keep_alive_task is None and self.idle:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def shutdown(self) -> None:
        """Close the connection, after the response to a message of which a part has come."""
        if not self._in_message:
            super().shutdown()


class Receiver:
    """Takes connections from the queue, and from the backlog of listeners, into this worker."""

    def __init__(self, queue: Queue, make_protocol: Callable[[], Any], context: ssl.SSLContext | None) -> None:
        self._queue, self._make_protocol = queue, make_protocol
        self._tls = {} if context is None else {"ssl": context, "ssl_handshake_timeout": HANDSHAKE}
        self._loop = asyncio.get_running_loop()
        self._accepting: set[asyncio.Task[None]] = set()
        self._stopped = False

    def start(self) -> None:
        """Take connections from now on."""
        self._stopped = False
        self._loop.add_reader(self._queue.fileno(), self.take)

    def take(self, most: int | None = MAX_TAKEN) -> None:
        """Take up to `most` connections that wait; None is all."""
        try:
            for connection in islice(self._queue.take(), most):
                self.accept(connection)
        except OSError:  # another worker may have a descriptor left
            self._loop.remove_reader(self._queue.fileno())
            self._loop.call_later(RETRY, self._retry)

    def _retry(self) -> None:
        if not self._stopped:
            self.start()

    def accept(self, connection: socket.socket) -> None:
        """Serve a connection."""
        task = self._loop.create_task(self._accept(connection))
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)

    async def _accept(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):  # the client has left meanwhile
            options: dict[str, Any] = self._tls
            _, protocol = await self._loop.connect_accepted_socket(self._make_protocol, connection, **options)
            if isinstance(protocol, Protocol):
                protocol.await_request()

    async def stop(self) -> None:
        """Take nothing more, and wait for what was taken."""
        self._stopped = True
        self._loop.remove_reader(self._queue.fileno())
        if self._accepting:
            await asyncio.wait(self._accepting)


def accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that wait in the backlog of a listener."""
    listener.setblocking(False)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        yield connection


async def give_all(state: State, queue: Queue, *, until: float, ending: Callable[[], bool]) -> None:
    """Hand over each connection as soon as it is idle, until none is left, `ending()`, or the loop's time `until`.

    Websockets and other upgraded connections stay.
    """
    loop, state.queue = asyncio.get_running_loop(), queue
    try:
        while loop.time() < until and not ending():
            connections = [connection for connection in state.connections if isinstance(connection, Protocol)]
            if not connections:
                return
            idle = [connection for connection in connections if connection.idle]
            full = not all(connection.give(queue) for connection in idle[:MAX_GIVEN])
            await asyncio.sleep(INTERVAL if full or len(idle) <= MAX_GIVEN else 0)
    finally:
        state.queue = None
