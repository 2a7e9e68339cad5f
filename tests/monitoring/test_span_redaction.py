"""Private values are removed from spans of any source, wherever they are; ordinary values are exported unchanged."""

from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from structlog.testing import capture_logs

from app.monitoring.traces import span_redaction
from app.monitoring.traces.exporter import ReportingExporter
from app.monitoring.traces.span_redaction import MAX_VALUE_LENGTH, RedactingExporter, redact_query
from tests.middleware.applications import Records, fastapi_house
from tests.middleware.wire import Wire

EMAIL, KEY, BEARER = "made.sari@ubud-villas.example", "sk-9f8e7d6c5b4a3210", "Bearer abcdef0123456789"
CANARIES = (EMAIL, KEY, BEARER, "hunter2hunter2")


def exported(make: Any, limits: SpanLimits | None = None) -> tuple[ReadableSpan, ReadableSpan]:
    """Return the span that `make` fills, before and after its export."""
    raw, kept = InMemorySpanExporter(), InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False, span_limits=limits)
    provider.add_span_processor(SimpleSpanProcessor(raw))
    provider.add_span_processor(SimpleSpanProcessor(RedactingExporter(kept)))
    make(provider.get_tracer("somebody's"))
    return raw.get_finished_spans()[-1], kept.get_finished_spans()[-1]


def look_up(guest: str) -> None:
    raise LookupError(f"no such guest: {guest}")


def everything(tracer: Any) -> None:
    """Fill a span with a secret in each of its places."""
    link = Link(SpanContext(1, 2, is_remote=True), {"note": EMAIL, "count": 3})
    attributes = {
        "note": f"from {EMAIL}",
        EMAIL: "a key",
        "http.request.header.authorization": "hunter2hunter2",
        "app.user.password": "hunter2hunter2",
        "http.request.header.x-api-key": ("hunter2hunter2",),
        "notes": (EMAIL, "harmless", KEY),
        "url.full": f"https://me:hunter2hunter2@host/a?password=hunter2hunter2&to={quote(EMAIL)}&day=1",
        "http.target": f"/a?token=hunter2hunter2&{quote(BEARER)}",
        "client.address": "198.51.100.7",
        "http.client_ip": "198.51.100.7",
        "net.peer.ip": "198.51.100.7",
    }
    with tracer.start_as_current_span(
        f"send {EMAIL}", kind=SpanKind.CLIENT, attributes=attributes, links=[link]
    ) as span:
        span.add_event(f"mailed {EMAIL}", {"to": EMAIL, "password": "hunter2hunter2"})
        try:
            look_up(f"{EMAIL}, {BEARER}")
        except LookupError as error:
            span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, f"failed for {EMAIL} with {KEY}"))


def test_no_secret_is_left_anywhere_in_a_span() -> None:
    raw, kept = exported(everything)
    text = unquote(kept.to_json())
    assert all(canary in unquote(raw.to_json()) for canary in CANARIES)
    assert [canary for canary in (*CANARIES, "198.51.100.7") if canary in text] == []
    stack = str((kept.events[1].attributes or {})["exception.stacktrace"])
    assert stack.startswith("Traceback (most recent call last):")
    assert "LookupError: no such guest: [email]" in stack


def test_the_rest_of_a_span_stays_as_it_was() -> None:
    raw, kept = exported(everything)
    for name in ("context", "parent", "kind", "start_time", "end_time", "resource", "instrumentation_scope"):
        assert getattr(kept, name) == getattr(raw, name), name
    assert kept.status.status_code is StatusCode.ERROR
    assert [event.timestamp for event in kept.events] == [event.timestamp for event in raw.events]
    assert [link.context for link in kept.links] == [link.context for link in raw.links]
    assert EMAIL in raw.name  # which somebody else may still read


