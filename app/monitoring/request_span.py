"""The span of a request: begun at once where it is sampled, made afterwards where only its end shows that it is wanted.

A request that is not sampled costs its ids and one entry in the context: its log lines carry them, its children find a
parent that is not sampled, and what it calls downstream is told so. Attributes are those of OpenTelemetry's semantic
conventions for HTTP servers; the query, which may hold anything, goes out redacted.
"""

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
from starlette.datastructures import Headers
from starlette.types import Scope

from app.monitoring.http_metrics import METHODS, UNKNOWN_METHOD
from app.monitoring.redaction import redact_text
from app.monitoring.sampling import Ids, RequestSampler, forced, new_ids

KEPT = "sampling.kept_because"
SLOW = 2.0
SERVER_ERROR = 500
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)


@dataclass(slots=True)
class RequestSpan:
    """One request as traces see it. `span` records only where it was sampled at the start."""

    ids: Ids
    parent: Context | None
    span: Span
    started: int
    """Unix time in nanoseconds."""
    late: bool
    """Whether it may still be kept at its end."""
    error: BaseException | None = None

    def labels(self) -> dict[str, str]:
        """The ids as logs and exemplars have them."""
        return {
            "trace_id": trace.format_trace_id(self.ids.trace_id),
            "span_id": trace.format_span_id(self.ids.span_id),
        }


class RequestTracer:
    """Begins and ends the spans of requests. `slow` is in seconds; `excluded` requests never have a span."""

    def __init__(self, provider: TracerProvider, excluded: ExcludeList, slow: float = SLOW) -> None:
        self._tracer = provider.get_tracer("app.monitoring")
        sampler = provider.sampler
        # Another sampler decides when it is asked: with a span for every request.
        self._sampler = sampler if isinstance(sampler, RequestSampler) else RequestSampler(1.0)
        self._excluded = excluded
        self._slow = slow

    def begin(self, scope: Scope, traceparent: bytes | None) -> RequestSpan:
        """What is known of the request before it is handled; `attach` makes it the parent of what follows."""
        parent = extract(Headers(scope=scope)) if traceparent is not None else None
        caller = trace.get_current_span(parent).get_span_context() if parent is not None else None
        if caller is not None and not caller.is_valid:
            parent = caller = None
        ids = new_ids(caller)
        excluded = bool(self._excluded) and self._excluded.url_disabled(_url(scope))
        sampled = caller.trace_flags.sampled if caller is not None else self._sampler.keeps(ids.trace_id)
        started = time.time_ns()
        if sampled and not excluded:
            span = self._start(ids, parent, scope, started)
        else:
            state = caller.trace_state if caller is not None else None
            span = NonRecordingSpan(SpanContext(ids.trace_id, ids.span_id, False, _NOT_SAMPLED, state))
        return RequestSpan(ids, parent, span, started, late=not excluded)

    def _start(self, ids: Ids, parent: Context | None, scope: Scope, started: int, **more: Any) -> Span:
        with forced(ids):
            return self._tracer.start_span(
                _name(scope),
                # An empty context: what is current belongs to another request, or to the server.
                context=parent if parent is not None else Context(),
                kind=SpanKind.SERVER,
                attributes=_attributes(scope) | more,
                start_time=started,
            )

    def end(self, request: RequestSpan, scope: Scope, handler: str | None, status: int, seconds: float) -> bool:
        """End the span, after `seconds`; one that was not begun is made now if the request failed or was slow.

        Whether the trace is kept.
        """
        span = request.span
        if not span.is_recording():
            reason = "error" if status >= SERVER_ERROR else "slow" if seconds >= self._slow else None
            if reason is None or not request.late:
                return False
            span = self._start(request.ids, request.parent, scope, request.started, **{KEPT: reason})
        if handler is not None:
            span.update_name(f"{_name(scope)} {handler}")
            span.set_attribute("http.route", handler)
        span.set_attribute("http.response.status_code", status)
        if request.error is not None:
            span.record_exception(request.error)
        if status >= SERVER_ERROR:
            span.set_attribute("error.type", _error_type(request.error) or str(status))
            span.set_status(Status(StatusCode.ERROR))
        span.end(request.started + round(seconds * 1e9))
        return True


def attach(request: RequestSpan) -> Any:
    """Make the request's span the parent of what follows; returns what `contexts.detach` wants."""
    return contexts.attach(trace.set_span_in_context(request.span, request.parent))


def _url(scope: Scope) -> str:
    """The request's URL, as OTEL_PYTHON_FASTAPI_EXCLUDED_URLS means it."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"-")
    return f"{scope.get('scheme', 'http')}://{host.decode('latin-1')}{scope['path']}"


def _name(scope: Scope) -> str:
    """The span's name before its route is known."""
    return str(scope["method"]) if scope["method"] in METHODS else "HTTP"


def _attributes(scope: Scope) -> dict[str, str | int]:
    method = scope["method"]
    found: dict[str, str | int] = {
        "http.request.method": method if method in METHODS else UNKNOWN_METHOD,
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope["path"],
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    if scope.get("query_string"):
        found["url.query"] = redact_text(scope["query_string"].decode("latin-1"))
    server = scope.get("server")
    if server:
        found["server.address"] = server[0]
        if server[1]:
            found["server.port"] = server[1]
    return found


def _error_type(error: BaseException | None) -> str:
    return type(error).__qualname__ if error is not None else ""
