"""Spans of calls to the AI upstream: they contain the model, tokens and outcome, and never the prompt or answer."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from app.assistant.upstream import Upstream, UpstreamError, UpstreamRejected
from app.monitoring import tracing
from app.monitoring.traces import propagation
from loadtest.fake_ai import FakeAI, fake_ai
from tests.conftest import Application

PROMPT, ANSWER = "a wish that nobody else may read", "an answer that is nobody else's"
ASK = [{"role": "user", "content": PROMPT}]


async def call(
    spans: InMemorySpanExporter, *, patience: float = 10, json: bool = False, **fake: Any
) -> tuple[ReadableSpan, FakeAI, BaseException | None]:
    """Make one call; return its span, the fake upstream and the error that was raised, if any."""
    assert tracing.request_tracer("") is not None  # instruments httpx
    raised: BaseException | None = None
    async with fake_ai() as ai:
        ai.text = ANSWER
        for name, value in fake.items():
            setattr(ai, name, value)
        client = Upstream(ai.url, model="some-model", key="sk-a-key-of-the-tests", timeout=patience)
        try:
            await client.complete(ASK, json=json)
        except (UpstreamError, UpstreamRejected) as error:
            raised = error
        await client.close()
    (span,) = [span for span in spans.get_finished_spans() if span.name == "chat some-model"]
    text = "".join(found.to_json() for found in spans.get_finished_spans())
    assert not any(private in text for private in (PROMPT, ANSWER, "sk-a-key"))
    children = [found for found in spans.get_finished_spans() if found is not span]
    assert span.context is not None
    assert [child.parent.span_id for child in children if child.parent] == [span.context.span_id]
    return span, ai, raised


@pytest.mark.parametrize("json", [False, True])
async def test_a_call_has_a_client_span_by_the_conventions(spans: InMemorySpanExporter, *, json: bool) -> None:
    span, ai, _ = await call(spans, json=json)
    assert (span.kind, span.status.status_code, span.events) == (SpanKind.CLIENT, StatusCode.UNSET, ())
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "some-model",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "server.address": "127.0.0.1",
        "server.port": int(ai.url.split(":")[2].split("/")[0]),
    }


@pytest.mark.parametrize(
    ("fake", "error_type"),
    [
        ({"status": 503}, "503"),
        ({"status": 429}, "429"),
        ({"status": 401}, "401"),
        ({"raw": b"<html>"}, "UpstreamError"),
        ({"delay": 0.5, "patience": 0.05}, "UpstreamTimeout"),
    ],
)
async def test_a_call_that_fails_says_how(spans: InMemorySpanExporter, fake: dict[str, Any], error_type: str) -> None:
    span, _, raised = await call(spans, **fake)
    assert raised is not None
    assert span.status.status_code is StatusCode.ERROR
    assert span.events == ()
    attributes = dict(span.attributes or {})
    assert attributes["error.type"] == error_type
    assert attributes["gen_ai.request.model"] == "some-model"
    assert not [key for key in attributes if key.startswith("gen_ai.usage")]


async def test_the_span_stands_between_the_request_and_its_http_call(
    application: Application, spans: InMemorySpanExporter
) -> None:
    async with fake_ai() as ai, application(ai_base_url=ai.url, ai_model="a-model") as client:
        ai.text = ANSWER
        spans.clear()
        answer = await client.post("/api/v1/assistant/chat", json={"message": PROMPT})
        assert answer.status_code == 200
    found = spans.get_finished_spans()
    (request,) = [span for span in found if span.kind is SpanKind.SERVER]
    (chat,) = [span for span in found if span.name == "chat a-model"]
    (http,) = [
        span for span in found if span.attributes and str(span.attributes.get("http.url", "")).startswith(ai.url)
    ]
    assert request.context is not None
    assert chat.context is not None
    assert (chat.parent and chat.parent.span_id) == request.context.span_id
    assert (http.parent and http.parent.span_id) == chat.context.span_id
    assert not any(PROMPT in span.to_json() or ANSWER in span.to_json() for span in found)


TRACE, MAIL = "4bf92f3577b34da6a3ce929d0e0e4736", "ayu.lestari%40example.com"
CALLER = {
    "traceparent": f"00-{TRACE}-00f067aa0ba902b7-ff",
    "tracestate": f"mail={MAIL},rojo=1",
    "baggage": f"mail={MAIL},plan=gold",
}


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1",)])
async def test_the_upstream_gets_no_private_data_of_a_callers_trace(
    application: Application, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, trusted: tuple[str, ...]
) -> None:
    monkeypatch.setattr(propagation._trusted, "hosts", frozenset())
    async with fake_ai() as ai, application(ai_base_url=ai.url, trusted_upstreams=trusted) as client:
        answer = await client.post("/api/v1/assistant/chat", json={"message": PROMPT}, headers=CALLER)
        assert answer.status_code == 200
    (found,) = ai.headers
    assert found["traceparent"].startswith(f"00-{TRACE}-")
    assert found["traceparent"].endswith("-03")
    expected = {"tracestate": "rojo=1", "baggage": "plan=gold"} if trusted else {}
    assert {name: found[name] for name in ("tracestate", "baggage") if name in found} == expected