ORDINARY: dict[str, Any] = {
    "http.request.method": "GET",
    "http.route": "/api/v1/destinations/{slug}",
    "http.response.status_code": 503,
    "url.path": "/api/v1/destinations/tanah-lot",
    "url.query": "sort=price&page=2&q=tanah+lot",
    "url.full": "http://127.0.0.1:9000/v1/chat/completions?a=1&b=",
    "server.address": "db.internal",
    "server.port": 5432,
    "network.peer.address": "10.0.0.7",
    "db.statement": "SELECT slug, price FROM destinations WHERE region = $1 ORDER BY price",
    "db.system": "postgresql",
    "gen_ai.usage.input_tokens": 11,
    "gen_ai.request.model": "gpt-4o-mini",
    "sampling.kept_because": "slow",
    "error.type": "app.assistant.upstream.UpstreamTimeout",
    "cached": True,
    "share": 1.0,
    "one": 1,
    "list": ("a", "b"),
    "numbers": (1, 2),
    "no": False,
    "zero": 0,
}


@pytest.mark.parametrize(
    "key",
    [
        *("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.completion"),
        *("session.id", "enduser.id", "user.id", "api.key", "aws.secret.key", "card.number", "phone.number"),
        "date.of.birth",
    ],
)
def test_a_name_with_dots_is_read_as_a_whole(key: str) -> None:
    _, span = exported(lambda tracer: tracer.start_span("x", attributes={key: "quokka"}).end())
    assert dict(span.attributes or {}) == {key: "[redacted]"}


def test_what_a_caller_writes_into_tracestate_does_not_leave() -> None:
    state = TraceState([("a", EMAIL), ("vendor", "t61rcWkgMzE")])
    caller = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    context = set_span_in_context(NonRecordingSpan(caller))
    _, span = exported(lambda tracer: tracer.start_span("x", context).end())
    assert span.context is not None
    assert span.parent is not None
    assert dict(span.context.trace_state) == dict(span.parent.trace_state) == {"vendor": "t61rcWkgMzE"}
    assert span.parent.is_remote


def test_ordinary_values_stay_as_they_are() -> None:
    for _ in range(2):  # the second time from the cache
        _, kept = exported(lambda tracer: tracer.start_span("GET /x", attributes=ORDINARY).end())
        attributes = dict(kept.attributes or {})
        assert attributes == ORDINARY
        assert [type(value) for value in attributes.values()] == [type(value) for value in ORDINARY.values()]


@pytest.mark.parametrize(
    ("query", "redacted"),
    [
        ("", ""),
        ("a=1&b=2&a=3", "a=1&b=2&a=3"),
        ("flag", "flag"),
        ("q=tanah+lot%20x", "q=tanah+lot%20x"),
        ("password=x&a=1", "password=[redacted]&a=1"),
        ("api_key=x", "api_key=[redacted]"),
        (quote(EMAIL), "[email]="),
        (f"to={EMAIL}", "to=[email]"),
        (f"to={quote(EMAIL, safe='')}&a=1", "to=[email]&a=1"),
        ("to=made%2Esari%40ubud%2Dvillas%2Eexample", "to=[email]"),
        (f"{quote(EMAIL)}=1", "[email]=1"),
    ],
)
def test_a_query_is_redacted_by_name_and_by_value(query: str, redacted: str) -> None:
    assert redact_query(query) == redacted


@given(
    fields=st.lists(st.tuples(st.sampled_from(["q", "to", "é", "a.b", ""]), st.text(max_size=8)), max_size=4),
    canary=st.sampled_from([EMAIL, KEY, BEARER]),
    place=st.integers(0, 4),
    all_encoded=st.booleans(),
)
def test_no_query_keeps_a_secret_however_it_is_encoded(
    fields: list[tuple[str, str]], canary: str, place: int, *, all_encoded: bool
) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in canary.encode()) if all_encoded else quote(canary)
    parts = [f"{quote(name)}={quote(value)}" for name, value in fields]
    parts.insert(place, f"q={encoded}")
    left = redact_query("&".join(parts))
    assert canary not in unquote(left)
    assert canary not in left


