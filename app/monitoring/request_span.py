"""The span of a request: begun at once where it is sampled, made afterwards where only its end shows that it is wanted.

A request that is not sampled costs its ids and one entry in the context: its log lines carry them, its children find a
parent that is not sampled, and what it calls downstream is told so. Attributes are those of OpenTelemetry's semantic
conventions for HTTP servers; the query, which may hold anything, goes out redacted.
"""

import re
import time
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.http import ExcludeList
from opentelemetry.util.types import AttributeValue
from starlette.types import Scope

from app.monitoring.http_metrics import METHODS, known_method
from app.monitoring.sampling import Ids, RequestSampler, forced, new_ids
from app.monitoring.span_redaction import redact_query

KEPT = "sampling.kept_because"
SLOW = 2.0
SERVER_ERROR = 500
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)
_TRACE_HEADERS = frozenset({b"traceparent", b"tracestate", b"baggage"})
# The form that nearly every caller sends; the library's parser is for the others.
_TRACEPARENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-0([0-3])")
_NOTHING = Context()


@dataclass(slots=True)
class RequestSpan:
    """One request as traces see it. `span` records only where it was sampled at the start."""

    parent: Context
    """With the caller's span where there is a caller, else empty: what is current belongs to another request."""
    span: Span
    started: int
    """Unix time in nanoseconds."""
    error: BaseException | None = None

    def labels(self) -> dict[str, str]:
        """The ids as logs and exemplars have them."""
        context = self.span.get_span_context()
        return {
            "trace_id": trace.format_trace_id(context.trace_id),
            "span_id": trace.format_span_id(context.span_id),
        }


class RequestTracer:
    """Begins and ends the spans of requests.

    `slow` is in seconds; `excluded` requests never have a span. Without `late` nothing is kept for its end.
    """

    def __init__(
        self, provider: TracerProvider, excluded: ExcludeList, slow: float = SLOW, *, late: bool = True
    ) -> None:
        self._tracer = provider.get_tracer("app.monitoring")
        sampler = provider.sampler
        # Another sampler decides when it is asked: with a span for every request.
        self._sampler = sampler if isinstance(sampler, RequestSampler) else RequestSampler(1.0)
        self._excluded = excluded
        self._slow = slow
        self._late = late

    def begin(self, scope: Scope, traceparent: bytes | None) -> RequestSpan:
        """What is known of the request before it is handled; `attach` makes it the parent of what follows."""
        parent, caller = _caller(scope) if traceparent else (_NOTHING, None)
        ids = new_ids(caller)
        started = time.time_ns()
        sampled = self._sampler.keeps(ids.trace_id) if caller is None else caller.trace_flags.sampled
        if sampled and not self._excludes(scope):
            return RequestSpan(parent, self._start(ids, parent, scope, started), started)
        flags, state = _NOT_SAMPLED, None
        if caller is not None:
            flags, state = TraceFlags(caller.trace_flags & TraceFlags.RANDOM_TRACE_ID), caller.trace_state
        span = NonRecordingSpan(SpanContext(ids.trace_id, ids.span_id, False, flags, state))
        return RequestSpan(parent, span, started)

    def end(self, request: RequestSpan, scope: Scope, handler: str | None, status: int, seconds: float) -> bool:
        """End the span, after `seconds`; one that was not begun is made now if the request failed or was slow.

        Whether the trace is kept.
        """
        span = request.span
        if not span.is_recording():
            if not self._late or (status < SERVER_ERROR and seconds < self._slow) or self._excludes(scope):
                return False
            reason = "error" if status >= SERVER_ERROR else "slow"
            ids = Ids(span.get_span_context().trace_id, span.get_span_context().span_id)
            span = self._start(ids, request.parent, scope, request.started, reason)
        attributes: dict[str, AttributeValue] = {"http.response.status_code": status}
        if handler is not None:
            span.update_name(f"{_name(scope)} {handler}")
            attributes["http.route"] = handler
        if request.error is not None:
            span.record_exception(request.error)
        if status >= SERVER_ERROR:
            attributes["error.type"] = str(status) if request.error is None else _type_of(request.error)
            span.set_status(Status(StatusCode.ERROR))
        span.set_attributes(attributes)
        span.end(request.started + round(seconds * 1e9))
        return True

    def _start(self, ids: Ids, parent: Context, scope: Scope, started: int, reason: str | None = None) -> Span:
        attributes = _attributes(scope)
        if reason is not None:
            attributes[KEPT] = reason
        with forced(ids):
            return self._tracer.start_span(
                _name(scope), parent, SpanKind.SERVER, attributes=attributes, start_time=started
            )

    def _excludes(self, scope: Scope) -> bool:
        """Whether the request's URL is one of OTEL_PYTHON_FASTAPI_EXCLUDED_URLS."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"-")
        url = f"{scope.get('scheme', 'http')}://{host.decode('latin-1')}{scope['path']}"
        return self._excluded.url_disabled(url)


def attach(request: RequestSpan) -> Any:
    """Make the request's span the parent of what follows; returns what `contexts.detach` wants."""
    return contexts.attach(trace.set_span_in_context(request.span, request.parent))


def _caller(scope: Scope) -> tuple[Context, SpanContext | None]:
    """What the headers say of the caller: a context with its span and baggage, and that span; or nothing."""
    carrier: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        if name in _TRACE_HEADERS:
            carrier.setdefault(name.decode(), []).append(value.decode("latin-1"))
    plain = _TRACEPARENT.fullmatch(carrier["traceparent"][0]) if len(carrier) == 1 else None
    if plain is not None:
        trace_id, span_id, flags = (int(part, 16) for part in plain.groups())
        caller = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
        context = trace.set_span_in_context(NonRecordingSpan(caller), _NOTHING)
    else:
        context = extract(carrier, Context())
        caller = trace.get_current_span(context).get_span_context()
    return (context, caller) if caller.is_valid else (_NOTHING, None)


def _name(scope: Scope) -> str:
    """The span's name before its route is known."""
    method = _method(scope)
    return method if method in METHODS else "HTTP"


def _method(scope: Scope) -> str:
    """A websocket has none; its handshake is a GET."""
    return str(scope.get("method", "GET"))


def _attributes(scope: Scope) -> dict[str, AttributeValue]:
    method = _method(scope)
    found: dict[str, AttributeValue] = {
        "http.request.method": known_method(method),
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope["path"],
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    if scope.get("query_string"):
        found["url.query"] = redact_query(scope["query_string"].decode("latin-1"))
    address, port = scope.get("server") or (None, None)
    if address:
        found["server.address"] = address
        if port:
            found["server.port"] = port
    return found


def _type_of(error: BaseException) -> str:
    """The exception's full name, as the conventions want it."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
