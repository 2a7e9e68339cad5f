"""Redaction of spans in front of the exporter, whatever instrumentation made them.

Engine and keys are those of the redaction package. This module adds what only spans have: dotted keys, URLs with
encoded queries, addresses of servers, and values that the SDK has truncated.

Constraint: strangers write queries, paths and headers, and may have their requests sampled, so that all of one span is
read within one budget.
"""

from collections.abc import Mapping, Sequence
from typing import Any, overload
from urllib.parse import parse_qsl, quote, urlencode

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, TraceState

from ..redaction import is_secret_key
from ..redaction.budget import Budget
from ..redaction.configuration import on_change
from ..redaction.structures import redact_field
from ..redaction.text import redact_within
from .copied_span import CopiedSpan

MAX_VALUE_LENGTH = 16_384
"""Characters that the SDK keeps of one value; see `tracing.configure`."""
MAX_NUMBERS = 128
"""Places of one span where a telephone, card or identity number may begin; see `redaction.budget`."""
# Longer than any form that the engine knows: a truncated value may end in the middle of one.
_CUT_MARGIN = 4_096
_CUT = "[cut]"
# Short values repeat; longer ones seldom do.
_MAX_CACHED_LENGTH = 256
_MAX_CACHED = 4_096

_PEER = "network.peer.address"
_SERVERS = frozenset({"server.address", _PEER, "network.local.address"})
_URLS = frozenset({"http.target", "http.url", "url.full", "url.original"})


class RedactingExporter(SpanExporter):
    """Redact names, attributes, events, links and status of spans. A span that cannot be redacted is not exported."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export redacted copies; `spans` themselves are unchanged."""
        return self._inner.export([_copy(span) for span in spans])

    def shutdown(self) -> None:
        """Shut the inner exporter down."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the inner exporter."""
        return self._inner.force_flush(timeout_millis)


def _copy(span: ReadableSpan) -> CopiedSpan:
    """Return a redacted copy."""
    budget = Budget(MAX_NUMBERS)
    return CopiedSpan(
        span,
        name=_text(span.name, budget),
        context=_context(span.get_span_context(), budget),
        parent=_context(span.parent, budget),
        status=_status(span.status, budget),
        attributes=_attributes(span.attributes, budget, server=span.kind is SpanKind.SERVER),
        events=[
            Event(_text(event.name, budget), _attributes(event.attributes, budget), event.timestamp)
            for event in span.events
        ],
        links=[Link(_context(link.context, budget), _attributes(link.attributes, budget)) for link in span.links],
    )


def _status(status: Status, budget: Budget) -> Status:
    return Status(status.status_code, status.description and _text(status.description, budget))


@overload
def _context(context: SpanContext, budget: Budget) -> SpanContext: ...
@overload
def _context(context: SpanContext | None, budget: Budget) -> SpanContext | None: ...
def _context(context: SpanContext | None, budget: Budget) -> SpanContext | None:
    """Return the context without private entries of tracestate, which any caller may send."""
    if context is None or not context.trace_state:
        return context
    entries = [(key, value, f"{key}={value}") for key, value in context.trace_state.items()]
    kept = [(key, value) for key, value, entry in entries if _text(entry, budget) == entry]
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags, TraceState(kept))


def redact_query(query: str, budget: Budget | None = None) -> str:
    """Return a URL's query with its fields redacted by name and by value, however they are encoded.

    Of a query with more than 1,000 fields, or more than the limits of one span, the rest is left out.
    """
    budget = budget or Budget(MAX_NUMBERS)
    first, rest = _first_fields(query, budget.items)
    fields = parse_qsl(first, keep_blank_values=True)
    budget.items -= len(fields)
    redacted = [_query_field(name, value, budget) for name, value in fields]
    clean = first if redacted == fields else urlencode(redacted, quote_via=quote, safe="[]#")
    return f"{clean}{_CUT}" if rest else clean


def _first_fields(query: str, most: int) -> tuple[str, bool]:
    """Return the query up to its field number `most`, and True if there are more."""
    end = -1
    for _ in range(most):
        end = query.find("&", end + 1)
        if end < 0:
            return query, False
    return query[: max(end, 0)], True


def _query_field(name: str, value: str, budget: Budget) -> tuple[str, str]:
    if not name or not value:  # most of what is no field at all; read once
        return _text(name, budget), _text(value, budget)
    shown, clean = redact_field(name, value, budget)
    return shown, str(clean)


def _attributes(
    attributes: Mapping[str, Any] | None, budget: Budget | None = None, *, server: bool = False
) -> dict[str, Any]:
    """Return redacted `attributes`; the peer of a `server` span is a client."""
    budget = budget or Budget(MAX_NUMBERS)
    found: dict[str, Any] = {}
    for key, value in (attributes or {}).items():
        shown = _text(key, budget)
        found[f"{shown} ({len(found)})" if shown in found else shown] = _value(key, value, budget)
    if server and attributes and _PEER in attributes:
        found[_PEER] = _value("client.address", attributes[_PEER], budget)
    return found


def _value(key: str, value: Any, budget: Budget) -> Any:
    if isinstance(value, str):
        return _known(key, value, budget) if len(value) <= _MAX_CACHED_LENGTH else _field(key, value, budget)
    if isinstance(value, int | float):
        return _known(key, value, budget)
    if isinstance(value, tuple | list):
        return tuple(_value(key, item, budget) for item in _first_items(value, budget))
    return _by_name(key, value, budget)


def _first_items(values: Sequence[Any], budget: Budget) -> Sequence[Any]:
    """Return the items that `budget` has left; the last one says how many are left out."""
    left = max(budget.items, 0)
    budget.items -= len(values)
    if len(values) <= left:
        return values
    # The items of an attribute have one type.
    return (*values[:left], f"[cut {len(values) - left} items]") if isinstance(values[0], str) else values[:left]


def _known(key: str, value: str | float, budget: Budget) -> Any:
    """Return the redacted value of a field, from the cache if it is there. The type is a part of the key: 1 is True."""
    entry = (key, value.__class__, value)
    found = _cache.get(entry)
    if found is None:
        found = _field(key, value, budget)
        if budget.numbers > 0 and budget.characters > 0:  # else it may be cut or masked
            if len(_cache) >= _MAX_CACHED:
                _cache.clear()
            _cache[entry] = found
    return found


_cache: dict[tuple[str, type, str | float], Any] = {}
on_change(_cache.clear)


def _field(key: str, value: str | float, budget: Budget) -> Any:
    if is_secret_key(key):
        return _by_name(key, value, budget)
    if isinstance(value, str) and key in _URLS:
        address, mark, query = value.partition("?")
        return f"{_text(address, budget)}{mark}{redact_query(query, budget)}"
    if isinstance(value, str) and key == "url.query":
        return redact_query(value, budget)
    # http.request.header.authorization is as private as an authorization is.
    if isinstance(value, str) and key in _SERVERS:
        return _text(value, budget)
    redacted = _by_name(key, value, budget)
    return _without_cut_margin(value, redacted) if isinstance(value, str) else redacted


def _by_name(key: str, value: Any, budget: Budget) -> Any:
    return redact_field(key, value, budget)[1]


def _text(text: str, budget: Budget) -> str:
    return _without_cut_margin(text, redact_within(text, budget))


def _without_cut_margin(text: str, redacted: str) -> str:
    return f"{redacted[:-_CUT_MARGIN]}{_CUT}" if len(text) >= MAX_VALUE_LENGTH else redacted
