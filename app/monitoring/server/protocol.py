"""HTTP/1.1 connections of a worker, which can be handed to another worker between two messages."""

import select
from typing import Any

from uvicorn import server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .admission import Admission
from .handover import Queue
from .rejection import LINGER_SECONDS, Rejections, is_discarded, pause_after

# POLLHUP and POLLERR are reported anyway; the close by a client that has read everything is Linux's alone.
CLOSED = getattr(select, "POLLRDHUP", 0)


class ServerState(server.ServerState):
    """The state of a worker's connections.

    `queue` is set while connections are handed over as soon as they are idle, `closing` once each response is to be the
    last on its connection. `admission` is None if requests in flight are not bounded.
    """

    admission: Admission | None = None
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
    rejected = 0
    """Requests in a row that were shed."""
    _in_message = _paused = False

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
        if self.rejected and self.cycle.response_complete and not self.parser.should_upgrade():
            self._end_rejection(self.cycle)
        self._hand_over_soon()

    def on_response_complete(self) -> None:
        """Start the next request of the connection, or hand the connection over."""
        super().on_response_complete()
        self._hand_over_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and the request of it that is queued."""
        if self.server_state.admission is not None:
            self.server_state.admission.drop(self)
        super().connection_lost(exc)

    def is_left(self) -> bool:
        """Return whether the client has closed the connection, also if that has not been read yet."""
        socket = self.transport.get_extra_info("socket")
        poll = select.poll()
        poll.register(socket.fileno(), CLOSED)
        return bool(poll.poll(0))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Start a request, if it is admitted."""
        if self.server_state.admission is None:
            super()._start_asgi_task(cycle, app)
        elif not self.transport.is_closing():
            self._unset_keepalive_if_required()  # a rejection has set it, where requests follow in one segment
            self.server_state.admission.admit(self, cycle, app)

    def reject(self, cycle: Any, rejections: Rejections) -> None:
        """Respond 503 to a request that was not started."""
        self.rejected += 1
        if cycle.more_body and not is_discarded(cycle.scope["headers"]):
            cycle.keep_alive = False
            self.loop.call_later(LINGER_SECONDS, self.transport.close)
        elif self.server_state.closing:
            cycle.keep_alive = False
        head = cycle.scope["method"] == "HEAD"
        self.transport.write(
            rejections.response(self.server_state.default_headers, head=head, keep_alive=cycle.keep_alive)
        )
        cycle.response_started = cycle.response_complete = True
        if not self._paused:
            self.flow.resume_reading()
        if not cycle.more_body:
            self._end_rejection(cycle)
            self._hand_over_soon()

    def _end_rejection(self, cycle: Any) -> None:
        """Go on after a rejected request has been read to its end. One that comes again at once is read more slowly."""
        if not cycle.keep_alive:
            self.transport.close()
        elif self.pipeline:
            self.loop.call_soon(self._start_next)
        else:
            self.start_keep_alive_timer()
            pause = pause_after(self.rejected)
            if pause and not self._paused and self.server_state.queue is None:
                self._paused = True
                self.flow.pause_reading()
                self.loop.call_later(pause, self._resume_reading)

    def _start_next(self) -> None:
        """Start the next request of the pipeline. Not from inside the last one's rejection: they may be many."""
        if self.pipeline and not self.transport.is_closing():
            self._start_asgi_task(*self.pipeline.pop())

    def _resume_reading(self) -> None:
        self._paused = False
        if not self.transport.is_closing():
            self.flow.resume_reading()
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
            and not self.flow.read_paused
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
