"""Limits of attributes behind redaction, for spans of the SDK and of this package alike."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link

from .copied_span import CopiedSpan
from .limits import Limits


def sdk_limits(limits: Limits, length: int) -> SpanLimits:
    """Return the SDK's limits: the counts, and `length` characters of a value, which is cut before redaction."""

    def of(count: int | None) -> int:
        return SpanLimits.UNSET if count is None else count

    return SpanLimits(
        max_attributes=of(limits.attributes),
        max_span_attributes=of(limits.attributes),
        max_event_attributes=of(limits.event_attributes),
        max_link_attributes=of(limits.link_attributes),
        max_events=of(limits.events),
        max_links=of(limits.links),
        max_attribute_length=length,
        max_span_attribute_length=length,
    )


class LimitingExporter(SpanExporter):
    """Cut the values of redacted spans and drop attributes above the limit; the first ones stay."""

    def __init__(self, inner: SpanExporter, limits: Limits) -> None:
        self._inner = inner
        self._limits = limits

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export limited copies; `spans` themselves are unchanged."""
        return self._inner.export([_copy(span, self._limits) for span in spans])

    def shutdown(self) -> None:
        """Shut the inner exporter down."""
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Flush the inner exporter."""
        return self._inner.force_flush(timeout_millis)


def _copy(span: ReadableSpan, limits: Limits) -> CopiedSpan:
    """Return a copy within limits, which counts what was dropped."""
    attributes = _limited(span.attributes, limits.attributes, limits.span_length)
    return CopiedSpan(
        span,
        dropped=len(span.attributes or ()) - len(attributes),
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        status=span.status,
        attributes=attributes,
        events=[
            Event(event.name, _limited(event.attributes, None, limits.length), event.timestamp) for event in span.events
        ],
        links=[Link(link.context, _limited(link.attributes, None, limits.length)) for link in span.links],
    )


def _limited(attributes: Mapping[str, Any] | None, count: int | None, length: int | None) -> dict[str, Any]:
    return {key: _cut(value, length) for key, value in islice((attributes or {}).items(), count)}


def _cut(value: Any, length: int | None) -> Any:
    """Return texts with at most `length` characters, in sequences too, as OpenTelemetry defines it."""
    if length is None:
        return value
    if isinstance(value, str | bytes):
        return value[:length]
    return tuple(_cut(item, length) for item in value) if isinstance(value, tuple | list) else value
