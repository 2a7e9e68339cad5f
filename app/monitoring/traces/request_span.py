"""The span of a request, made at its end, if the request was sampled or its end shows that it failed or was slow.

Until then a request costs its ids and one entry in the context, sampled or not: its log lines carry the ids, its
children find their parent, and calls downstream are told whether the trace is kept.
"""

import random
import re
import time
from typing import Any, ClassVar, Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract, get_global_textmap
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

from ..requests.slot import WAITED
from .http_attributes import HOST, SERVER_ERROR, request_attributes, result_attributes, span_name
from .lazy_span import NOT_SAMPLED, SAMPLED, LazySpan
from .propagation import with_known_flags
from .recorded import record
from .sampling import Ids, RequestIds, RequestSampler, forced

KEPT: Final = "sampling.kept_because"
SLOW: Final = 2.0
_TRACE_HEADERS = frozenset({b"traceparent", b"tracestate", b"baggage"})
# The form that nearly every caller sends; the library's parser is for the others.
_TRACEPARENT = re.compile("00-([0-9a-f]{32})-([0-9a-f]{16})-0([0-3])")
_EMPTY = Context()
# The context key of the current span. The API does not expose it, so it is discovered here.
(_SPAN_KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())
_NO_STATUS, _FAILED = Status(StatusCode.UNSET), Status(StatusCode.ERROR)
# Processors that do nothing before a span has ended.
_PASSIVE = (SpanProcessor, SimpleSpanProcessor, BatchSpanProcessor)
_PASSIVE_METHODS = frozenset(
    (name, getattr(kind, name, None)) for kind in _PASSIVE for name in ("on_start", "_on_ending")
)


class RequestSpan(LazySpan):
    """The span of one request."""

    __slots__ = ("error", "parent", "reason", "scope", "started")

    parent: Context
    """Holds the caller's span if there is a caller, else empty: the current context belongs to another request."""
    scope: Scope
    started: int
    """Unix time in nanoseconds."""
    error: BaseException | None
    reason: str | None
    """Why the span is kept although it was not sampled."""
    ends_with_response: ClassVar[bool] = False
    """True if the span is ended elsewhere when the server has the response."""

    def labels(self) -> dict[str, str]:
        """Return the ids as labels of an exemplar."""
        return {"trace_id": self.trace_id, "span_id": self.span_id}

    def fail(self, error: BaseException) -> None:
        """Note what the application has raised."""
        self.error = error


