"""A websocket connection: a request id, a context and one log line. The http_* metrics do not count it.

Constraint: its span covers the handshake only, an HTTP request that ends with 101 or a refusal. A span of the whole
connection would be exported only after its end, possibly days later.
"""

import asyncio
import re
import time
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from ..metrics.http import NO_ROUTE, handler_of
from ..traces.lazy_tracer import LazyTracer
from ..traces.request_span import RequestTracer
from .entry import CLIENT_CLOSED_REQUEST, FAILED, Entry, access, cancelled_status, detach, log_failure, members

ACCEPTED = int(HTTPStatus.SWITCHING_PROTOCOLS)
REFUSED = int(HTTPStatus.FORBIDDEN)
NORMAL, NO_CODE, INTERNAL_ERROR = 1000, 1005, 1011


class Connection(Entry):
    """One websocket, from its handshake to its end."""

    __slots__ = ("_code", "_started", "_status", "_tracer")

    def __init__(self, tracer: RequestTracer | LazyTracer | None, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(scope, receive, send)
        self._started = time.perf_counter()
        self._tracer = tracer
        self._status = 0
        self._code: int | None = None

    async def run(self, app: ASGIApp, id_pattern: re.Pattern[str] | None = None) -> None:
        """Run `app`, and account for the connection."""
        token = self.enter(self._tracer, id_pattern)
        try:
            await app(self._scope, self.receive, self.send)
        except WebSocketDisconnect:
            pass  # the client has disconnected
        except Exception as error:
            log_failure(error)
            if self._span is not None:
                self._span.fail(error)
            self._code = INTERNAL_ERROR
            raise
        except asyncio.CancelledError as error:
            self._end_handshake(cancelled_status(error))
            raise
        finally:
            self._end_handshake(FAILED)  # the server's response if the application sent none
            self._log()
            detach(token)

    async def receive(self) -> Message:
        """Forward a message of the client."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._code = message.get("code", NO_CODE)
            self._end_handshake(CLIENT_CLOSED_REQUEST)
        return message

    async def send(self, message: Message) -> None:
        """Forward a message of the application; the first one ends the handshake."""
        kind = message["type"]
        if kind in {"websocket.accept", "websocket.http.response.start"}:
            headers = [pair for pair in message.get("headers", ()) if pair[0] != b"x-request-id"]
            message["headers"] = [(b"x-request-id", self.request_id.encode()), *headers]
        await self._send(message)
        if kind == "websocket.accept":
            self._end_handshake(ACCEPTED)
        elif kind == "websocket.http.response.start":
            self._end_handshake(int(message["status"]))
        elif kind == "websocket.close":
            self._code = message.get("code", NORMAL)
            self._end_handshake(REFUSED)

    def _end_handshake(self, status: int) -> None:
        """End the handshake's span with `status`, unless it has ended."""
        if self._status:
            return
        self._status = status
        if self._tracer is not None and self._span is not None:
            handler = handler_of(self._scope, self._app, status)
            seconds = time.perf_counter() - self._started
            self._tracer.end(self._span, None if handler == NO_ROUTE else handler, status, seconds)

    def _log(self) -> None:
        fields = {
            "request_id": self.request_id,
            "route": handler_of(self._scope, self._app, self._status),
            "status": self._status,
            "code": self._code,
            "duration_ms": round((time.perf_counter() - self._started) * 1000, 2),
            "client_ip": self.client(),
        }
        if self._span is not None:
            fields |= self._span.labels()
        access.info("websocket", members, fields, plain=self.plain())
