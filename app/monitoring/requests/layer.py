"""The middleware that observes requests: id, trace and log context at the start, metrics and log line at the last byte.

Pure ASGI, around the whole application, where placement.py installs it. docs/requests.md has a rule for every way a
request can end.
"""

import asyncio
import time
from contextlib import suppress
from contextvars import copy_context

import orjson
from opentelemetry import trace
from prometheus_fastapi_instrumentator.metrics import Info
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..metrics.http import METHODS, NO_ROUTE, UNKNOWN_METHOD, HttpMetrics, handler_of, known_method
from ..overload import release_slot
from ..redaction import sanitised_address
from ..traces.lazy_tracer import LazyTracer, MakeTracer
from ..traces.request_span import RequestTracer
from .connection import Connection
from .entry import (
    CLIENT_CLOSED_REQUEST,
    FAILED,
    Entry,
    access,
    cancelled_status,
    detach,
    log,
    log_failure,
    quoted,
    size,
)
from .request_ids import compiled
from .slot import WAITED


def problem(request_id: str) -> Response:
    """Return the response to an exception that the application does not handle (RFC 9457)."""
    content = {"type": "about:blank", "title": "Internal Server Error", "status": FAILED, "request_id": request_id}
    return Response(orjson.dumps(content), FAILED, media_type="application/problem+json")


class ObservingMiddleware:
    """Set X-Request-ID, and record each request in metrics, traces and one log line.

    `metrics`, `tracer` and `request_id_pattern`, a further form of callers' ids, are optional. A callable `tracer` is
    called once, at the lifespan's start or the first request, so an app that is created before the fork gets the tracer
    of its worker. With `traced_elsewhere`, ids are those of the span that is current when the response starts. The
    layer must be the outermost: it responds to exceptions that reach it before a response has started.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: HttpMetrics | None = None,
        tracer: RequestTracer | MakeTracer | None = None,
        traced_elsewhere: bool = False,
        request_id_pattern: str | None = None,
    ) -> None:
        self.app = app
        self.id_pattern = compiled(request_id_pattern)
        self.metrics = metrics
        self.tracer: RequestTracer | LazyTracer | None = (
            LazyTracer(tracer, self._set_tracer) if callable(tracer) else tracer
        )
        self.traced_elsewhere = traced_elsewhere

    def _set_tracer(self, tracer: RequestTracer | None) -> None:
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "peer" in scope:  # an outer layer observes this request
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await Connection(self.tracer, scope, receive, send).run(self.app, self.id_pattern)
            return
        if scope["type"] != "http":
            if isinstance(self.tracer, LazyTracer):
                self.tracer.resolve()
            await self.app(scope, receive, send)
            return
        watched = self.metrics is not None and self.metrics.instrumentations
        exchange = (_WatchedExchange if watched else _Exchange)(self, scope, receive, send)
        token = exchange.enter(self.tracer, self.id_pattern)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if not await exchange.fail(error):
                raise  # as Starlette does: for Sentry and test clients, and to abort a partial response
        except asyncio.CancelledError as error:
            exchange.leave(cancelled_status(error))
            raise
        finally:
            # Without a complete response the server fails the request, unless it has been accounted for.
            exchange.finish(exchange.status if exchange.complete else FAILED)
            detach(token)


class _Exchange(Entry):
    """One request and its response."""

    __slots__ = (
        "_done",
        "_ended",
        "_gone",
        "_ids",
        "_layer",
        "_sent",
        "_started",
        "_trailers",
        "_whole",
        "complete",
        "status",
    )

    def __init__(self, layer: ObservingMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        # The time in the queue belongs to the duration.
        self._started = time.perf_counter() - scope.get(WAITED, 0.0)
        self._layer = layer
        self._scope, self._receive, self._send = scope, receive, send
        self._app = scope.get("router") or scope.get("app")
        self._span = None
        self._received = self.status = self._sent = 0
        self._ended = 0.0
        self._ids: dict[str, str] | None = None
        self.complete = self._trailers = self._gone = self._done = self._whole = False

    async def receive(self) -> Message:
        """Forward a message of the request. A disconnect ends it."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.leave()
        return message

    async def send(self, message: Message) -> None:
        """Forward a message of the response. The last one ends the request.

        A response of one part is counted before it is handed over: a client that has it never finds it uncounted, and
        a worker that is killed right after it loses nothing. The last part of a stream is handed over when the client
        has read what is before it, which belongs to the duration. A part of another length than announced is refused
        by the server.
        """
        kind = message["type"]
        last = kind == "http.response.body" and not message.get("more_body")
        if kind == "http.response.start":
            self._begin(message)
        elif last and self._whole and self.status < FAILED and len(message.get("body", b"")) == self._sent:
            self.complete = True
            self.finish(self.status)
        try:
            await self._send(message)
        except OSError:  # a disconnected client, from ASGI 2.4 on
            self._gone = True
            self.leave()
            raise
        if last:
            self.complete = True
            if self.status >= FAILED:
                # Starlette raises an exception after it has responded to it: wait for it, but stop the clock.
                self._ended = time.perf_counter()
            elif not self._trailers:
                self.finish(self.status)
        elif kind == "http.response.body":
            self._whole = False
        elif kind == "http.response.pathsend" or (
            kind == "http.response.trailers" and not message.get("more_trailers")
        ):
            self.finish(self.status)

    def _begin(self, message: Message) -> None:
        """Record status and size of the response, and set its X-Request-ID header."""
        headers = [(b"x-request-id", self.request_id.encode())]
        headers += message.get("headers", ())
        for name, value in headers[1:]:
            if name == b"content-length":
                self._sent = size(value)
            elif name == b"content-type" and value.startswith(b"text/event-stream"):
                release_slot(self._scope)  # it lasts, and mostly waits
            elif name == b"x-request-id":
                headers = headers[:1] + [pair for pair in headers if pair[0] != name]
        message["headers"] = headers
        self.status = int(message["status"])
        self._trailers = message.get("trailers", False)
        # Until a first part says that more will follow.
        self._whole = not self._trailers and not (self._span is not None and self._span.ends_with_response)
        if self._layer.traced_elsewhere:
            self._ids = _current_ids()

    def leave(self, status: int = CLIENT_CLOSED_REQUEST) -> None:
        """End a request that was disconnected or cancelled. A status of 500 or more that was sent is kept."""
        if not self._done:
            self._gone = True
            if not self._ended:
                self.finish(self.status if self.status >= FAILED else status)

    async def fail(self, error: Exception) -> bool:
        """Handle an exception of the application. Return True if it is only the client's disconnect."""
        if self._gone and isinstance(error, ClientDisconnect | OSError):
            return True
        log_failure(error, **(self._ids or {}))
        if self._done:
            return False  # a background task failed, or the client has disconnected
        if self._span is not None:
            self._span.fail(error)
        if self.status:
            self.finish(self.status if self.complete else FAILED)
            return False
        with suppress(OSError):
            await problem(self.request_id)(self._scope, self._receive, self.send)
        return False

    def finish(self, status: int) -> str | None:
        """Count, log and trace the request as ended with `status`. Return its handler, or None on a second call."""
        if self._done:
            return None
        self._done = True
        seconds = (self._ended or time.perf_counter()) - self._started
        scope, layer, span = self._scope, self._layer, self._span
        handler = handler_of(scope, self._app, status)
        exemplar, trace_id, span_id = None, "", ""
        if layer.tracer is not None and span is not None:
            trace_id, span_id = span.trace_id, span.span_id
            if layer.tracer.end(span, None if handler == NO_ROUTE else handler, status, seconds):
                exemplar = span.labels()
        elif self._ids is not None:
            exemplar, trace_id, span_id = self._ids, self._ids["trace_id"], self._ids["span_id"]
        method = scope["method"]
        if method not in METHODS:
            method = UNKNOWN_METHOD
        if layer.metrics is not None:
            layer.metrics.record(method, status, handler, seconds, self._received, self._sent, exemplar)
        client = scope.get("client")
        access.info(
            "request",
            _members,
            # Strings and numbers only: an entry that waits in the batch must not keep the request alive.
            (self.request_id, method, handler, status, seconds, client[0] if client else None, trace_id, span_id),
            plain=len(copy_context()) == self._variables or self.plain(),
        )
        return handler