async def test_a_failed_request_with_a_secret_in_its_query_and_its_error() -> None:
    kept, records = InMemorySpanExporter(), Records(ratio=0.0)
    records.provider.add_span_processor(SimpleSpanProcessor(RedactingExporter(kept)))
    app = fastapi_house()

    @app.get("/guests")
    async def guests(to: str) -> None:
        raise LookupError(f"no guest {to}")

    query = f"to={quote(EMAIL, safe='')}&token=hunter2hunter2"
    with capture_logs(), pytest.raises(LookupError):
        await Wire("/guests", query_string=query.encode()).run(records.observe(app))
    (raw,), (span,) = records.spans(), kept.get_finished_spans()
    assert (raw.attributes or {})["url.query"] == query
    assert EMAIL in raw.to_json()
    assert (span.attributes or {})["url.query"] == "to=[email]&token=[redacted]"
    text = unquote(span.to_json())
    assert EMAIL not in text
    assert "hunter2hunter2" not in text
    (event,) = span.events
    assert (event.attributes or {})["exception.message"] == "no guest [email]"


@pytest.mark.parametrize(("secret", "visible"), [(EMAIL, 12), (EMAIL, 20), (KEY, 7), (BEARER, 10), (EMAIL, len(EMAIL))])
def test_of_a_value_that_was_cut_no_half_a_secret_is_left(secret: str, visible: int) -> None:
    start = MAX_VALUE_LENGTH - visible
    text = ("x " * MAX_VALUE_LENGTH)[: start - 1] + " " + secret + " and more" * 100
    limits = SpanLimits(max_attribute_length=MAX_VALUE_LENGTH)
    raw, kept = exported(lambda tracer: tracer.start_span("x", attributes={"note": text}).end(), limits)
    assert str((raw.attributes or {})["note"]).endswith(secret[:visible])
    left = str((kept.attributes or {})["note"])
    assert secret[:6] not in left
    assert left.endswith("[cut]")
    assert len(left) > MAX_VALUE_LENGTH / 2


@pytest.mark.parametrize("values", [(True, 1, 1.0), (1, True), (0.0, 0, False)])
def test_values_that_are_equal_keep_their_types(values: tuple[Any, ...]) -> None:
    for value in values:
        _, kept = exported(lambda tracer, value=value: tracer.start_span("x", attributes={"same": value}).end())
        assert repr((kept.attributes or {})["same"]) == repr(value)


def test_what_was_dropped_is_still_known() -> None:
    limits = SpanLimits(max_span_attributes=1, max_events=1, max_links=1)

    def make(tracer: Any) -> None:
        links = [Link(SpanContext(1, 2, is_remote=True))] * 3
        span = tracer.start_span("x", attributes={"a": 1, "b": 2}, links=links)
        span.add_event("one")
        span.add_event("two")
        span.end()

    raw, kept = exported(make, limits)
    assert (kept.dropped_attributes, kept.dropped_events, kept.dropped_links) == (1, 1, 2)
    assert (raw.dropped_attributes, raw.dropped_events, raw.dropped_links) == (1, 1, 2)


def test_what_cannot_be_redacted_does_not_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_text: str, _budget: Any) -> str:
        raise RecursionError

    monkeypatch.setattr(span_redaction, "redact_within", fail)
    kept = InMemorySpanExporter()
    with capture_logs() as lines:
        result = ReportingExporter(RedactingExporter(kept), "collector").export([ReadableSpan("x")])
    assert (result, kept.get_finished_spans()) == (SpanExportResult.FAILURE, ())
    assert len(lines) <= 1


def test_the_end_and_a_flush_are_passed_on() -> None:
    inner = InMemorySpanExporter()
    exporter = RedactingExporter(inner)
    assert exporter.force_flush(7) is True
    exporter.shutdown()
    assert exporter.export([ReadableSpan("x")]) is SpanExportResult.FAILURE


@pytest.mark.parametrize("key", ["http.target", "http.url", "url.full", "url.original"])
def test_the_query_of_every_url_is_redacted(key: str) -> None:
    url = f"http://host/a?to={quote(EMAIL, safe='')}&p%61ssword=quokka&day=1"
    _, span = exported(lambda tracer: tracer.start_span("x", attributes={key: url}).end())
    assert (span.attributes or {})[key] == "http://host/a?to=[email]&password=[redacted]&day=1"
