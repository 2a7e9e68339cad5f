"""Callers have a bounded rate of requests sampled beyond the service's own share, by flag and by trace id alike."""

import random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.util.http import parse_excluded_urls
from prometheus_client import CollectorRegistry, Counter

from app.monitoring import Options, tracing
from app.monitoring.metrics.catalogue import build_catalogue
from app.monitoring.traces.callers_decisions import MAX_FORCED_SAMPLES, CallersDecisions
from app.monitoring.traces.request_span import RequestTracer
from app.monitoring.traces.sampling import RequestIds, RequestSampler
from app.monitoring.traces.token_bucket import TokenBucket
from tests.middleware.applications import Records
from tests.middleware.wire import Wire
from tests.monitoring.test_tracing import COMMON
from tests.monitoring.traced import MAKERS, Maker

LOW, HIGH = 1, 2**64 - 1
"""Trace ids that every share but 0 samples, and none but 1."""


class Clock:
    """Seconds that a test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bound:
    """A sampler with a bound of `rate` a second."""

    def __init__(self, rate: float, ratio: float = 0.0, *, parent_based: bool = True) -> None:
        self.clock, self._registry = Clock(), CollectorRegistry()
        counter = Counter("samples", "", ("decision",), registry=self._registry)
        callers = CallersDecisions(rate, counter, self.clock)
        self.sampler = RequestSampler(ratio, parent_based=parent_based, callers=callers)
        self.provider = TracerProvider(sampler=self.sampler, id_generator=RequestIds(), shutdown_on_exit=False)
        self.memory = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self.memory))

    def counted(self) -> tuple[float | None, float | None]:
        """Return the decisions that were honoured and refused."""
        found = [self._registry.get_sample_value("samples_total", {"decision": one}) for one in ("honoured", "refused")]
        return found[0], found[1]

    def requests(self, count: int, seconds: float, trace_id: int = HIGH, flags: int = 1, excluded: str = "") -> int:
        """Begin `count` requests within `seconds`; return how many are sampled."""
        tracer = RequestTracer(self.provider, parse_excluded_urls(excluded))
        parent = f"00-{trace_id:032x}-00f067aa0ba902b7-{flags:02x}".encode()
        sampled = 0
        for _ in range(count):
            span = tracer.begin(Wire(headers=((b"traceparent", parent),)).scope, parent)
            assert span.trace_id == f"{trace_id:032x}"
            assert span.flags & TraceFlags.RANDOM_TRACE_ID == flags & TraceFlags.RANDOM_TRACE_ID
            assert span.is_recording() is bool(span.flags.sampled)
            sampled += span.flags.sampled
            self.clock.now += seconds / count
        return sampled


@pytest.mark.parametrize(("rate", "sampled"), [(20, 20 + 199), (1, 1 + 9), (0.1, 1 + 0), (0, 0)])
def test_of_1000_forced_requests_in_10_seconds_the_rate_and_a_burst_are_sampled(rate: float, sampled: int) -> None:
    bound = Bound(rate)
    assert bound.requests(1000, 10.0) == pytest.approx(sampled, abs=1)
    honoured, refused = bound.counted()
    assert honoured == pytest.approx(sampled, abs=1)
    assert refused == pytest.approx(1000 - sampled, abs=1)


@pytest.mark.parametrize("trace_id", [LOW, HIGH])
def test_beyond_the_bound_our_own_share_decides_whatever_the_id(trace_id: int) -> None:
    random.seed(16)
    bound = Bound(20, ratio=0.1)
    assert bound.requests(1000, 1.0, trace_id) == pytest.approx(100 + 40, abs=50)  # five standard deviations
    honoured, refused = bound.counted()
    assert honoured is not None
    assert refused is not None
    assert honoured == pytest.approx(40, abs=1)
    assert honoured + refused == pytest.approx(900, abs=50)


def test_a_chosen_id_is_bounded_where_flags_do_not_count() -> None:
    random.seed(16)
    assert Bound(20, ratio=0.1, parent_based=False).requests(1000, 1.0, LOW, flags=0) == pytest.approx(140, abs=50)
    assert Bound(20, ratio=0.1, parent_based=False).requests(100, 1.0, HIGH, flags=1) == 0


def test_a_share_of_1_refuses_nothing() -> None:
    bound = Bound(0, ratio=1.0)
    assert bound.requests(500, 0.1) == 500
    assert bound.counted() == (0, 0)


@pytest.mark.parametrize(("flags", "excluded"), [(0, ""), (1, ".*")])
def test_a_request_without_a_span_takes_nothing_of_the_bound(flags: int, excluded: str) -> None:
    bound = Bound(20, ratio=0.5)
    assert bound.requests(100, 1.0, LOW, flags=flags, excluded=excluded) == 0
    assert bound.counted() == (0, 0)


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_a_span_of_another_instrumentation_is_bounded_too(flags: int) -> None:
    bound = Bound(5)
    caller = SpanContext(HIGH, 2, is_remote=True, trace_flags=TraceFlags(flags))
    parent = set_span_in_context(NonRecordingSpan(caller), Context())
    tracer = bound.provider.get_tracer("theirs")
    spans = [tracer.start_span("x", parent).get_span_context() for _ in range(50)]
    assert sum(span.trace_flags.sampled for span in spans) == (5 if flags & 1 else 0)
    assert {span.trace_id for span in spans} == {HIGH}


@pytest.mark.parametrize("name", MAKERS)
async def test_the_bound_holds_for_both_makers_and_failures_are_kept(name: Literal["layer", "instrumentation"]) -> None:
    bound, records = Bound(1), Records()
    bound.provider.add_span_processor(SimpleSpanProcessor(records.exporter))
    parent = (b"traceparent", f"00-{HIGH:032x}-00f067aa0ba902b7-01".encode())

    class Answer:
        error = None

        def __init__(self, status: int) -> None:
            self.status = status

        async def __call__(self, _scope: object, _receive: object, send: object) -> None:
            await send({"type": "http.response.start", "status": self.status, "headers": []})  # type: ignore[operator]
            await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]

    for status in (200, 200, 503):
        await Maker(name).observe(records, Answer(status), parent, provider=bound.provider)
    found = bound.memory.get_finished_spans()
    assert [dict(span.attributes or {}).get("sampling.kept_because") for span in found] == [None, "error"]
    assert {span.context.trace_id for span in found if span.context} == {HIGH}
    assert bound.counted() == (1, 2)


@settings(max_examples=80, deadline=None)
@given(rate=st.floats(0, 100), steps=st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_a_bucket_never_gives_more_than_its_rate_and_one_burst(rate: float, steps: list[float]) -> None:
    clock = Clock()
    bucket = TokenBucket(rate, clock)
    taken = 0
    for step in steps:
        clock.now += step
        taken += bucket.take()
    assert taken <= (max(rate, 1.0) if rate else 0.0) + rate * sum(steps) + 1e-6


def test_a_worker_has_the_bound_and_exposes_both_decisions(
    installed: list[TracerProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = CollectorRegistry()
    made = build_catalogue(own)
    monkeypatch.setattr(tracing, "catalogue", lambda: made)
    provider = tracing.configure(exporter="none", max_forced_samples=3, **COMMON)
    caller = SpanContext(HIGH, 2, is_remote=True, trace_flags=TraceFlags(1))
    parent = set_span_in_context(NonRecordingSpan(caller), Context())
    tracer = provider.get_tracer("x")
    sampled = [tracer.start_span("x", parent).get_span_context().trace_flags.sampled for _ in range(500)]
    assert 3 <= sum(sampled) < 50
    name = "baliblissed_caller_samples_total"
    honoured, refused = (own.get_sample_value(name, {"decision": one}) for one in ("honoured", "refused"))
    assert (honoured, refused) == (sum(sampled), 500 - sum(sampled))


def test_the_default_is_that_of_the_options() -> None:

    assert Options().max_forced_samples == MAX_FORCED_SAMPLES
