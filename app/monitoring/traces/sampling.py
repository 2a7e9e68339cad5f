"""The sampler and the ID generator of request spans.

The decision about a trace that begins here depends on its id alone, as in TraceIdRatioBased, so every service that sees
the trace decides alike. The decision of a caller is followed within a bound.
`forced` passes the ids of a request, and that it is sampled, to the SDK for the one span that is started inside it.
"""

import random
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from .callers_decisions import CallersDecisions

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
    """Sample `ratio` of the traces that begin here, what callers sample as far as `callers` allows, and forced spans.

    Without `parent_based`, a caller's decision is ignored: its traces are sampled by `ratio` too. A caller chooses the
    id of its trace, so this is bounded by `callers` likewise; None is no bound. A span inside the process always
    follows its parent.
    """

    def __init__(self, ratio: float, *, parent_based: bool = True, callers: CallersDecisions | None = None) -> None:
        self._usual = ParentBased(TraceIdRatioBased(ratio))
        self._callers = callers
        self._ratio = ratio
        self.parent_based = parent_based
        self.bound = TraceIdRatioBased.get_bound_for_rate(ratio)

    def keeps(self, trace_id: int) -> bool:
        """Return whether a trace that begins here is sampled; only the low 64 bits of its id count."""
        return trace_id & _LOW_64_BITS < self.bound

    def wants(self, caller: SpanContext) -> bool:
        """Return whether a caller's trace is to be sampled, by its flag or, without `parent_based`, by its id."""
        return caller.trace_flags.sampled if self.parent_based else self.keeps(caller.trace_id)

    def admits(self) -> bool:
        """Return whether a caller's trace is sampled that is to be: by chance as one of our own, else by the bound.

        The trace's id does not count: a caller may choose one that the ratio samples.
        """
        if self._callers is None or random.random() < self._ratio:  # noqa: S311 -- a share, no secret
            return True
        return self._callers.honour()

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
        """Decide for the SDK. Every sampler keeps the caller's tracestate."""
        sampler: Sampler = self._usual
        parent = get_current_span(parent_context).get_span_context()
        if _forced.get() is not None:
            sampler = ALWAYS_ON
        elif parent.is_valid and parent.is_remote:
            sampler = ALWAYS_ON if self.wants(parent) and self.admits() else ALWAYS_OFF
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """Return the sampler's description."""
        return f"RequestSampler{{bound={self.bound}}}"
