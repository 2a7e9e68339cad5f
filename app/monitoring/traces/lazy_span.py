"""A span that holds only its ids until something writes to it; the SDK's span is made then."""

from collections.abc import Callable, Mapping
from threading import RLock
from types import MappingProxyType
from typing import Any, Final

from opentelemetry.trace import Span, SpanContext, Status, StatusCode, TraceFlags, TraceState
from opentelemetry.util.types import Attributes, AttributeValue

from .recorded import record

NOT_SAMPLED: Final = TraceFlags(TraceFlags.DEFAULT)
SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_NO_STATE: Final = TraceState()
# One lock for all spans: a first write by two threads at once is rare.
_making = RLock()


class LazySpan(Span):
    """A span with given ids. Its maker ends it; `end` does nothing.

    `make` is called at most once, and only if `flags` are sampled; it returns the SDK's span with these ids.
    """

    __slots__ = ("_context", "_make", "ended", "flags", "made", "span_id", "state", "trace_id")

    def __init__(
        self,
        trace_id: str,
        span_id: str,
        flags: TraceFlags,
        state: TraceState | None,
        make: Callable[["LazySpan"], Span],
    ) -> None:
        self.trace_id, self.span_id = trace_id, span_id
        """In hexadecimal, as in logs and exemplars."""
        self.flags = flags
        self.state = _NO_STATE if state is None else state
        self.made: Span | None = None
        self.ended = False
        self._context: SpanContext | None = None
        self._make = make

    def get_span_context(self) -> SpanContext:
        """Return the context that children and calls downstream take over."""
        context = self._context
        if context is None:
            context = self._context = SpanContext(
                int(self.trace_id, 16), int(self.span_id, 16), False, self.flags, self.state
            )
        return context

    def become(self, span: Span) -> None:
        """Take the ids of `span`, which exists already, and write to it."""
        self._context = context = span.get_span_context()
        self.trace_id, self.span_id = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        self.flags, self.state = context.trace_flags, context.trace_state
        self.made = span if span.is_recording() else None

    def is_recording(self) -> bool:
        """Return whether writing has an effect."""
        return self.flags & TraceFlags.SAMPLED != 0 and not self.ended

    def sdk(self) -> Span | None:
        """Return the SDK's span, made now if the span is recording; None if it is not or has ended."""
        if self.made is None and self.is_recording():
            with _making:
                if self.made is None:
                    self.made = self._make(self)
        return None if self.ended else self.made

    def end(self, end_time: int | None = None) -> None:
        """Do nothing: the maker of the span ends it."""

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """See opentelemetry.trace.Span."""
        if (span := self.sdk()) is not None:
            span.set_attributes(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """See opentelemetry.trace.Span."""
        if (span := self.sdk()) is not None:
            span.set_attribute(key, value)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """See opentelemetry.trace.Span."""
        if (span := self.sdk()) is not None:
            span.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """See opentelemetry.trace.Span."""
        if (span := self.sdk()) is not None:
            span.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        """See opentelemetry.trace.Span."""
        if (span := self.sdk()) is not None:
            span.update_name(name)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """See opentelemetry.trace.Span."""
        if (span := self.sdk()) is not None:
            span.set_status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: FBT001, FBT002 -- the signature is the API's
    ) -> None:
        """See opentelemetry.trace.Span."""
        if (span := self.sdk()) is not None:
            record(span, exception, attributes, timestamp, escaped)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The attributes of the SDK's span, which instrumentations read."""
        return getattr(self.sdk(), "attributes", None) or MappingProxyType({})
