"""The decision is made once, from the trace id alone, as everybody else makes it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from app.monitoring.traces.sampling import Ids, RequestIds, RequestSampler, forced

TRACE_IDS = st.integers(1, 2**128 - 1)
BOUNDARIES = [1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, 2**128 - 1, round(0.1 * 2**64) - 1, round(0.1 * 2**64)]
ROOT = Context()


@given(trace_id=TRACE_IDS | st.sampled_from(BOUNDARIES), ratio=st.floats(0, 1) | st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_a_trace_is_kept_where_trace_id_ratio_based_keeps_it(trace_id: int, ratio: float) -> None:
    theirs = TraceIdRatioBased(ratio).should_sample(ROOT, trace_id, "x").decision
    sampler = RequestSampler(ratio)
    assert sampler.keeps(trace_id) is (theirs is Decision.RECORD_AND_SAMPLE)
    assert sampler.should_sample(ROOT, trace_id, "x", SpanKind.SERVER).decision is theirs


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_the_share_that_is_kept_is_the_ratio(ratio: float) -> None:
    sampler = RequestSampler(ratio)
    kept = sum(sampler.keeps(random.getrandbits(128)) for _ in range(20_000))
    assert kept == pytest.approx(20_000 * ratio, abs=400)  # seven standard deviations


@given(flags=st.sampled_from([0, 1]), remote=st.booleans(), ratio=st.floats(0, 1))
def test_a_span_with_a_parent_is_kept_as_its_parent(flags: int, ratio: float, *, remote: bool) -> None:
    parent = SpanContext(1, 2, is_remote=remote, trace_flags=TraceFlags(flags), trace_state=TraceState([("a", "1")]))
    result = RequestSampler(ratio).should_sample(set_span_in_context(NonRecordingSpan(parent)), 1, "x")
    assert (result.decision is Decision.RECORD_AND_SAMPLE) is bool(flags)
    assert result.trace_state == parent.trace_state


@given(trace_id=TRACE_IDS, span_id=st.integers(1, 2**64 - 1))
def test_a_forced_span_is_kept_with_its_ids_and_only_that_one(trace_id: int, span_id: int) -> None:
    provider = TracerProvider(sampler=RequestSampler(0.0), id_generator=RequestIds(), shutdown_on_exit=False)
    tracer = provider.get_tracer("test")
    with forced(Ids(trace_id, span_id)):
        span = tracer.start_span("x", ROOT)
    context = span.get_span_context()
    assert (context.trace_id, context.span_id, context.trace_flags.sampled) == (trace_id, span_id, True)
    other = tracer.start_span("y", ROOT).get_span_context()
    assert not other.trace_flags.sampled
    assert (other.trace_id, other.span_id) != (trace_id, span_id)


def test_a_forced_span_keeps_the_parent_and_tracestate_of_its_caller() -> None:
    caller = SpanContext(7, 8, is_remote=True, trace_state=TraceState([("vendor", "value")]))
    provider = TracerProvider(sampler=RequestSampler(0.0), id_generator=RequestIds(), shutdown_on_exit=False)
    with forced(Ids(caller.trace_id, 9)):
        span = provider.get_tracer("test").start_span("x", set_span_in_context(NonRecordingSpan(caller), ROOT))
    context = span.get_span_context()
    assert (context.trace_id, context.trace_state) == (7, caller.trace_state)
    assert get_current_span(set_span_in_context(span)) is span


def test_what_fails_inside_leaves_nothing_forced() -> None:
    with pytest.raises(LookupError), forced(Ids(1, 2)):
        raise LookupError
    assert RequestIds().generate_trace_id() != 1
    assert RequestIds().generate_span_id() != 2


def test_a_sampler_says_what_it_is() -> None:
    assert RequestSampler(0.5).get_description() == f"RequestSampler{{bound={2**63}}}"
