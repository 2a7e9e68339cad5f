"""Redaction of spans in front of the exporter, whatever instrumentation made them.

Engine and keys are those of the redaction package. This module adds what only spans have: dotted keys, URLs with
encoded queries, addresses of servers, and values that the SDK has truncated.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, overload
from urllib.parse import parse_qsl, quote, urlencode

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, TraceState

from ..redaction import is_secret_key, redact, redact_text
from ..redaction.configuration import on_change

MAX_VALUE_LENGTH = 16_384
"""Characters that the SDK keeps of one value; see `tracing.configure`."""
# Longer than any form that the engine knows: a truncated value may end in the middle of one.
_CUT_MARGIN = 4_096
_CUT = "[cut]"
# Short values repeat; longer ones seldom do.
_MAX_CACHED_LENGTH = 256

_PEER = "network.peer.address"
_SERVERS = frozenset({"server.address", _PEER, "network.local.address"})
_URLS = frozenset({"http.target", "http.url", "url.full", "url.original"})


class RedactingExporter(SpanExporter):
    """Redact names, attributes, events, links and status of spans. A span that cannot be redacted is not exported."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export redacted copies; `spans` themselves are unchanged."""
        return self._inner.export([_RedactedSpan(span) for span in spans])

    def shutdown(self) -> None:
        """Shut the inner exporter down."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the inner exporter."""
        return self._inner.force_flush(timeout_millis)


class _RedactedSpan(ReadableSpan):
    """A redacted copy with the original's counts of dropped items."""

    def __init__(self, span: ReadableSpan) -> None:
        super().__init__(
            name=_text(span.name),
            context=_context(span.get_span_context()),
            parent=_context(span.parent),
            resource=span.resource,
            attributes=_attributes(span.attributes, server=span.kind is SpanKind.SERVER),
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
    """Return the context without private entries of tracestate, which any caller may send."""
    if context is None or not context.trace_state:
        return context
    kept = [(key, value) for key, value in context.trace_state.items() if _text(f"{key}={value}") == f"{key}={value}"]
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags, TraceState(kept))


def redact_query(query: str) -> str:
    """Return a URL's query with its fields redacted by name and by value, however they are encoded."""
    fields = parse_qsl(query, keep_blank_values=True)
    redacted = [(_text(name), str(_by_name(name, value))) for name, value in fields]
    return query if redacted == fields else urlencode(redacted, quote_via=quote, safe="[]")


def _attributes(attributes: Mapping[str, Any] | None, *, server: bool = False) -> dict[str, Any]:
    """Return redacted `attributes`; the peer of a `server` span is a client."""
    found = {_text(key): _value(key, value) for key, value in (attributes or {}).items()}
    if server and attributes and _PEER in attributes:
        found[_PEER] = _value("client.address", attributes[_PEER])
    return found


def _value(key: str, value: Any) -> Any:
    if isinstance(value, str):
        return _known(key, value) if len(value) <= _MAX_CACHED_LENGTH else _field(key, value)
    if isinstance(value, int | float):
        return _known(key, value)
    if isinstance(value, tuple | list):
        return tuple(_value(key, item) for item in value)
    return _by_name(key, value)


def _field(key: str, value: str | float) -> Any:
    if is_secret_key(key):
        return _by_name(key, value)
    if isinstance(value, str) and key in _URLS:
        address, mark, query = value.partition("?")
        return f"{_text(address)}{mark}{redact_query(query)}"
    if isinstance(value, str) and key == "url.query":
        return redact_query(value)
    # http.request.header.authorization is as private as an authorization is.
    if isinstance(value, str) and key in _SERVERS:
        return _text(value)
    redacted = _by_name(key, value)
    return _without_cut_margin(value, redacted) if isinstance(value, str) else redacted


# typed: True, 1 and 1.0 are equal, but not the same value.
_known = lru_cache(maxsize=4096, typed=True)(_field)
on_change(_known.cache_clear)


def _by_name(key: str, value: Any) -> Any:
    return redact({key: value}).popitem()[1]


def _text(text: str) -> str:
    return _without_cut_margin(text, redact_text(text))


def _without_cut_margin(text: str, redacted: str) -> str:
    return f"{redacted[:-_CUT_MARGIN]}{_CUT}" if len(text) >= MAX_VALUE_LENGTH else redacted