class RequestTracer:
    """Begin and end the spans of requests.

    `slow` is in seconds; `excluded` requests never have a span. With `late`, unsampled requests that fail or are slow
    get a span; this needs the sampler and the ID generator of this package.
    """

    def __init__(
        self, provider: TracerProvider, excluded: ExcludeList, slow: float = SLOW, *, late: bool = True
    ) -> None:
        tracer = provider.get_tracer(__name__.rpartition(".traces")[0])
        self._tracer = tracer
        # With OTEL_SDK_DISABLED the SDK returns a no-op tracer.
        self._processor = tracer.span_processor if isinstance(tracer, Tracer) else SpanProcessor()
        self._scope = getattr(tracer, "_instrumentation_scope", None)
        self._resource = provider.resource
        sampler = provider.sampler
        # Another sampler decides at the start of a span, so every request starts one.
        self._sampler = sampler if isinstance(sampler, RequestSampler) else None
        self._known_ids = self._sampler is not None and isinstance(provider.id_generator, RequestIds)
        self._excluded = excluded
        self._slow = slow
        self._late = late and self._known_ids  # other samplers and ID generators cannot be forced
        # Without other propagators in OTEL_PROPAGATORS, a request without `traceparent` needs no extraction.
        self._usual_headers = {name.encode() for name in get_global_textmap().fields} == _TRACE_HEADERS

    def begin(self, scope: Scope, traceparent: bytes | None) -> RequestSpan:
        """Return the span of a request that begins; `attach` makes it the parent of what follows."""
        if traceparent or not self._usual_headers:
            called = self._begin_called(scope)
            if called is not None:
                return called
        bits = random.getrandbits(192)
        flags = NOT_SAMPLED
        if (self._sampler is None or self._sampler.keeps(bits)) and not self._excludes(scope):
            flags = SAMPLED
        ids = f"{bits:048x}"
        return self._new(ids[16:], ids[:16], flags, None, _EMPTY, scope)

    def _begin_called(self, scope: Scope) -> RequestSpan | None:
        """Return the span of a request whose caller has a trace, None if it has none."""
        parent, caller = self.caller(scope)
        if caller is None:
            return None
        sampler, flags = self._sampler, caller.trace_flags
        sampled = flags.sampled if sampler is None else sampler.wants(caller)
        # The bound comes last: a request without a span takes nothing of it.
        if not sampled or self._excludes(scope) or not (sampler is None or sampler.admits()):
            flags = TraceFlags(flags & TraceFlags.RANDOM_TRACE_ID)
        elif not flags.sampled:
            flags = TraceFlags(flags | TraceFlags.SAMPLED)
        span_id = f"{random.getrandbits(64):016x}"
        return self._new(f"{caller.trace_id:032x}", span_id, flags, caller.trace_state, parent, scope)

    def _new(
        self, trace_id: str, span_id: str, flags: TraceFlags, state: TraceState | None, parent: Context, scope: Scope
    ) -> RequestSpan:
        span = RequestSpan(trace_id, span_id, flags, state, self._start)
        span.parent, span.scope, span.started = parent, scope, time.time_ns()
        if WAITED in scope:
            span.started -= round(scope[WAITED] * 1e9)
        span.error = span.reason = None
        if flags is not NOT_SAMPLED and flags & TraceFlags.SAMPLED and not self._may_wait():
            span.become(self._start(span))  # sampler, ID generator or processors act at the start
        return span

    def _may_wait(self) -> bool:
        """Return whether sampler and processors do nothing before a span has ended."""
        if not self._known_ids:
            return False
        processors = getattr(self._processor, "_span_processors", (self._processor,))
        return all(
            (name, getattr(type(processor), name, None)) in _PASSIVE_METHODS
            for processor in processors
            for name in ("on_start", "_on_ending")
        )

    def end(self, span: RequestSpan, handler: str | None, status: int, seconds: float) -> bool:
        """End the span after `seconds`; return whether it is exported.

        An unsampled one is made now if the request failed or was slow.
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
        """Return what the SDK would make of a span without writes, for a tenth of the cost."""
        attributes = _attributes(span)
        attributes.update(result_attributes(handler, status, None))
        name, context = span_name(span.scope), span.get_span_context()
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
        # A name that the application has set stays.
        if handler is not None and getattr(made, "name", None) == span_name(span.scope):
            made.update_name(f"{span_name(span.scope)} {handler}")
        if span.error is not None:
            record(made, span.error)
        if status >= SERVER_ERROR:
            made.set_status(_FAILED)
        made.set_attributes(result_attributes(handler, status, span.error))
        made.end(ended)

    def _start(self, span: LazySpan) -> Span:
        """Start the SDK's span of a request."""
        assert isinstance(span, RequestSpan)  # noqa: S101 -- called for no other span
        context = span.get_span_context()
        with forced(Ids(context.trace_id, context.span_id)):
            return self._tracer.start_span(
                span_name(span.scope),
                span.parent,
                SpanKind.SERVER,
                attributes=_attributes(span),
                start_time=span.started,
            )

    def _excludes(self, scope: Scope) -> bool:
        """Return whether the request's URL matches OTEL_PYTHON_FASTAPI_EXCLUDED_URLS."""
        host = next((value for name, value in scope["headers"] if name == b"host"), b"-")
        name = host.decode("latin-1")
        # A client must not be able to write a path into it.
        url = f"{scope.get('scheme', 'http')}://{name if HOST.fullmatch(name) else '-'}{scope['path']}"
        return self._excluded.url_disabled(url)

    def attach(self, span: RequestSpan) -> Any:
        """Make the request's span the parent of what follows; return the token for `contexts.detach`."""
        return contexts.attach(Context({**span.parent, _SPAN_KEY: span} if span.parent else {_SPAN_KEY: span}))

    def caller(self, scope: Scope) -> tuple[Context, SpanContext | None]:
        """Return a context with the caller's span and baggage, and that span; empty and None without a caller."""
        return _caller(scope, None if not self._usual_headers else _TRACE_HEADERS)


def _caller(scope: Scope, names: frozenset[bytes] | None = _TRACE_HEADERS) -> tuple[Context, SpanContext | None]:
    """Read the caller's span and baggage from the headers with these `names`, None for all."""
    carrier: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        if names is None or name in names:
            carrier.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
    plain = _TRACEPARENT.fullmatch(carrier["traceparent"][0]) if list(carrier) == ["traceparent"] else None
    if plain is not None:
        trace_id, span_id, flags = (int(part, 16) for part in plain.groups())
        caller = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
        context = Context({_SPAN_KEY: NonRecordingSpan(caller)})
    else:
        context = with_known_flags(extract(carrier, Context()))
        caller = trace.get_current_span(context).get_span_context()
    return (context, caller) if caller.is_valid else (_EMPTY, None)


def _attributes(span: RequestSpan) -> dict[str, AttributeValue]:
    found = request_attributes(span.scope)
    if span.reason is not None:
        found[KEPT] = span.reason
    return found
