"""A copy of a span for an exporter, in which private or too long parts are replaced."""

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan


class CopiedSpan(ReadableSpan):
    """A copy with `parts` in place of the original's, and with the original's counts of dropped items.

    `parts` are the arguments of ReadableSpan that may hold what a request has sent. `dropped` attributes are counted
    beside those that the original has dropped.
    """

    def __init__(self, span: ReadableSpan, *, dropped: int = 0, **parts: Any) -> None:
        super().__init__(
            resource=span.resource,
            kind=span.kind,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
            **parts,
        )
        self._original = span
        self._dropped = dropped

    @property
    def dropped_attributes(self) -> int:
        return self._original.dropped_attributes + self._dropped

    @property
    def dropped_events(self) -> int:
        return self._original.dropped_events

    @property
    def dropped_links(self) -> int:
        return self._original.dropped_links
