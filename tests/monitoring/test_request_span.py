"""Sampling and contents of request spans, for both implementations of them (see traced.py)."""

from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.http import parse_excluded_urls
from prometheus_client import CollectorRegistry
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.monitoring.traces import request_span
from app.monitoring.traces.request_span import KEPT, RequestTracer
from tests.middleware.applications import Records
from tests.middleware.wire import Wire
from tests.monitoring.traced import MAKERS, Maker

SAME_ATTRIBUTES = {
    "http.request.method": "GET",
    "http.route": "/trips/{trip}",
    "http.response.status_code": 503,
    "error.type": "503",
    "url.scheme": "https",
    "url.path": "/trips/7",
    "url.query": "day=1",
    "network.protocol.version": "2",
    "server.address": "testserver",
    "client.address": "198.51.100.0/24",
    "network.peer.address": "198.51.100.0/24",
}
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SLOW = 0.25
STARTED = 1_700_000_000_000_000_000
Pair = tuple[bytes, bytes]


class Route:
    """A stub of the route that the router stores in the scope."""

    path = "/trips/{trip}"


class Clock:
    """A fake of both clocks that the layer reads. Handlers advance it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return 5000.0 + self.seconds

    def time_ns(self) -> int:
        return STARTED + round(self.seconds * 1e9)


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Maker:
    made = Maker(request.param)
    made.use_new_names(monkeypatch)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("app.monitoring.requests.layer.time", SimpleNamespace(perf_counter=made.perf_counter))
    for module in ("request_span", "instrumented"):
        monkeypatch.setattr(f"app.monitoring.traces.{module}.time", SimpleNamespace(time_ns=made.time_ns))
    return made


class Handler:
    """An application that responds with `status` after `seconds` or raises, and records the current span."""

    def __init__(self, clock: Clock, status: int, seconds: float, error: Exception | None = None) -> None:
        self.clock, self.status, self.seconds, self.error = clock, status, seconds, error
        self.current = trace.INVALID_SPAN_CONTEXT

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        scope["route"] = Route()
        self.current = trace.get_current_span().get_span_context()
        self.clock.seconds += self.seconds
        if self.error is not None and not self.status:
            raise self.error
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        if self.error is not None:
            raise self.error
        await send({"type": "http.response.body", "body": b""})


def exemplars(registry: CollectorRegistry) -> list[dict[str, str]]:
    """Return the labels of all exemplars."""
    samples = [sample for family in registry.collect() for sample in family.samples]
    return [dict(sample.exemplar.labels) for sample in samples if sample.exemplar]


@pytest.mark.parametrize(
    ("status", "seconds", "error", "answered", "reason"),
    [
        (500, 0.0, None, 500, "error"),
        (503, 0.1, None, 503, "error"),
        (599, 0.1, None, 599, "error"),
        (0, 0.1, LookupError("before the start"), 500, "error"),
        (200, 0.1, LookupError("in mid-stream"), 500, "error"),
        (200, SLOW, None, 200, "slow"),
        (404, 30.0, None, 404, "slow"),
        (500, 30.0, None, 500, "error"),
    ],
)
@pytest.mark.parametrize("caller", [None, b"00"], ids=["alone", "called by one that keeps nothing"])
async def test_at_no_sampling_whatever_fails_or_is_slow_has_its_span(
    maker: Maker,
    clock: Clock,
    status: int,
    seconds: float,
    error: Exception | None,
    answered: int,
    reason: str,
    caller: bytes | None,
) -> None:
    records, handler = Records(ratio=0.0, slow=SLOW), Handler(clock, status, seconds, error)
    headers = [(b"traceparent", f"00-{TRACE}-{CALLER}-".encode() + caller)] if caller else []
    lines = await maker.observe(records, handler, *headers)
    (span,) = records.spans()
    assert (span.kind, span.name) == (SpanKind.SERVER, "GET /trips/{trip}")
    assert (span.start_time, span.end_time) == (STARTED, STARTED + round(seconds * 1e9))
    attributes = dict(span.attributes or {})
    assert attributes[KEPT] == reason
    assert attributes["http.route"] == "/trips/{trip}"
    assert attributes["http.response.status_code"] == answered
    assert (span.status.status_code is StatusCode.ERROR) is (answered >= 500)
    expected = None if answered < 500 else "LookupError" if error else str(answered)
    assert attributes.get("error.type") == expected
    assert [event.name for event in span.events] == (["exception"] if error else [])
    assert span.context is not None
    ids = {"trace_id": f"{span.context.trace_id:032x}", "span_id": f"{span.context.span_id:016x}"}
    assert ids == {"trace_id": f"{handler.current.trace_id:032x}", "span_id": f"{handler.current.span_id:016x}"}
    assert not handler.current.trace_flags.sampled
    assert {key: lines[-1][key] for key in ids} == ids
    assert exemplars(records.registry) == [ids] * 2
    assert (span.parent.span_id if span.parent else None) == (int(CALLER, 16) if caller else None)
    assert ids["trace_id"] == TRACE or not caller


@pytest.mark.parametrize(("status", "seconds"), [(200, 0.0), (404, 0.1), (499, SLOW - 0.01), (302, 0.0)])
async def test_at_no_sampling_nothing_else_has_one(maker: Maker, clock: Clock, status: int, seconds: float) -> None:
    records = Records(ratio=0.0, slow=SLOW)
    (line,) = await maker.observe(records, Handler(clock, status, seconds))
    assert records.spans() == ()
    assert exemplars(records.registry) == []
    assert len(line["trace_id"]) == 32


async def test_without_an_exporter_nothing_is_kept_for_its_end(maker: Maker, clock: Clock) -> None:
    records = Records(ratio=0.0)
    await maker.observe(records, Handler(clock, 500, 9.0), late=False)
    assert records.spans() == ()


async def test_a_request_that_was_sampled_has_one_span_and_needs_no_reason(maker: Maker, clock: Clock) -> None:
    records, handler = Records(ratio=1.0, slow=SLOW), Handler(clock, 503, 9.0)
    (line,) = await maker.observe(records, handler, query_string=b"day=1", scheme="https", http_version="2")
    (span,) = records.spans()
    assert dict(span.attributes or {}) == {**SAME_ATTRIBUTES, **maker.attributes}
    assert handler.current == span.context
    assert line["span_id"] == f"{handler.current.span_id:016x}"


@pytest.mark.parametrize(
    ("method", "name", "attribute"), [("PUT", "PUT /trips/{trip}", "PUT"), ("BREW", "HTTP /trips/{trip}", "_OTHER")]
)
async def test_an_odd_method_names_no_span(maker: Maker, clock: Clock, method: str, name: str, attribute: str) -> None:
    records = Records()
    await maker.observe(records, Handler(clock, 200, 0.0), method=method)
    (span,) = records.spans()
    assert span.attributes is not None
    assert (span.name, span.attributes["http.request.method"]) == (name, attribute)


SAMPLED, NOT = f"00-{TRACE}-{CALLER}-01", f"00-{TRACE}-{CALLER}-00"


@pytest.mark.parametrize(
    ("traceparent", "ratio", "taken_over", "sampled"),
    [
        (SAMPLED, 0.0, True, True),
        (SAMPLED, 1.0, True, True),
        (NOT, 0.0, True, False),
        (NOT, 1.0, True, False),
        (f"00-{TRACE}-{CALLER}-03", 0.0, True, True),
        (f"00-{TRACE}-{CALLER}-ff", 0.0, True, True),
        (f"cc-{TRACE}-{CALLER}-01-more", 0.0, True, True),
        (f"00-{TRACE}-{CALLER}-01-more", 0.0, False, False),
        (f"ff-{TRACE}-{CALLER}-01", 0.0, False, False),
        (f"00-{'0' * 32}-{CALLER}-01", 1.0, False, True),
        (f"00-{TRACE}-{'0' * 16}-01", 0.0, False, False),
        (f"00-{TRACE.upper()}-{CALLER}-01", 1.0, False, True),
        (f"00-{TRACE}-{CALLER}", 0.0, False, False),
        (f"00-{TRACE}-{CALLER}-01" + "0" * 9000, 0.0, False, False),
        ("", 1.0, False, True),
        ("\x00\xff", 1.0, False, True),
    ],
)
async def test_a_callers_decision_is_taken_over_if_it_can_be_read(
    maker: Maker, clock: Clock, traceparent: str, ratio: float, *, taken_over: bool, sampled: bool
) -> None:
    records, handler = Records(ratio=ratio), Handler(clock, 200, 0.0)
    await maker.observe(records, handler, (b"traceparent", traceparent.encode("latin-1")))
    assert (f"{handler.current.trace_id:032x}" == TRACE) is taken_over
    assert handler.current.trace_flags.sampled is sampled
    assert [span.parent is not None for span in records.spans()] == [taken_over] * sampled


@pytest.mark.parametrize("flags", ["00", "01"])
@pytest.mark.parametrize("status", [200, 500])
async def test_tracestate_and_baggage_go_through(maker: Maker, clock: Clock, flags: str, status: int) -> None:
    records, seen = Records(ratio=0.0), []
    handler = Handler(clock, status, 0.0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(baggage.get_all())
        await handler(scope, receive, send)

    await maker.observe(
        records,
        app,
        (b"traceparent", f"00-{TRACE}-{CALLER}-{flags}".encode()),
        (b"tracestate", b"vendor=1"),
        (b"tracestate", b"other=2"),
        (b"baggage", b"who=me"),
    )
    assert handler.current.trace_state.to_header() == "vendor=1,other=2"
    assert seen == [{"who": "me"}]
    for span in records.spans():
        assert span.context is not None
        assert span.context.trace_state.to_header() == "vendor=1,other=2"


HEX = st.text("0123456789abcdef", min_size=1, max_size=34)
PARENTS = st.one_of(
    st.builds(
        "{}-{}-{}-{}{}".format,
        st.sampled_from(["00", "00", "01", "ff", "0", "0g"]),
        st.sampled_from([TRACE, "0" * 32, TRACE.upper(), TRACE[1:]]) | HEX,
        st.sampled_from([CALLER, "0" * 16, CALLER + "0"]) | HEX,
        st.sampled_from(["00", "01", "02", "03", "ff", "1", "0x", "+1", " 1", "0_1"]),
        st.sampled_from(["", "", "-", "-x", " ", "\n"]),
    ),
    st.text(max_size=60),
)


@example(traceparent=f"00-{TRACE}-{CALLER}-ff", tracestate="a=1", bag=None)
@given(
    traceparent=PARENTS,
    tracestate=st.none() | st.sampled_from(["a=1", "a=1,b=2", "", "=", "a", "a=1,a=2", "a" * 600]),
    bag=st.none() | st.sampled_from(["a=1", "a", ";", "a=1;b=2,c=3"]),
)
def test_headers_are_read_as_the_library_reads_them(traceparent: str, tracestate: str | None, bag: str | None) -> None:
    headers = [(b"traceparent", traceparent.encode("latin-1", "replace"))]
    headers += [(b"tracestate", tracestate.encode())] if tracestate is not None else []
    headers += [(b"baggage", bag.encode())] if bag is not None else []
    scope: Scope = {"type": "http", "headers": headers}
    context, caller = request_span._caller(scope)
    theirs = TraceContextTextMapPropagator().extract(Headers(scope=scope), Context())
    expected = trace.get_current_span(theirs).get_span_context()
    if not expected.is_valid:
        assert (caller, context) == (None, Context())
        return
    # But for flags that nobody knows: they are not passed on.
    assert caller == SpanContext(
        expected.trace_id, expected.span_id, True, TraceFlags(expected.trace_flags & 3), expected.trace_state
    )
    assert caller.is_remote
    assert baggage.get_all(context) == baggage.get_all(W3CBaggagePropagator().extract(Headers(scope=scope), Context()))


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("headers", [(), ((b"traceparent", SAMPLED.encode()),)])
async def test_an_excluded_request_has_no_span_and_its_children_none(
    maker: Maker, clock: Clock, ratio: float, status: int, headers: tuple[Pair, ...]
) -> None:
    records = Records(ratio=ratio, slow=SLOW, excluded_urls="^https?://[^/]+/trips")
    handler = Handler(clock, status, 9.0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with records.provider.get_tracer("child").start_as_current_span("child"):
            await handler(scope, receive, send)

    await maker.observe(records, app, *headers)
    assert records.spans() == ()
    assert not handler.current.trace_flags.sampled


def test_with_the_sampler_of_another_provider_nothing_is_kept_for_its_end() -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    tracer = RequestTracer(provider, parse_excluded_urls(""))
    assert tracer.end(tracer.begin(Wire().scope, None), "/x", 503, 9.0) is False


@pytest.mark.parametrize(("sampler", "spans"), [(ALWAYS_ON, 1), (ALWAYS_OFF, 0)])
async def test_the_sampler_of_another_provider_decides_itself(
    maker: Maker, clock: Clock, sampler: Sampler, spans: int
) -> None:
    records = Records()
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider._active_span_processor = records.provider._active_span_processor
    handler = Handler(clock, 200, 0.0)
    lines = await maker.observe(records, handler, provider=provider)
    found: tuple[ReadableSpan, ...] = records.spans()
    assert len(found) == spans
    for span in found:
        assert span.context is not None
        assert f"{span.context.span_id:016x}" == lines[0]["span_id"] == f"{handler.current.span_id:016x}"


@pytest.mark.parametrize(("flags", "excluded", "kept"), [("02", "", 2), ("03", "", 3), ("03", "/trips", 2)])
async def test_that_the_trace_id_is_random_is_passed_on(clock: Clock, flags: str, excluded: str, kept: int) -> None:
    records, handler = Records(ratio=0.0, excluded_urls=excluded), Handler(clock, 200, 0.0)
    await Maker("layer").observe(records, handler, (b"traceparent", f"00-{TRACE}-{CALLER}-{flags}".encode()))
    assert handler.current.trace_flags == kept
