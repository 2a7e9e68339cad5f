"""HTTP/1.1 connections of a worker, which can be handed to another worker between two messages."""

from typing import Any

from uvicorn import server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .handover import Queue


class ServerState(server.ServerState):
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
    """Uvicorn's HTTP/1.1 protocol on httptools, with the knowledge of whether it is between two messages."""

    server_state: ServerState
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
        self._hand_over_soon()

    def on_response_complete(self) -> None:
        """Start the next request of the connection, or hand the connection over."""
        super().on_response_complete()
        self._hand_over_soon()

    def announce_close(self) -> None:
        """Send `Connection: close` with the response, unless its head has been sent."""
        if not self.cycle.response_started:
            self.cycle.keep_alive = False

    @property
    def idle(self) -> bool:
        """Whether no part of a request has been read and no part of a response is unsent."""
        return (
            not self._in_message
            and (self.cycle is None or self.cycle.response_complete)
            and not self.pipeline
            and not self.transport.is_closing()
            and self.transport.get_write_buffer_size() == 0
        )

    def hand_over(self, queue: Queue) -> bool:
        """Hand an idle connection over. Return False if the queue is full."""
        self.transport.pause_reading()
        if not queue.send(self.transport.get_extra_info("socket")):
            self.transport.resume_reading()
            return False
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        self.transport.abort()
        return True

    def _hand_over_soon(self) -> None:
        """Hand the connection over once the parser has returned: it may hold the beginning of another message."""
        if self.server_state.queue is not None:
            self.loop.call_soon(self._hand_over_if_idle)

    def _hand_over_if_idle(self) -> None:
        if self.server_state.queue is not None and self in self.connections and self.idle:
            self.hand_over(self.server_state.queue)

    def start_keep_alive_timer(self) -> None:
        """Close the connection if no request comes in the keep-alive time; Uvicorn does so after a response only."""
        if self.timeout_keep_alive_task is None and self.idle:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def shutdown(self) -> None:
        """Close the connection, after the response to a message of which a part has been read."""
        if not self._in_message:
            super().shutdown()


def is_transferable(protocol: Any, *, encrypted: bool) -> bool:
    """Return whether connections of a protocol class can be handed over."""
    return not encrypted and isinstance(protocol, type) and issubclass(protocol, Protocol)
