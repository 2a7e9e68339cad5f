"""The span of a request, made at its end: where the request was sampled, or where only its end shows that it is wanted.

Until then a request costs its ids and one entry in the context, sampled or not: its log lines carry them, its children
find their parent, and what it calls downstream is told whether the trace is kept. Attributes are those of
OpenTelemetry's semantic conventions for HTTP servers.
"""

import random
import re
import time
from typing import Any

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, Tracer, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)
from opentelemetry.util.http import ExcludeList
from opentelemetry.util.types import AttributeValue
from starlette.types import Scope

from ..metrics.http import METHODS, known_method
from .lazy_span import NOT_SAMPLED, SAMPLED, LazySpan
from .sampling import Ids, RequestIds, RequestSampler, forced
from .span_redaction import LONGEST_VALUE

KEPT = "sampling.kept_because"
SLOW = 2.0
SERVER_ERROR = 500
_TRACE_HEADERS = frozenset({b"traceparent", b"tracestate", b"baggage"})
# The form that nearly every caller sends; the library's parser is for the others.
_TRACEPARENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-0([0-3])")
_HOST = re.compile(r"[\w.:\[\]-]+")
_NOTHING = Context()
# Under which key a context holds its span: the API tells nobody, but can be watched.
(_SPAN,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())
_NO_STATUS, _FAILED = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
# These do nothing before a span has ended.
_DEAF = (SpanProcessor, SimpleSpanProcessor, BatchSpanProcessor)
_DEAF_TO = frozenset((name, getattr(kind, name, None)) for kind in _DEAF for name in ("on_start", "_on_ending"))


class RequestSpan(LazySpan):
    """One request as traces see it."""

    __slots__ = ("error", "parent", "reason", "scope", "started")

    parent: Context
    """With the caller's span where there is a caller, else empty: what is current belongs to another request."""
    scope: Scope
    started: int
    """Unix time in nanoseconds."""
    error: BaseException | None
    reason: str | None
    """Why it is kept although it was not sampled."""

    def labels(self) -> dict[str, str]:
        """The ids as exemplars have them."""
        return {"trace_id": self.trace_id, "span_id": self.span_id}


