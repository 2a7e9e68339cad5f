"""Which requests are traced, decided once a request and before anything is paid for it.

The constraint to know: the decision is made from the trace id alone, as TraceIdRatioBased makes it, so every service
that sees the trace decides alike. What a span's ids and sampling shall be is handed to the SDK by `forced`, which
holds for the one span that is started inside it.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

_LOW_64_BITS = TraceIdRatioBased.TRACE_ID_LIMIT


@dataclass(frozen=True, slots=True)
class Ids:
    """A span that is yet to be started."""

    trace_id: int
    span_id: int


_forced: ContextVar[Ids | None] = ContextVar("forced", default=None)


class forced:  # noqa: N801 -- used as a function; a generator would cost three times as much
    """Have the span that is started inside carry these ids and be sampled. Nothing inside may wait."""

    __slots__ = ("_ids", "_token")

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def __enter__(self) -> None:
        self._token = _forced.set(self._ids)

    def __exit__(self, *_: object) -> None:
        _forced.reset(self._token)


class RequestIds(IdGenerator):
    """Random ids, but for a span whose ids are known already."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        """Of a trace that begins here."""
        ids = _forced.get()
        return ids.trace_id if ids is not None else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        """Of any span."""
        ids = _forced.get()
        return ids.span_id if ids is not None else self._random.generate_span_id()


class RequestSampler(Sampler):
    """Keeps `ratio` of the traces that begin here and whatever the caller keeps, and each span that is forced."""

    def __init__(self, ratio: float) -> None:
        self._usual = ParentBasedTraceIdRatio(ratio)
        self.bound = TraceIdRatioBased.get_bound_for_rate(ratio)

    def keeps(self, trace_id: int) -> bool:
        """Whether a trace that begins here is kept; only the low 64 bits of its id count."""
        return trace_id & _LOW_64_BITS < self.bound

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """The SDK's question."""
        # Either keeps the caller's tracestate.
        sampler = self._usual if _forced.get() is None else ALWAYS_ON
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """For the SDK's records."""
        return f"RequestSampler{{bound={self.bound}}}"
