"""Foreign services get ids and known flags; trusted ones get tracestate and baggage as redaction lets them pass."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator, default_setter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from app.monitoring import tracing
from app.monitoring.traces import propagation
from app.monitoring.traces.propagation import GuardedPropagator, install, is_trusted
from tests.middleware.applications import Records
from tests.middleware.wire import Wire

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MAIL = "ayu.lestari@example.com"
STATE = f"rojo=00f067aa0ba902b7,mail={MAIL.replace('@', '%40')},token=abc,congo=t61rcWkgMzE"
BAGGAGE = f"plan=gold,mail={MAIL.replace('@', '%40')},twice={MAIL.replace('@', '%2540')},password=hunter22,tenant=bali"
HEADERS = (
    (b"traceparent", f"00-{TRACE}-{CALLER}-ff".encode()),
    (b"tracestate", STATE.encode()),
    (b"baggage", BAGGAGE.encode()),
)
SENT = {"traceparent", "tracestate", "baggage", "b3"}


class Upstream:
    """A real server that keeps the headers of each request; /redirect leads to another server."""

    def __init__(self) -> None:
        self.received: list[dict[str, str]] = []
        self.target = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.received.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(307 if outer.target else 200)
                if outer.target:
                    self.send_header("Location", outer.target)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Write nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def traced(self) -> list[dict[str, str]]:
        """Return the headers of each request that tell of a trace."""
        return [{name: value for name, value in one.items() if name in SENT} for one in self.received]


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Upstream, Upstream]]:
    made = Upstream(), Upstream()
    yield made
    for one in made:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture
def upstreams(servers: tuple[Upstream, Upstream]) -> tuple[Upstream, Upstream]:
    for one in servers:
        one.received.clear()
        one.target = ""
    return servers


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", propagate.get_global_textmap())
    monkeypatch.setattr(propagation._trusted, "hosts", frozenset())


class Single(TextMapPropagator):
    """A propagator in one header, as B3 is, with a baggage header of its own."""

    def extract(self, carrier: Any, context: Context | None = None, getter: Any = None) -> Context:  # noqa: ARG002
        return context or Context()

    def inject(self, carrier: Any, context: Context | None = None, setter: Any = default_setter) -> None:
        found = trace.get_current_span(context).get_span_context()
        setter.set(carrier, "b3", f"{found.trace_id:032x}-{found.trace_flags:x}-{len(found.trace_state)}")
        setter.set(carrier, "Baggage", ",".join(baggage.get_all(context)) or "vendor-key=1")

    @property
    def fields(self) -> set[str]:
        return {"b3", "baggage"}


async def call(records: Records, url: str, *, sync: bool = False) -> None:
    """Handle a request with the headers above that calls `url`."""

    def get() -> None:
        with httpx.Client(follow_redirects=True, trust_env=False) as client:
            client.get(url)

    tracer = tracing.request_tracer("")
    assert tracer is not None
    span = tracer.begin(Wire(headers=HEADERS).scope, HEADERS[0][1])
    token = tracer.attach(span)
    try:
        if sync:
            await asyncio.to_thread(get)
        else:
            async with httpx.AsyncClient(follow_redirects=True, trust_env=False) as client:
                await client.get(url)
    finally:
        detach(token)


@pytest.fixture
def records(installed: list[TracerProvider]) -> Records:
    found = Records()
    installed.append(found.provider)
    return found


@pytest.mark.parametrize("sync", [False, True])
async def test_a_foreign_service_gets_ids_and_known_flags_only(
    records: Records, upstreams: tuple[Upstream, Upstream], *, sync: bool
) -> None:
    await call(records, f"http://{upstreams[0].host}/", sync=sync)
    (found,) = upstreams[0].traced()
    assert set(found) == {"traceparent"}
    version, trace_id, span_id, flags = found["traceparent"].split("-")
    assert (version, trace_id, flags) == ("00", TRACE, "03")
    assert span_id not in {CALLER, "0" * 16}


@pytest.mark.parametrize("sync", [False, True])
async def test_a_trusted_service_gets_what_redaction_lets_pass(
    records: Records, upstreams: tuple[Upstream, Upstream], *, sync: bool
) -> None:
    install([upstreams[0].host])
    await call(records, f"http://{upstreams[0].host}/", sync=sync)
    (found,) = upstreams[0].traced()
    assert found["tracestate"] == "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    assert found["baggage"] == "plan=gold,tenant=bali"
    assert found["traceparent"].endswith("-03")


async def test_a_redirect_to_a_foreign_service_takes_nothing_along(
    records: Records, upstreams: tuple[Upstream, Upstream]
) -> None:
    trusted, foreign = upstreams
    trusted.target = f"http://{foreign.host}/"
    install([trusted.host])
    await call(records, f"http://{trusted.host}/")
    assert [set(one) for one in trusted.traced()] == [{"traceparent", "tracestate", "baggage"}]
    assert [set(one) for one in foreign.traced()] == [{"traceparent"}]


async def test_every_propagator_follows_the_rule(records: Records, upstreams: tuple[Upstream, Upstream]) -> None:
    trusted, foreign = upstreams
    usual = [TraceContextTextMapPropagator(), W3CBaggagePropagator(), Single()]
    propagate.set_global_textmap(CompositePropagator(usual))
    install([trusted.host])
    for one in upstreams:
        await call(records, f"http://{one.host}/")
    assert [one["b3"] for one in foreign.traced()] == [f"{TRACE}-3-0"]
    assert "baggage" not in foreign.traced()[0]
    assert [one["b3"] for one in trusted.traced()] == [f"{TRACE}-3-2"]


@pytest.mark.parametrize(
    ("hosts", "host", "port", "trusted"),
    [
        ((), "ai.internal", 443, False),
        (("ai.internal",), "AI.internal.", 443, True),
        (("ai.internal",), "ai.internal.example.com", 443, False),
        (("ai.internal",), "x.ai.internal", 443, False),
        (("ai.internal:8443",), "ai.internal", 8443, True),
        (("ai.internal:8443",), "ai.internal", 443, False),
        (("*.internal",), "a.b.internal", 80, True),
        (("*.internal",), "internal", 80, False),
        (("*.internal:80",), "a.internal", 80, True),
        (("::1",), "::1", 80, True),
        (("[::1]:80",), "::1", 80, True),
    ],
)
def test_hosts_are_compared_whole(hosts: tuple[str, ...], host: str, port: int, *, trusted: bool) -> None:
    install(hosts)
    assert is_trusted(host, port) is trusted


def test_another_client_in_the_context_of_a_trusted_call_is_foreign() -> None:
    install(["ai.internal"])
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    token = attach(baggage.set_baggage("plan", "gold"))
    try:
        with provider.get_tracer("httpx").start_as_current_span("a") as span:
            propagation._call.set((span, True))
            with provider.get_tracer("other").start_as_current_span("b"):
                carrier = {"Baggage": "plan=gold", "accept": "*"}
                propagate.inject(carrier)
    finally:
        detach(token)
    assert set(carrier) == {"accept", "traceparent"}


@pytest.mark.parametrize(("flags", "known"), [("ff", 3), ("fd", 1), ("fe", 2), ("fc", 0), ("03", 3), ("00", 0)])
def test_unknown_flags_end_here(records: Records, flags: str, known: int) -> None:
    tracer = tracing.request_tracer("")
    assert tracer is not None
    parent = f"00-{TRACE}-{CALLER}-{flags}".encode()
    span = tracer.begin(Wire(headers=((b"traceparent", parent),)).scope, parent)
    assert span.get_span_context().trace_flags == known
    assert trace.get_current_span(span.parent).get_span_context().trace_flags == known
    context = set_span_in_context(
        NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(int(flags, 16))))
    )
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    assert carrier["traceparent"].endswith(f"-0{known}")


def test_extraction_of_any_propagator_has_known_flags() -> None:
    guarded = GuardedPropagator(TraceContextTextMapPropagator())
    found = trace.get_current_span(guarded.extract({"traceparent": f"01-{TRACE}-{CALLER}-ff-more"}))
    assert (found.get_span_context().trace_flags, found.get_span_context().is_remote) == (3, True)
    assert guarded.fields == {"traceparent", "tracestate"}


WORDS = st.text(st.characters(codec="ascii", exclude_characters=",;=\r\n\x00"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(entries=st.dictionaries(WORDS, WORDS | st.just(MAIL) | st.just("4111 1111 1111 1111"), max_size=4))
def test_private_values_never_leave(entries: dict[str, str]) -> None:
    install(["ai.internal"])
    context = Context()
    for key, value in entries.items():
        context = baggage.set_baggage(key, value, context)
    span = NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_state=TraceState([("mail", MAIL)])))
    token = propagation._call.set((span, True))
    carrier: dict[str, str] = {}
    try:
        propagate.inject(carrier, set_span_in_context(span, context))
    finally:
        propagation._call.reset(token)
    text = str(carrier)
    assert "ayu" not in text
    assert "4111" not in text
    assert "tracestate" not in carrier
