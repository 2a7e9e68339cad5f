"""The sampler and the ID generator of request spans.

The decision depends on the trace id alone, as in TraceIdRatioBased, so every service that sees the trace decides alike.
`forced` passes the ids of a request, and that it is sampled, to the SDK for the one span that is started inside it.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

_LOW_64_BITS = TraceIdRatioBased.TRACE_ID_LIMIT


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of a span that is not started yet."""

    trace_id: int
    span_id: int


_forced: ContextVar[Ids | None] = ContextVar("forced", default=None)


class forced:  # noqa: N801 -- used as a function; a generator would cost three times as much
    """Give the span that is started inside these ids and sample it. Do not await inside."""

    __slots__ = ("_ids", "_token")

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def __enter__(self) -> None:
        self._token = _forced.set(self._ids)

    def __exit__(self, *_: object) -> None:
        _forced.reset(self._token)


class RequestIds(IdGenerator):
    """Generate random ids, except for a span whose ids are forced."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()

    def generate_trace_id(self) -> int:
        """Return the id of a new trace."""
        ids = _forced.get()
        return ids.trace_id if ids is not None else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        """Return the id of a new span."""
        ids = _forced.get()
        return ids.span_id if ids is not None else self._random.generate_span_id()


class RequestSampler(Sampler):
    """Sample `ratio` of the traces that begin here, what the caller samples, and each span that is forced.

    Without `parent_based`, a caller's decision is ignored: its traces are sampled by `ratio` too. A span inside the
    process always follows its parent.
    """

    def __init__(self, ratio: float, *, parent_based: bool = True) -> None:
        root = TraceIdRatioBased(ratio)
        self._usual = (
            ParentBased(root)
            if parent_based
            else ParentBased(root, remote_parent_sampled=root, remote_parent_not_sampled=root)
        )
        self.parent_based = parent_based
        self.bound = TraceIdRatioBased.get_bound_for_rate(ratio)

    def keeps(self, trace_id: int) -> bool:
        """Return whether a trace that begins here is sampled; only the low 64 bits of its id count."""
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
        """Decide for the SDK. Both samplers keep the caller's tracestate."""
        sampler = self._usual if _forced.get() is None else ALWAYS_ON
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return the sampler's description."""
        return f"RequestSampler{{bound={self.bound}}}"
