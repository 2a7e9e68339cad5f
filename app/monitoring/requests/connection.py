"""A websocket: it has a request's id and context, and one log line. It is no request to the http_* metrics.

The constraint to know: its span is that of the handshake, which is an HTTP request and ends with 101 or a refusal. One
for the whole connection would not be seen before the client has left, be that days later.
"""

import asyncio
import time
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from ..metrics.http import NO_ROUTE, handler_of
from ..traces.lazy_tracer import LazyTracer
from ..traces.request_span import RequestTracer
from .entry import CLIENT_CLOSED_REQUEST, FAILED, Entry, access, cut_short, detach, log_failure, members

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

    async def run(self, app: ASGIApp) -> None:
        """Have `app` handle it."""
        token = self.enter(self._tracer)
        try:
            await app(self._scope, self.receive, self.send)
        except WebSocketDisconnect:
            pass  # the client has gone, and the application had nothing to say to it
        except Exception as error:
            log_failure(error)
            if self._span is not None:
                self._span.fail(error)
            self._code = INTERNAL_ERROR
            raise
        except asyncio.CancelledError as error:
            self._answer(cut_short(error))
            raise
        finally:
            self._answer(FAILED)  # what the server says where nothing was said
            self._line()
            detach(token)

    async def receive(self) -> Message:
        """Pass a message of the client on."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._code = message.get("code", NO_CODE)
            self._answer(CLIENT_CLOSED_REQUEST)
        return message

    async def send(self, message: Message) -> None:
        """Pass a message of the application on; the first one answers the handshake."""
        kind = message["type"]
        if kind in {"websocket.accept", "websocket.http.response.start"}:
            headers = [pair for pair in message.get("headers", ()) if pair[0] != b"x-request-id"]
            message["headers"] = [(b"x-request-id", self.request_id.encode()), *headers]
        await self._send(message)
        if kind == "websocket.accept":
            self._answer(ACCEPTED)
        elif kind == "websocket.http.response.start":
            self._answer(int(message["status"]))
        elif kind == "websocket.close":
            self._code = message.get("code", NORMAL)
            self._answer(REFUSED)

    def _answer(self, status: int) -> None:
        """The handshake has ended with `status`, unless it had ended before."""
        if self._status:
            return
        self._status = status
        if self._tracer is not None and self._span is not None:
            handler = handler_of(self._scope, self._app, status)
            seconds = time.perf_counter() - self._started
            self._tracer.end(self._span, None if handler == NO_ROUTE else handler, status, seconds)

    def _line(self) -> None:
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
