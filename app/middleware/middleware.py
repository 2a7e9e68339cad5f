"""The one layer around a request: its id, its trace, its log context; at its last byte its metrics and its log line.

Pure ASGI, entered once and left once. docs/requests.md has a rule for every way a request can end.
"""

import ipaddress
import random
import re
import time
from collections.abc import Container
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from opentelemetry import context as contexts
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from app.api.problems import problem
from app.monitoring.http_metrics import NO_ROUTE, HttpMetrics, handler_of
from app.monitoring.logging import get_logger
from app.monitoring.request_span import RequestSpan, RequestTracer, attach

# An id that others chose goes into logs and headers, so only a plain form is taken over.
_SAFE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# nginx's number for a client that went away before there was a whole answer.
CLIENT_CLOSED_REQUEST = 499

access = get_logger("access")
log = get_logger("request")


class ObservingMiddleware:
    """Answers X-Request-ID, and accounts for each request in metrics, traces and one log line.

    `metrics` and `tracer` may be left out. Requests of the handlers in `excluded` are not counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: HttpMetrics | None = None,
        tracer: RequestTracer | None = None,
        excluded: Container[str] = (),
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.tracer = tracer
        self.excluded = excluded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(self, scope, send)
        token = exchange.enter()
        try:
            await self.app(scope, receive, exchange.send)
        except Exception as error:
            if not await exchange.fail(error, receive):
                raise  # half an answer is out: the server must cut the connection
        finally:
            exchange.finish(CLIENT_CLOSED_REQUEST)
            if token is not None:
                contexts.detach(token)


class _Exchange:
    """One request and its answer."""

    __slots__ = (
        "_app", "_done", "_layer", "_received", "_scope", "_send", "_sent", "_span", "_started", "_status", "request_id"
    )  # fmt: skip

    def __init__(self, layer: ObservingMiddleware, scope: Scope, send: Send) -> None:
        self._started = time.perf_counter()
        self._layer = layer
        self._scope = scope
        self._send = send
        self._app = scope.get("app")
        self._status = self._received = self._sent = 0
        self._span: RequestSpan | None = None
        self._done = False

    def enter(self) -> Any:
        """Read the headers, bind the context; returns what detaches the trace's."""
        scope, given, traceparent = self._scope, b"", None
        for name, value in scope["headers"]:
            if name == b"x-request-id":
                given = value
            elif name == b"traceparent":
                traceparent = value
            elif name == b"content-length":
                self._received = _size(value)
        self.request_id = given.decode() if _SAFE_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"
        scope["request_id"] = self.request_id
        # Who is at the other end of the socket, before any proxy's header is believed further in.
        scope["peer"] = scope.get("client")
        clear_contextvars()
        bind_contextvars(request_id=self.request_id)
        if self._layer.tracer is None:
            return None
        self._span = self._layer.tracer.begin(scope, traceparent)
        return attach(self._span)

    async def send(self, message: Message) -> None:
        """Pass a message of the answer on; the request is over with the last of them."""
        kind = message["type"]
        if kind == "http.response.start":
            self._status = int(message["status"])
            headers = [(b"x-request-id", self.request_id.encode())]
            for pair in message.get("headers", ()):
                if pair[0] == b"content-length":
                    self._sent = _size(pair[1])
                if pair[0] != b"x-request-id":
                    headers.append(pair)
            message["headers"] = headers
            await self._send(message)
            return
        await self._send(message)
        if kind == "http.response.pathsend" or (kind == "http.response.body" and not message.get("more_body")):
            self.finish(self._status)

    async def fail(self, error: Exception, receive: Receive) -> bool:
        """Account for what the application has raised; whether the client has, or now gets, a whole answer."""
        if isinstance(error, ClientDisconnect):
            return True
        log.error("unhandled_error", exc_info=error)
        if self._done:
            return True  # in a background task
        if self._span is not None:
            self._span.error = error
        if self._status:
            self.finish(int(HTTPStatus.INTERNAL_SERVER_ERROR))
            return False
        path = self._scope["path"]
        response = problem(HTTPStatus.INTERNAL_SERVER_ERROR, request_id=self.request_id, instance=path)
        await response(self._scope, receive, self.send)
        return True

    def finish(self, status: int) -> None:
        """Count, log and trace the request as ended with `status`, once."""
        if self._done:
            return
        self._done = True
        seconds = time.perf_counter() - self._started
        scope, layer = self._scope, self._layer
        handler = handler_of(scope, self._app)
        exemplar = None
        ids: dict[str, str] = {}
        if layer.tracer is not None and self._span is not None:
            kept = layer.tracer.end(self._span, scope, handler if handler != NO_ROUTE else None, status, seconds)
            if kept:
                exemplar = ids = self._span.labels()
        if layer.metrics is not None and handler not in layer.excluded:
            layer.metrics.record(scope["method"], status, handler, seconds, (self._received, self._sent), exemplar)
        client = scope.get("client")
        access.info(
            "request",
            method=scope["method"],
            route=handler,
            status=status,
            duration_ms=round(seconds * 1000, 2),
            client_ip=sanitise_address(client[0] if client else None),
            **ids,
        )


def _size(value: bytes) -> int:
    """What a Content-Length header says; 0 where it is no number."""
    return int(value) if value.isdigit() else 0


@lru_cache(maxsize=4096)
def sanitise_address(address: str | None) -> str:
    """The network of an address, without its last 8 bits (IPv4) or last 80 (IPv6); "local" for anything else."""
    try:
        parsed = ipaddress.ip_address(address or "")
    except ValueError:
        return "local"
    prefix = 24 if parsed.version == 4 else 48  # noqa: PLR2004
    return str(ipaddress.ip_network((parsed, prefix), strict=False))
