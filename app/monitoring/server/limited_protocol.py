"""HTTP/1.1 on httptools with limits.

Uvicorn's protocol bounds neither the bytes nor the time of a request, keeps a timer for each, and loses the body of a
request that offers an upgrade.
"""

import asyncio
from typing import Any, Final

import httptools
from uvicorn import server
from uvicorn._types import ASGI3Application
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, service_unavailable

from ..addresses import normalised_host
from ..metrics.catalogue import catalogue
from . import limits
from .connection import BODY, HEAD, IDLE, REFUSED, Connection
from .flow import MAX_PIPELINED, PIECE_BYTES, Flow
from .limits import Refusal, RefusedError
from .request_head import OLD_VERSIONS, check_size, checked_fields, split_target, without_upgrade
from .response_cycle import ResponseCycle

# Seconds in which a refused client's bytes are read once the response is sent: an immediate close would reset the
# connection before the client has it.
LINGER_SECONDS = 2
_CONNECT: Final = b"CONNECT"


class LimitedProtocol(Connection):
    """Uvicorn's protocol with limits, and without timers of its own: a Sweeper calls `sweep`."""

    _reserved = _upgrades = False
    _last_words: bytes | None = None
    _body_length: bytes | None = None
    """The value of Content-Length of the last request with a body, None if that is chunked."""
    _current: Any = None
    """The cycle of the request that is handled, queued, or was last."""
    _stalled_since = 0
    """The clock's value when the client has last read something, while something is unsent."""
    _unsent = 0
    """The bytes of responses that were unsent at the last sweep."""
    # Bytes since the last piece of a body; bytes of the body; seconds in which the body was waited for.
    _unparsed = _body_bytes = _body_waited = 0

    def __init__(
        self, config: Config, server_state: server.ServerState, app_state: dict[str, Any], _loop: Any = None
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        bounds = self.server_state.limits
        self._max_header_bytes, self._max_header_fields = bounds.max_header_bytes, bounds.max_header_fields
        self._piece_bytes = min(PIECE_BYTES, bounds.max_header_bytes)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the connection, if the worker has room for it."""
        super().connection_made(transport)
        if self.client is not None and ":" in self.client[0]:
            self.client = (normalised_host(self.client[0]), self.client[1])
        self.flow = Flow(transport, self.pipeline)
        self.since = self.server_state.clock
        self.order = self.server_state.room.next_order()
        self._reserved = not self.server_state.room.admits(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection, also for a request with others behind it in the pipeline."""
        super().connection_lost(exc)
        if self._current is not None and not self._current.response_complete:
            self._abandon(self._current)
        self.pipeline.clear()
        self.flow.unparsed = b""
        self.server_state.room.connection_ended()

    def data_received(self, data: bytes) -> None:
        """Parse bytes, in pieces, so that a large head is refused early and the pipeline is bounded."""
        flow = self.flow
        if len(data) <= self._piece_bytes and not flow.unparsed and not flow.held:
            self._parse(data)
            return
        flow.unparsed = memoryview(bytes(flow.unparsed) + data if flow.unparsed else data)
        if not flow.held:
            self._parse_rest()
        elif len(flow.unparsed) > self._piece_bytes:
            flow.pause_reading()

    def _parse_rest(self) -> None:
        """Parse what was read, until MAX_PIPELINED requests wait."""
        flow = self.flow
        while flow.unparsed and len(self.pipeline) < MAX_PIPELINED and not self.transport.is_closing():
            size = self._piece_bytes
            if self._stage == BODY and self._body_length is not None:
                size = max(size, int(self._body_length) - self._body_bytes)
            piece, flow.unparsed = flow.unparsed[:size], flow.unparsed[size:]
            self._parse(piece)

    def _parse_on(self) -> None:
        self._parse_rest()
        if not self.flow.unparsed and not self.transport.is_closing():
            self._read_on()

    def _read_on(self) -> None:
        """Read on, unless requests wait or the application has to read the body first. Parse the rest before."""
        if self.flow.unparsed:
            self.loop.call_soon(self._parse_on)
        elif self._stage != BODY or self.cycle.response_complete or len(self.cycle.body) <= HIGH_WATER_LIMIT:
            self.flow.resume_reading()

    def _parse(self, data: bytes | memoryview) -> None:
        if self._stage == REFUSED:
            return
        self._unparsed += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if self._stage != REFUSED:
                cause = error.__context__
                self.refuse(cause.refusal if isinstance(cause, RefusedError) else limits.MALFORMED)
            return
        if self._unparsed > self._max_header_bytes and self._stage != REFUSED:  # a head, or the end of a chunked body
            self.refuse(limits.HEADER_BYTES)

    def _feed(self, data: bytes | memoryview) -> None:
        """Feed the parser. It stops after an offer to upgrade: a new parser gets the head without it, and the body."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._upgrades:
                    self.handle_websocket_upgrade()
                    self._stage = REFUSED
                    return
                head = without_upgrade(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                data = head + bytes(data[upgrade.args[0] :])
            else:
                return

    def on_message_begin(self) -> None:
        """Note that a message has begun."""
        if self._stage == REFUSED:  # behind a request that was rejected
            raise RefusedError(limits.MALFORMED)
        self._stage = HEAD
        self.since = self.server_state.clock
        self.url = b""
        self.scope = None  # type: ignore[assignment]
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a line of the head. Lines of a trailer go to a separate list that is discarded."""
        headers = self.headers
        if len(headers) >= self._max_header_fields:
            raise RefusedError(limits.HEADER_FIELDS)
        headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Start a request; its response announces the close if this worker stops."""
        parser, headers = self.parser, self.headers
        method, version = parser.get_method(), parser.get_http_version()
        self._make_scope(method.decode("ascii"), version)
        # Of the piece in which the message before has ended, nothing is counted.
        if self._unparsed > self._max_header_bytes - self._piece_bytes:
            check_size(self.url, headers, self._max_header_bytes)
        if parser.should_upgrade():
            if method == _CONNECT:
                raise RefusedError(limits.NOT_IMPLEMENTED)
            # Not behind a request that is not answered: the websocket would get its response.
            free = self.cycle is None or self.cycle.response_complete
            self._upgrades = method == b"GET" and version == "1.1" and free and self._should_upgrade()
            if not self._upgrades:
                return
        fields = checked_fields(headers, version)
        scope = self.scope
        path, raw_path, scope["query_string"] = split_target(self.url)
        application = self._application(path)
        if self._upgrades:
            return
        scope["path"] = self.root_path + path
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path if self.root_path else raw_path
        before = self.cycle
        self.cycle = cycle = ResponseCycle(
            self,
            expects_continue=fields.get(b"expect", b"").lower() == b"100-continue",
            keep_alive=version not in OLD_VERSIONS
            and not self._reserved
            and not self.server_state.closing
            and parser.should_keep_alive(),
        )
        if b"content-length" in fields or b"transfer-encoding" in fields:
            cycle.has_body = True
            self._body_length = fields.get(b"content-length")
        self._stage = BODY
        self._unparsed = self._body_bytes = self._body_waited = 0
        self.headers = []
        if (before is None or before.response_complete) and not self.flow.held:
            self._start_asgi_task(cycle, application)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, application))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._current = cycle
        super()._start_asgi_task(cycle, app)

    def _make_scope(self, method: str, version: str) -> None:
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": method,
            "scheme": self.scheme or "http",
            "path": "",
            "raw_path": b"",
            "query_string": b"",
            "root_path": self.root_path,
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
            "state": self.app_state.copy(),
        }

    def _application(self, path: str) -> ASGI3Application:
        """Return the application that answers. Raise RefusedError if the worker has no room for this connection."""
        state, limit = self.server_state, self.limit_concurrency
        if self._reserved:
            self._reserved = state.room.full and not state.room.evict(self)
            if self._reserved and not state.limits.exempts(path):
                raise RefusedError(limits.NO_ROOM)
        if limit is not None and (len(self.connections) >= limit or len(self.tasks) >= limit):
            self.logger.warning("Exceeded concurrency limit.")
            return service_unavailable
        app: ASGI3Application = self.app
        return app

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body to the request, unless it has been answered."""
        self._unparsed = 0
        self.since = self.server_state.clock
        self._body_bytes += len(body)
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self._pause_body()
        cycle.message_event.set()

    def _pause_body(self) -> None:
        """Read no more of the body until the application asks for it."""
        self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """Note that the message has ended."""
        if self._stage != BODY:  # it has an upgrade
            return
        self._stage = IDLE
        self._unparsed = 0
        cycle = self.cycle
        if cycle.response_complete:
            self.since = self.server_state.clock
        else:
            cycle.more_body = False
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Start the next request of the connection, or wait for one."""
        state = self.server_state
        state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_words is not None:
            self._respond_and_close(self._last_words)
        elif self._stage == IDLE:
            self.since = state.clock
        if self.flow.read_paused:
            self._read_on()

    def refuse(self, refusal: Refusal) -> None:
        """Read no more of the message; send the response after those of the messages before, and close."""
        stage, self._stage = self._stage, REFUSED
        self.flow.unparsed = b""
        catalogue().connections_rejected.labels(refusal.reason).inc()
        to_head = stage != IDLE and self.scope is not None and self.scope["method"] == "HEAD"
        response = refusal.response(self.server_state.default_headers, head=to_head)
        cycle = self.cycle
        if stage == BODY and self.pipeline:
            self.pipeline.popleft()
            self._last_words = response
        elif stage == BODY and (cycle.response_started or cycle.disconnected):
            self.transport.close()
        elif stage != BODY and cycle is not None and not cycle.response_complete:
            self._last_words = response
        else:
            if stage == BODY:
                self._abandon(cycle)
            self._respond_and_close(response)

    def _abandon(self, cycle: Any) -> None:
        """Send the application a disconnect: the protocol has answered its request."""
        cycle.disconnected = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()

    def _respond_and_close(self, response: bytes) -> None:
        """Send a last response, then discard what the client sends."""
        self._last_words = None
        self.transport.write(response)
        self._discard()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _discard(self) -> None:
        """Discard what the client sends. `sweep` closes the connection LINGER_SECONDS after everything was sent."""
        self._stage = REFUSED
        self.since = self.server_state.clock
        self.flow.held, self.flow.unparsed = False, b""
        self.flow.resume_reading()

    def sweep(self) -> None:
        """Close the connection if it is overdue."""
        clock, cycle = self.server_state.clock, self.cycle
        age = clock - self.since
        if self._is_stalled():
            catalogue().connections_rejected.labels(limits.UNREAD).inc()
            self.transport.abort()
        elif self.transport.is_closing():
            return
        elif self._stage in {HEAD, BODY}:
            self._sweep_message(age)
        elif self._stage == REFUSED:
            if self._unsent:
                self.since = clock  # the responses before are not sent yet
            elif age > LINGER_SECONDS and self._last_words is None:
                self.transport.abort()
        elif self._unsent:
            self.since = clock  # the client has not read the last response
        elif age > self.timeout_keep_alive and (cycle is None or cycle.response_complete):
            self.transport.close()

    def _sweep_message(self, age: int) -> None:
        bounds, cycle = self.server_state.limits, self.cycle
        if self.flow.read_paused or (self._stage == BODY and cycle.waiting_for_100_continue):
            self.since = self.server_state.clock  # the application does not read, or a request before is not answered
        elif self._stage == HEAD:
            if age > bounds.header_timeout:
                self.refuse(limits.HEADER_TIMEOUT)
        else:
            self._body_waited += 1
            allowed = bounds.body_timeout + self._body_bytes / bounds.min_body_rate
            if age > bounds.body_timeout or self._body_waited > allowed:
                self.refuse(limits.BODY_TIMEOUT)

    def _is_stalled(self) -> bool:
        """Return whether the client has read nothing of what is unsent for `body_timeout` seconds."""
        unsent, clock = self.unsent, self.server_state.clock
        before, self._unsent = self._unsent, unsent
        # The application fills the buffer again unless writing is paused, so a size that grows is progress too.
        moved = unsent < before or (unsent != before and not self.flow.write_paused)
        if moved or not before or not unsent:
            self._stalled_since = clock
        return clock - self._stalled_since > self.server_state.limits.body_timeout