class _WatchedExchange(_Exchange):
    """An exchange that also calls the functions added to the Instrumentator, with the library's `Info`."""

    __slots__ = ("_begun", "_headers")

    def __init__(self, layer: ObservingMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        super().__init__(layer, scope, receive, send)
        self._headers: list[tuple[bytes, bytes]] = []
        self._begun = 0.0

    def _begin(self, message: Message) -> None:
        self._begun = time.perf_counter()
        super()._begin(message)
        self._headers = message["headers"]

    def finish(self, status: int) -> str | None:
        """Account for the request, then call each added function."""
        seconds = (self._ended or time.perf_counter()) - self._started
        handler = super().finish(status)
        metrics = self._layer.metrics
        if handler is None or metrics is None or not metrics.counts(handler):
            return handler
        info = Info(
            request=Request(self._scope),
            response=Response(headers=Headers(raw=self._headers), status_code=status),
            method=known_method(self._scope["method"]),
            modified_handler=handler,
            modified_status=metrics.label(status),
            modified_duration=seconds,
            modified_duration_without_streaming=max(self._begun - self._started, 0.0),
        )
        for function in metrics.instrumentations:
            try:
                function(info)
            except Exception:  # noqa: BLE001 -- the request is counted, and its response stands
                log.exception("instrumentation_failed", function=getattr(function, "__qualname__", repr(function)))
        return handler


def _current_ids() -> dict[str, str] | None:
    """Return the ids of the current span if it is sampled."""
    context = trace.get_current_span().get_span_context()
    if not context.trace_flags.sampled:
        return None
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def _members(values: tuple[str, str, str, int, float, str | None, str, str]) -> str:
    """Return the fields of a request's line as JSON. Ids and networks need no escapes."""
    request_id, method, handler, status, seconds, client, trace_id, span_id = values
    line = (
        f'"request_id":"{request_id}","method":"{method}","route":{quoted(handler)},"status":{status},'
        f'"duration_ms":{round(seconds * 1000, 2)},"client_ip":"{sanitised_address(client)}"'
    )
    return f'{line},"trace_id":"{trace_id}","span_id":"{span_id}"' if trace_id else line
