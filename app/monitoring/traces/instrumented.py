"""opentelemetry-instrumentation-fastapi in place of our own request spans.

Its ASGI middleware starts the span outside of the observing layer and ends it with the last byte. `InstrumentedTracer`
gives the layer the ids of that span for log lines and exemplars, and adds the attributes that the middleware
leaves out.
"""

import time
from functools import partial
from typing import Any, Final, Literal

from fastapi import FastAPI
from opentelemetry.context import Context
from opentelemetry.instrumentation.asgi.types import ClientRequestHook, ClientResponseHook, ServerRequestHook
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Span, Status, StatusCode
from starlette.types import ASGIApp, Receive, Scope, Send

from .http_attributes import SERVER_ERROR, client_address, request_attributes
from .recorded import record
from .request_span import RequestSpan, RequestTracer

MADE: Final = "prefork_observability.span"
"""Key of a scope that holds the instrumentation's span of the request."""
# Those that the instrumentation leaves out, also for websockets only, or has by an older name, or takes from the
# server's socket.
_ADDED: Final = (
    "http.request.method",
    "http.request.method_original",
    "user_agent.original",
    "client.address",
    "network.peer.address",
    "server.address",
    "server.port",
)


def instrument_fastapi(
    app: FastAPI,
    *,
    excluded_urls: str | None = None,
    server_request_hook: ServerRequestHook = None,
    client_request_hook: ClientRequestHook = None,
    client_response_hook: ClientResponseHook = None,
    request_headers: list[str] | None = None,
    response_headers: list[str] | None = None,
    sanitize_fields: list[str] | None = None,
    provider: TracerProvider | None = None,
) -> None:
    """Have opentelemetry-instrumentation-fastapi make the request spans of `app`. Call it before the first request.

    Without `provider` the spans go to the global one as it is at the first request, so `app` may be made before the
    fork. None leaves an option to its environment variable: OTEL_PYTHON_FASTAPI_EXCLUDED_URLS and
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST, _SERVER_RESPONSE and _SANITIZE_FIELDS. Spans for `receive`
    and `send` are made only for the client hook that gets them. There are no metrics of the instrumentation.
    """
    excluded_spans: list[Literal["receive", "send"]] = []
    if client_request_hook is None:
        excluded_spans.append("receive")
    if client_response_hook is None:
        excluded_spans.append("send")

    def note(span: Span, scope: dict[str, Any]) -> None:
        scope[MADE] = span
        if span.is_recording():  # the SDK's raises in the middleware where an exception cannot be formatted
            span.record_exception = partial(record, span)  # type: ignore[method-assign]
        if server_request_hook is not None:
            server_request_hook(span, scope)

    FastAPIInstrumentor.instrument_app(
        app,
        server_request_hook=note,
        client_request_hook=client_request_hook,
        client_response_hook=client_response_hook,
        tracer_provider=provider,
        meter_provider=NoOpMeterProvider(),
        excluded_urls=excluded_urls,
        http_capture_headers_server_request=request_headers,
        http_capture_headers_server_response=response_headers,
        http_capture_headers_sanitize_fields=sanitize_fields,
        exclude_spans=excluded_spans,
    )


class ProxiedClient:
    """Give the instrumentation's span client and scheme as trusted proxies name them.

    Its place is inside of the middleware that reads the proxies' headers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write to the span, then pass on."""
        span = scope.get(MADE)
        if span is not None and span.is_recording():
            span.set_attributes(client_address(scope))
            for name in ("url.scheme", "http.scheme"):
                if name in span.attributes:
                    span.set_attribute(name, scope["scheme"])
        await self._app(scope, receive, send)


class InstrumentedSpan(RequestSpan):
    """The instrumentation's span of one request, as the layer sees it."""

    __slots__ = ()
    ends_with_response = True

    def fail(self, error: BaseException) -> None:
        """Record the error unless the instrumentation has done so, which ends its span with the response to it.

        The instrumentation does not see an error that the application's own error handler raises.
        """
        super().fail(error)
        recorded = any(event.name == "exception" for event in getattr(self.made, "events", ()))
        if self.made is not None and self.made.is_recording() and not recorded:
            record(self.made, error)
            self.made.set_status(Status(StatusCode.ERROR))


class InstrumentedTracer(RequestTracer):
    """Read the instrumentation's spans; an unsampled request that fails or is slow gets one of ours with the same ids.

    A request without a span of the instrumentation is handled as RequestTracer does.
    """

    def begin(self, scope: Scope, traceparent: bytes | None) -> RequestSpan:
        """Return the span that the instrumentation has started for the request."""
        made: Span | None = scope.get(MADE)
        if made is None or not made.get_span_context().is_valid:
            return super().begin(scope, traceparent)
        if made.is_recording():
            found = request_attributes(scope)
            made.set_attributes({name: found[name] for name in _ADDED if name in found})
        return self._adopt(made, scope)

    def _adopt(self, current: Span, scope: Scope) -> InstrumentedSpan:
        context = current.get_span_context()
        span = InstrumentedSpan("", "", context.trace_flags, context.trace_state, self._start)
        span.become(current)
        span.parent, span.scope, span.started = Context(), scope, time.time_ns()
        span.error = span.reason = None
        return span

    def attach(self, span: RequestSpan) -> Any:
        """Leave the instrumentation's span current; return None."""
        return None if isinstance(span, InstrumentedSpan) else super().attach(span)

    def end(self, span: RequestSpan, handler: str | None, status: int, seconds: float) -> bool:
        """End the span if the instrumentation has not; return whether it is exported."""
        if not isinstance(span, InstrumentedSpan):
            return super().end(span, handler, status, seconds)
        if not span.flags.sampled:
            # Its sampling decision stands, so only the parent is missing for a span that is kept for its end.
            parent, caller = self.caller(span.scope)
            if caller is not None and f"{caller.trace_id:032x}" == span.trace_id:
                span.parent = parent
            return super().end(span, handler, status, seconds)
        if span.made is not None and span.made.is_recording():
            _finish(span.made, handler, status)
        span.ended = True
        return True


def _finish(made: Span, handler: str | None, status: int) -> None:
    """End the span of an incomplete answer or of a websocket's handshake with the status that the layer gives it."""
    attributes = getattr(made, "attributes", None) or {}
    # The instrumentation writes new names, old ones or both, as OTEL_SEMCONV_STABILITY_OPT_IN asks for.
    if "url.scheme" in attributes:
        made.set_attribute("http.response.status_code", status)
        if status >= SERVER_ERROR:
            made.set_attribute("error.type", str(status))
    if "http.scheme" in attributes:
        made.set_attribute("http.status_code", status)
    if handler is not None:
        made.set_attribute("http.route", handler)
    if status >= SERVER_ERROR:
        made.set_status(Status(StatusCode.ERROR))
    made.end()