class RequestTracer:
    """Begins and ends the spans of requests.

    `slow` is in seconds; `excluded` requests never have a span. Without `late` nothing is kept for its end, nor with a
    provider whose sampler and ids are not those of traces/sampling.py.
    """

    def __init__(
        self, provider: TracerProvider, excluded: ExcludeList, slow: float = SLOW, *, late: bool = True
    ) -> None:
        tracer = provider.get_tracer(__name__.rpartition(".traces")[0])
        self._tracer = tracer
        # The SDK gives a tracer that does nothing where OTEL_SDK_DISABLED says so.
        self._processor = tracer.span_processor if isinstance(tracer, Tracer) else SpanProcessor()
        self._scope = getattr(tracer, "_instrumentation_scope", None)
        self._resource = provider.resource
        sampler = provider.sampler
        # Another sampler decides when it is asked: with a span for every request.
        self._sampler = sampler if isinstance(sampler, RequestSampler) else None
        self._known_ids = self._sampler is not None and isinstance(provider.id_generator, RequestIds)
        self._excluded = excluded
        self._slow = slow
        # A sampler or ids of somebody else's would not have it that way.
        self._late = late and self._known_ids

    def begin(self, scope: Scope, traceparent: bytes | None) -> RequestSpan:
        """What is known of the request before it is handled; `attach` makes it the parent of what follows."""
        if traceparent:
            return self._begin_called(scope)
        bits = random.getrandbits(192)
        flags = NOT_SAMPLED
        if (self._sampler is None or self._sampler.keeps(bits)) and not self._excludes(scope):
            flags = SAMPLED
        ids = f"{bits:048x}"
        return self._new(ids[16:], ids[:16], flags, None, _NOTHING, scope)

    def _begin_called(self, scope: Scope) -> RequestSpan:
        """The same for a request whose caller may have a trace."""
        parent, caller = _caller(scope)
        if caller is None:
            return self.begin(scope, None)
        flags = caller.trace_flags
        if not flags.sampled or self._excludes(scope):
            flags = TraceFlags(flags & TraceFlags.RANDOM_TRACE_ID)
        span_id = f"{random.getrandbits(64):016x}"
        return self._new(f"{caller.trace_id:032x}", span_id, flags, caller.trace_state, parent, scope)

    def _new(
        self, trace_id: str, span_id: str, flags: TraceFlags, state: TraceState | None, parent: Context, scope: Scope
    ) -> RequestSpan:
        span = RequestSpan(trace_id, span_id, flags, state, self._start)
        span.parent, span.scope, span.started = parent, scope, time.time_ns()
        span.error = span.reason = None
        if flags is not NOT_SAMPLED and flags & TraceFlags.SAMPLED and not self._may_wait():
            span.become(self._start(span))  # sampler, ids or processors want to be asked
        return span

    def _may_wait(self) -> bool:
        """Whether sampler and processors need not hear of a span before it has ended."""
        if not self._known_ids:
            return False
        processors = getattr(self._processor, "_span_processors", (self._processor,))
        return all(
            (name, getattr(type(processor), name, None)) in _DEAF_TO
            for processor in processors
            for name in ("on_start", "_on_ending")
        )

    def end(self, span: RequestSpan, handler: str | None, status: int, seconds: float) -> bool:
        """End the span, after `seconds`; one that was not begun is made now if the request failed or was slow.

        Whether the trace is kept.
        """
        if not span.is_recording():
            if not self._late or (status < SERVER_ERROR and seconds < self._slow) or self._excludes(span.scope):
                return False
            span.reason = "error" if status >= SERVER_ERROR else "slow"
        ended = span.started + round(seconds * 1e9)
        if span.made is None and span.error is None and self._may_wait():
            self._processor.on_end(self._readable(span, handler, status, ended))
        else:
            self._end_sdk(span.made or self._start(span), span, handler, status, ended)
        span.ended = True
        return True

    def _readable(self, span: RequestSpan, handler: str | None, status: int, ended: int) -> ReadableSpan:
        """What the SDK would have made of a span to which nobody has written, for a tenth of what that costs."""
        attributes = _attributes(span)
        attributes.update(_result(handler, status, None))
        name, context = _name(span.scope), span.get_span_context()
        if span.reason is not None:
            flags = TraceFlags(context.trace_flags | TraceFlags.SAMPLED)
            context = SpanContext(context.trace_id, context.span_id, False, flags, context.trace_state)
        parent = trace.get_current_span(span.parent).get_span_context() if span.parent else None
        return ReadableSpan(
            name=name if handler is None else f"{name} {handler}",
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind.SERVER,
            status=_FAILED if status >= SERVER_ERROR else _NO_STATUS,
            start_time=span.started,
            end_time=ended,
            instrumentation_scope=self._scope,
        )

    def _end_sdk(self, made: Span, span: RequestSpan, handler: str | None, status: int, ended: int) -> None:
        # A name that the application has given stays.
        if handler is not None and getattr(made, "name", None) == _name(span.scope):
            made.update_name(f"{_name(span.scope)} {handler}")
        if span.error is not None:
            made.record_exception(span.error)
        if status >= SERVER_ERROR:
            made.set_status(_FAILED)
        made.set_attributes(_result(handler, status, span.error))
        made.end(ended)

    def _start(self, span: LazySpan) -> Span:
        """The SDK's span for a request, as it is known when it begins."""
        assert isinstance(span, RequestSpan)  # noqa: S101 -- it is asked by no other
        context = span.get_span_context()
        with forced(Ids(context.trace_id, context.span_id)):
            return self._tracer.start_span(
                _name(span.scope),
                span.parent,
                SpanKind.SERVER,
                attributes=_attributes(span),
                start_time=span.started,
            )

    def _excludes(self, scope: Scope) -> bool:
        """Whether the request's URL is one of OTEL_PYTHON_FASTAPI_EXCLUDED_URLS."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"-")
        name = host.decode("latin-1")
        # What a client writes there must not look like a path.
        url = f"{scope.get('scheme', 'http')}://{name if _HOST.fullmatch(name) else '-'}{scope['path']}"
        return self._excluded.url_disabled(url)


def attach(span: RequestSpan) -> Any:
    """Make the request's span the parent of what follows; returns what `contexts.detach` wants."""
    return contexts.attach(Context({**span.parent, _SPAN: span} if span.parent else {_SPAN: span}))


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
        context = Context({_SPAN: NonRecordingSpan(caller)})
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


def _attributes(span: RequestSpan) -> dict[str, AttributeValue]:
    """What is known when a request begins. Path and query go as they are: exporters redact whatever leaves."""
    scope = span.scope
    found: dict[str, AttributeValue] = {
        "http.request.method": known_method(_method(scope)),
        "url.scheme": scope.get("scheme", "http"),
        "url.path": scope["path"][:LONGEST_VALUE],
        "network.protocol.version": scope.get("http_version", "1.1"),
    }
    query = scope.get("query_string")
    if query:
        found["url.query"] = query.decode("latin-1")[:LONGEST_VALUE]
    address, port = scope.get("server") or (None, None)
    if address:
        found["server.address"] = address
        if port:
            found["server.port"] = port
    if span.reason is not None:
        found[KEPT] = span.reason
    return found


def _result(handler: str | None, status: int, error: BaseException | None) -> dict[str, AttributeValue]:
    """What is known when it ends."""
    found: dict[str, AttributeValue] = {"http.response.status_code": status}
    if handler is not None:
        found["http.route"] = handler
    if status >= SERVER_ERROR:
        found["error.type"] = str(status) if error is None else _type_of(error)
    return found


def _type_of(error: BaseException) -> str:
    """The exception's full name, as the conventions want it."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
