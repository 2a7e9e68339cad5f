"""Spans without private data: the last thing before an exporter, so whatever instrumentation made them.

The constraint to know: the engine and its keys are redaction.py's. Here is only what spans add to it: keys with dots,
URLs whose query is encoded, addresses that are servers', and values that the SDK has cut in the middle.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, overload
from urllib.parse import parse_qsl, quote, urlencode

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, Status, TraceState

from ..redaction import REDACTED, redact, redact_text

LONGEST_VALUE = 16_384
"""What the SDK may keep of one value; see `tracing.configure`."""
# Longer than any form that the engine knows: half of one may stand where a value was cut.
_LOOSE_END = 4_096
_CUT = "[cut]"
# Values of this length are often the same; longer ones are seldom.
_CACHED = 256

_CLIENTS = frozenset({"client.address", "client.socket.address", "http.client_ip", "net.peer.ip", "net.sock.peer.addr"})
_SERVERS = frozenset({"server.address", "network.peer.address", "network.local.address"})
_URLS = frozenset({"http.target", "http.url", "url.full", "url.original"})


class RedactingExporter(SpanExporter):
    """Passes spans on with names, attributes, events, links and status redacted. What cannot be is not passed on."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export redacted copies of `spans`; they themselves stay as they are."""
        return self._inner.export([_RedactedSpan(span) for span in spans])

    def shutdown(self) -> None:
        """End the inner exporter."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the inner exporter."""
        return self._inner.force_flush(timeout_millis)


class _RedactedSpan(ReadableSpan):
    """A copy that knows how much its original has dropped."""

    def __init__(self, span: ReadableSpan) -> None:
        super().__init__(
            name=_text(span.name),
            context=_context(span.get_span_context()),
            parent=_context(span.parent),
            resource=span.resource,
            attributes=_attributes(span.attributes),
            events=[Event(_text(event.name), _attributes(event.attributes), event.timestamp) for event in span.events],
            links=[Link(_context(link.context), _attributes(link.attributes)) for link in span.links],
            kind=span.kind,
            status=Status(span.status.status_code, span.status.description and _text(span.status.description)),
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )
        self._original = span

    @property
    def dropped_attributes(self) -> int:
        return self._original.dropped_attributes

    @property
    def dropped_events(self) -> int:
        return self._original.dropped_events

    @property
    def dropped_links(self) -> int:
        return self._original.dropped_links


@overload
def _context(context: SpanContext) -> SpanContext: ...
@overload
def _context(context: SpanContext | None) -> SpanContext | None: ...
def _context(context: SpanContext | None) -> SpanContext | None:
    """The same without those entries of tracestate, which any caller may send, that hold something private."""
    if context is None or not context.trace_state:
        return context
    kept = [(key, value) for key, value in context.trace_state.items() if _text(f"{key}={value}") == f"{key}={value}"]
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags, TraceState(kept))


def redact_query(query: str) -> str:
    """A URL's query with its fields redacted by name and by value, however they are encoded."""
    fields = parse_qsl(query, keep_blank_values=True)
    redacted = [(_text(name), str(_by_name(name, value))) for name, value in fields]
    return query if redacted == fields else urlencode(redacted, quote_via=quote, safe="[]")


def _attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {_text(key): _value(key, value) for key, value in (attributes or {}).items()}


def _value(key: str, value: Any) -> Any:
    if isinstance(value, str):
        return _known(key, value) if len(value) <= _CACHED else _field(key, value)
    if isinstance(value, int | float):
        return _known(key, value)
    if isinstance(value, tuple | list):
        return tuple(_value(key, item) for item in value)
    return _by_name(key, value)


def _field(key: str, value: str | float) -> Any:
    if key in _CLIENTS:
        return REDACTED
    if isinstance(value, str) and key in _URLS:
        address, mark, query = value.partition("?")
        return f"{_text(address)}{mark}{redact_query(query)}"
    if isinstance(value, str) and key == "url.query":
        return redact_query(value)
    # http.request.header.authorization is as private as an authorization is.
    if isinstance(value, str) and key in _SERVERS:
        return _text(value)
    redacted = _by_name(key, value)
    return _without_loose_end(value, redacted) if isinstance(value, str) else redacted


# Numbers that are equal are not the same: True, 1 and 1.0.
_known = lru_cache(maxsize=4096, typed=True)(_field)


def _by_name(key: str, value: Any) -> Any:
    return redact({key: value}).popitem()[1]


def _text(text: str) -> str:
    return _without_loose_end(text, redact_text(text))


def _without_loose_end(text: str, redacted: str) -> str:
    return f"{redacted[:-_LOOSE_END]}{_CUT}" if len(text) >= LONGEST_VALUE else redacted
