"""Trace headers of calls to other services: ids and flags for all, tracestate and baggage for trusted ones.

Any client can send tracestate and baggage with private data in them. OpenTelemetry passes both on to whatever an
instrumented client calls. A propagator does not know that address, so httpx's instrumentation notes it for the span of
each call; calls of other clients are foreign.
"""

import logging
from collections.abc import Collection, MutableMapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_plus

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.propagators import textmap
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags, TraceState

from ..redaction import redact, redact_text
from ..redaction.configuration import on_change

KNOWN_FLAGS: Final = TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID
"""Those of W3C Trace Context, level 2: senders must clear the others."""
_WITHHELD: Final = frozenset({"tracestate", "baggage"})
_MAX_CACHED_LENGTH: Final = 256
# An encoded value may be encoded again.
_MAX_DECODINGS: Final = 3
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# A client's headers can make these log a line each.
_PARSERS: Final = ("opentelemetry.baggage", "opentelemetry.trace.propagation", "opentelemetry.trace.span")

# The span of an outgoing call, and whether the call goes to a trusted service.
_call: ContextVar[tuple[Span, bool] | None] = ContextVar("call", default=None)


def install(trusted: Collection[str] | None = None) -> None:
    """Guard this process's propagators, once; None leaves the `trusted` hosts as they are, at first none.

    They are those of the option `trusted_upstreams`. Call it again after `set_global_textmap`.
    """
    for parser in _PARSERS:
        logging.getLogger(parser).setLevel(logging.ERROR)
    current = get_global_textmap()
    if not isinstance(current, GuardedPropagator):
        set_global_textmap(GuardedPropagator(current))
    if trusted is not None:
        _trusted.hosts = frozenset(trusted)


class _Trusted:
    hosts: frozenset[str] = frozenset()


_trusted = _Trusted()


def is_trusted(host: str, port: int | None) -> bool:
    """Return whether `host` is trusted, by name, with its port, or below a `*.` name."""
    host = host.lower().strip("[]").removesuffix(".")
    _, *above = host.split(".")
    names = {host, *(f"*.{'.'.join(above[place:])}" for place in range(len(above)))}
    ports = {f"[{name}]:{port}" if ":" in name else f"{name}:{port}" for name in names}
    return not _trusted.hosts.isdisjoint(names | ports)


def note_call(span: Span, request: Any) -> None:
    """Note where a call of httpx goes: a request hook of its instrumentation."""
    url = request.url
    host = getattr(url, "raw_host", b"").decode("ascii", "replace")
    port = getattr(url, "port", None) or _DEFAULT_PORTS.get(getattr(url, "scheme", ""))
    _call.set((span, is_trusted(host, port)))


async def note_async_call(span: Span, request: Any) -> None:
    """Do what `note_call` does, for asynchronous clients."""
    note_call(span, request)


class GuardedPropagator(textmap.TextMapPropagator):
    """Inject ids and known flags only, unless the call goes to a trusted service; this gets what redaction lets pass.

    The rule holds for each propagator of OTEL_PROPAGATORS: they get a context without the rest.
    """

    def __init__(self, inner: textmap.TextMapPropagator) -> None:
        self._inner = inner

    def extract(
        self,
        carrier: textmap.CarrierT,
        context: Context | None = None,
        getter: textmap.Getter[textmap.CarrierT] = textmap.default_getter,
    ) -> Context:
        """Return the caller's context, without unknown flags."""
        return with_known_flags(self._inner.extract(carrier, context, getter))

    def inject(
        self,
        carrier: textmap.CarrierT,
        context: Context | None = None,
        setter: textmap.Setter[textmap.CarrierT] = textmap.default_setter,
    ) -> None:
        """Write the headers of an outgoing call to `carrier`.

        For a foreign service, remove what is there of tracestate and baggage: a client that follows a redirect sends
        the headers of the first request once more.
        """
        span = trace.get_current_span(context)
        noted = _call.get()
        if noted is not None and noted[0] is span and noted[1]:
            self._inner.inject(carrier, _redacted(context, span), setter)
            return
        if isinstance(carrier, MutableMapping):
            for name in [name for name in carrier if str(name).lower() in _WITHHELD]:
                del carrier[name]
        self._inner.inject(carrier, _bare(span, TraceState()), _Withholding(setter))

    @property
    def fields(self) -> set[str]:
        """The headers of all propagators."""
        return self._inner.fields


class _Withholding(textmap.Setter[textmap.CarrierT]):
    """Set no tracestate and no baggage: some propagators have one of their own."""

    def __init__(self, inner: textmap.Setter[textmap.CarrierT]) -> None:
        self._inner = inner

    def set(self, carrier: textmap.CarrierT, key: str, value: str) -> None:
        if key.lower() not in _WITHHELD:
            self._inner.set(carrier, key, value)


def with_known_flags(context: Context) -> Context:
    """Return `context` with the flags of its span that are known."""
    span = trace.get_current_span(context)
    found = span.get_span_context()
    if not found.is_valid or not found.trace_flags & ~KNOWN_FLAGS:
        return context
    flags = TraceFlags(found.trace_flags & KNOWN_FLAGS)
    known = SpanContext(found.trace_id, found.span_id, found.is_remote, flags, found.trace_state)
    return trace.set_span_in_context(NonRecordingSpan(known), context)


def _bare(span: Span, state: TraceState, context: Context | None = None) -> Context:
    """Return `context`, by default an empty one, with the ids and known flags of `span`, and with `state`."""
    found = span.get_span_context()
    if not found.is_valid:
        return Context() if context is None else context
    flags = TraceFlags(found.trace_flags & KNOWN_FLAGS)
    outgoing = NonRecordingSpan(SpanContext(found.trace_id, found.span_id, False, flags, state))
    return trace.set_span_in_context(outgoing, Context() if context is None else context)


def _redacted(context: Context | None, span: Span) -> Context:
    """Return a context without the members of tracestate and baggage that redaction would change."""
    entries = baggage.get_all(context)
    cleared = baggage.clear(context)
    for key, value in entries.items():
        if _passes(key, str(value)):
            cleared = baggage.set_baggage(key, value, cleared)
    kept = [(key, value) for key, value in span.get_span_context().trace_state.items() if _passes(key, value)]
    return _bare(span, TraceState(kept), cleared)


def _passes(key: str, value: str) -> bool:
    return (_known if len(key) + len(value) <= _MAX_CACHED_LENGTH else _is_public)(key, value)


def _is_public(key: str, value: str) -> bool:
    """Return whether redaction leaves a member as it is, by name and by value, encoded or not."""
    for _ in range(_MAX_DECODINGS):
        pair = f"{key}={value}"
        if redact({key: value}) != {key: value} or redact_text(pair) != pair:
            return False
        key, value = unquote_plus(key), unquote_plus(value)
    return True


_known = lru_cache(maxsize=1024)(_is_public)
on_change(_known.cache_clear)
