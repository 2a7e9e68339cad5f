"""The one layer around a request: its id, its trace, its log context; at its last byte its metrics and its log line.

Pure ASGI, entered once and left once, around the whole application: placement.py puts it there. docs/requests.md has a
rule for every way a request can end.
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
from ..redaction import sanitised_address
from ..traces.lazy_tracer import LazyTracer, MakeTracer
from ..traces.request_span import RequestTracer
from .connection import Connection
from .entry import (
    CLIENT_CLOSED_REQUEST,
    FAILED,
    Entry,
    access,
    cut_short,
    detach,
    log,
    log_failure,
    quoted,
    size,
)


def problem(request_id: str) -> Response:
    """Return the answer to an exception that the application does not handle (RFC 9457)."""
    content = {"type": "about:blank", "title": "Internal Server Error", "status": FAILED, "request_id": request_id}
    return Response(orjson.dumps(content), FAILED, media_type="application/problem+json")


class ObservingMiddleware:
    """Answer X-Request-ID, and account for each request in metrics, traces and one log line.

    `metrics` and `tracer` may be left out. A callable `tracer` is called once, at the lifespan's start or the first
    request, so an app that is made before the fork gets the tracer of its worker. With `traced_elsewhere`, ids are
    those of the span that is current when the answer begins. The layer must be the outermost: it answers exceptions
    that reach it before an answer has begun.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: HttpMetrics | None = None,
        tracer: RequestTracer | MakeTracer | None = None,
        traced_elsewhere: bool = False,
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.tracer: RequestTracer | LazyTracer | None = LazyTracer(tracer, self._use) if callable(tracer) else tracer
        self.traced_elsewhere = traced_elsewhere

    def _use(self, tracer: RequestTracer | None) -> None:
        self.tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "peer" in scope:  # a layer further out has this request already
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await Connection(self.tracer, scope, receive, send).run(self.app)
            return
        if scope["type"] != "http":
            if isinstance(self.tracer, LazyTracer):
                self.tracer.resolve()
            await self.app(scope, receive, send)
            return
        watched = self.metrics is not None and self.metrics.instrumentations
        exchange = (_WatchedExchange if watched else _Exchange)(self, scope, receive, send)
        token = exchange.enter(self.tracer)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if not await exchange.fail(error):
                raise  # as Starlette does: for Sentry and test clients, and half an answer must be cut off
        except asyncio.CancelledError as error:
            exchange.leave(cut_short(error))
            raise
        finally:
            # Without a whole answer the server fails the request, if nothing has been said of it by now.
            exchange.finish(exchange.status if exchange.whole else FAILED)
            detach(token)


class _Exchange(Entry):
    """One request and its answer."""

    __slots__ = ("_done", "_ended", "_gone", "_ids", "_layer", "_sent", "_started", "_trailers", "status", "whole")

    def __init__(self, layer: ObservingMiddleware, scope: Scope, receive: Receive, send: Send) -> None:
        self._started = time.perf_counter()
        self._layer = layer
        self._scope, self._receive, self._send = scope, receive, send
        self._app = scope.get("router") or scope.get("app")
        self._span = None
        self._received = self.status = self._sent = 0
        self._ended = 0.0
        self._ids: dict[str, str] | None = None
        self.whole = self._trailers = self._gone = self._done = False

    async def receive(self) -> Message:
        """Pass a message of the request on; a client that goes away ends it."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.leave()
        return message

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on; the request is over with the last of them."""
        kind = message["type"]
        if kind == "http.response.start":
            self._begin(message)
        try:
            await self._send(message)
        except OSError:  # the server's way to say it, from version 2.4 of ASGI on
            self.leave()
            raise
        if kind == "http.response.body":
            if message.get("more_body"):
                return
            self.whole = True
            if self.status >= FAILED:
                # Starlette answers an exception first and raises it then: wait for it, but stop the clock.
                self._ended = time.perf_counter()
            elif not self._trailers:
                self.finish(self.status)
        elif kind == "http.response.pathsend" or (
            kind == "http.response.trailers" and not message.get("more_trailers")
        ):
            self.finish(self.status)

    def _begin(self, message: Message) -> None:
        """Note status and size of the answer, and put the request's id into its headers."""
        headers = [(b"x-request-id", self.request_id.encode())]
        headers += message.get("headers", ())
        for name, value in headers[1:]:
            if name == b"content-length":
                self._sent = size(value)
            elif name == b"x-request-id":
                headers = headers[:1] + [pair for pair in headers if pair[0] != name]
        message["headers"] = headers
        self.status = int(message["status"])
        self._trailers = message.get("trailers", False)
        if self._layer.traced_elsewhere:
            self._ids = _current_ids()

    def leave(self, status: int = CLIENT_CLOSED_REQUEST) -> None:
        """The client has gone, or is left alone: that ends a request, but makes no failure undone."""
        if not self._done:
            self._gone = True
            if not self._ended:
                self.finish(self.status if self.status >= FAILED else status)

    async def fail(self, error: Exception) -> bool:
        """Account for an exception of the application; return True if it only says that the client has gone."""
        if self._gone and isinstance(error, ClientDisconnect | OSError):
            return True
        log_failure(error, **(self._ids or {}))
        if self._done:
            return False  # a background task, or the client has gone
        if self._span is not None:
            self._span.fail(error)
        if self.status:
            self.finish(self.status if self.whole else FAILED)
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
            # Texts and numbers: what is held for a moment must not hold the request.
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
        """Account for the request, then show it to each function that was added."""
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
            except Exception:  # noqa: BLE001 -- the request is answered already
                log.exception("instrumentation_failed", function=getattr(function, "__qualname__", repr(function)))
        return handler


def _current_ids() -> dict[str, str] | None:
    """The ids of the current span, if it is sampled."""
    context = trace.get_current_span().get_span_context()
    if not context.trace_flags.sampled:
        return None
    return {"trace_id": trace.format_trace_id(context.trace_id), "span_id": trace.format_span_id(context.span_id)}


def _members(of: tuple[str, str, str, int, float, str | None, str, str]) -> str:
    """The fields of a request's line as JSON. Ids have a form that needs no escapes, and so have networks."""
    request_id, method, handler, status, seconds, client, trace_id, span_id = of
    line = (
        f'"request_id":"{request_id}","method":"{method}","route":{quoted(handler)},"status":{status},'
        f'"duration_ms":{round(seconds * 1000, 2)},"client_ip":"{sanitised_address(client)}"'
    )
    return f'{line},"trace_id":"{trace_id}","span_id":"{span_id}"' if trace_id else line
