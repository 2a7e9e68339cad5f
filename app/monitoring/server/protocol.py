"""HTTP/1.1 connections of a worker: admitted requests, limits, and the handover to another worker."""

import select
from typing import Any

from .connection import BODY, IDLE
from .handover import Queue
from .limited_protocol import LimitedProtocol
from .rejection import Rejections, pause_after

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# POLLHUP and POLLERR are always reported. Only Linux has POLLRDHUP, for a client that has shut down its writing side.
_RESET = 0
_CLOSED = getattr(select, "POLLRDHUP", 0)


class Protocol(LimitedProtocol):
    """A connection whose requests are admitted, and which is handed over between two messages."""

    rejected = 0
    """Requests in a row that were shed."""
    _unadmitted: Any = None
    """The application of the request whose body is awaited before it is admitted."""
    _pauses = _completing = _closes = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and the request of it that is queued."""
        self._drop_queued()
        super().connection_lost(exc)

    def on_message_complete(self) -> None:
        """Note that the message has ended."""
        if self._stage != BODY:  # it has an upgrade
            return
        super().on_message_complete()
        if self._unadmitted is not None:
            self._admit_awaited()
        elif self.rejected and self.cycle.response_complete:
            self._end_rejection(self.cycle)
        if self._closes and self.cycle.response_complete:
            self.transport.close()
        self._hand_over_soon()

    def on_response_complete(self) -> None:
        """Start the next request of the connection, or hand the connection over."""
        self._completing = True
        super().on_response_complete()
        self._completing = False
        self._hand_over_soon()

    def announce_close(self) -> None:
        """Send `Connection: close` with the response, unless its head has been made."""
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def hand_over(self, queue: Queue) -> bool:
        """Hand an idle connection over. Return False if the queue is full."""
        self.transport.pause_reading()
        if not queue.send(self.transport.get_extra_info("socket")):
            self.transport.resume_reading()
            return False
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

    def shutdown(self) -> None:
        """Close the connection, after the response to a message of which a part has been read."""
        if self._stage == IDLE and not self.flow.unparsed:
            super().shutdown()
        else:
            self._closes = True
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.keep_alive = False

    def is_left(self) -> bool:
        """Return whether the client has closed the connection, also if that has not been read yet."""
        return self.transport.is_closing() or self._polls(_CLOSED)

    def _polls(self, events: int) -> bool:
        """Return whether the kernel reports a reset or one of `events`."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), events)
        return bool(poll.poll(0))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """Start a request, if it is admitted.

        The first of a connection that its client has reset meanwhile is dropped: many of them would keep a worker busy
        with responses that nobody reads. Later ones are not checked, which would cost each a system call.
        """
        if self._current is None and self._polls(_RESET):
            self.transport.abort()
        elif self.server_state.admission is None:
            super()._start_asgi_task(cycle, app)
        elif self._completing:
            # The task of the request before it ends, and releases its slot, within the next round of the event loop.
            self.loop.call_soon(self.loop.call_soon, self._admit, cycle, app)
        else:
            self._admit(cycle, app)

    def _admit(self, cycle: Any, app: Any) -> None:
        gone = cycle.disconnected or self.transport.is_closing()  # or refused meanwhile
        if self.server_state.admission is not None and not gone:
            self._current = cycle
            self.server_state.admission.admit(self, cycle, app)

    def await_body(self, cycle: Any, app: Any) -> None:
        """Admit the request of a cycle once its body has come."""
        self._unadmitted = app
        if cycle.waiting_for_100_continue:
            cycle.waiting_for_100_continue = False
            self.transport.write(CONTINUE)

    def _admit_awaited(self) -> None:
        app, self._unadmitted = self._unadmitted, None
        self._admit(self.cycle, app)

    def _pause_body(self) -> None:
        super()._pause_body()
        if self._unadmitted is not None:
            self._admit_awaited()

    def reject(self, cycle: Any, rejections: Rejections) -> None:
        """Respond 503 to a request that was not started."""
        self.rejected += 1
        lacks_body = cycle.has_body and cycle.more_body
        if lacks_body or self.server_state.closing:
            cycle.keep_alive = False
        head = cycle.scope["method"] == "HEAD"
        self.transport.write(
            rejections.response(self.server_state.default_headers, head=head, keep_alive=cycle.keep_alive)
        )
        cycle.response_started = cycle.response_complete = True
        if lacks_body:
            self._discard()
            return
        self._read_on()
        if not cycle.more_body:
            self._end_rejection(cycle)
            self._hand_over_soon()

    def _end_rejection(self, cycle: Any) -> None:
        """Go on after a rejected request was read to its end, later if it is not the first or writing is paused."""
        if not cycle.keep_alive:
            self.transport.close()
            return
        if self._stage == IDLE:
            self.since = self.server_state.clock
        admission, pause = self.server_state.admission, 0.0
        if admission is not None and self.server_state.queue is None:
            pause = pause_after(self.rejected, max(admission.shed_lately, admission.shed_now))
        if pause or self.flow.write_paused:
            self.flow.held = True
            if pause and admission is not None:
                self._pauses = True
                admission.pauses.add(self.end_pause, pause)
        elif self.pipeline or self._last_words is not None:
            self.loop.call_soon(self._start_next)

    def end_pause(self) -> None:
        """Go on after a pause."""
        self._pauses = False
        self._release()

    def resume_writing(self) -> None:
        """Go on with what waits for the client to read."""
        super().resume_writing()
        self._release()

    def _release(self) -> None:
        """Start what was held after rejections."""
        if self.flow.held and not self._pauses and not self.flow.write_paused:
            self.flow.held = False
            self._start_next()

    def _start_next(self) -> None:
        """Go on after a rejection. Called by the event loop, so that many rejections do not recurse."""
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words is not None:
            self._respond_and_close(self._last_words)
        if self.flow.unparsed and not self.flow.held:
            self._parse_on()
        else:
            self._read_on()
        self._hand_over_soon()

    def _abandon(self, cycle: Any) -> None:
        super()._abandon(cycle)
        self._drop_queued()

    def _drop_queued(self) -> None:
        self._unadmitted = None
        if self.server_state.admission is not None:
            self.server_state.admission.drop(self)


def is_transferable(protocol: Any, *, encrypted: bool) -> bool:
    """Return whether connections of a protocol class can be handed over."""
    return not encrypted and isinstance(protocol, type) and issubclass(protocol, Protocol)
