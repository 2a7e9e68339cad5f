"""Attributes of request spans by the semantic conventions, in the form in which they leave."""

from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from starlette.responses import PlainTextResponse

from app.monitoring.requests.layer import ObservingMiddleware
from app.monitoring.traces import request_span
from app.monitoring.traces.http_attributes import request_attributes
from app.monitoring.traces.span_redaction import RedactingExporter
from tests.middleware.applications import Records
from tests.middleware.wire import Wire

ANSWER = PlainTextResponse("well")


def attributes(*headers: tuple[bytes, bytes], **scope: Any) -> dict[str, Any]:
    """Return the attributes of a request with these headers."""
    made = Wire(**scope).scope
    made["headers"] = list(headers)
    return dict(request_attributes(made))


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        (b"shop.example", "shop.example", None),
        (b"shop.example:8443", "shop.example", 8443),
        (b"198.51.100.9:80", "198.51.100.9", 80),
        (b"[2001:db8::1]:8443", "2001:db8::1", 8443),
        (b"[::1]", "::1", None),
        (b"", "127.0.0.1", 8000),
        (b"a/b", "127.0.0.1", 8000),
        (b"shop.example:", "127.0.0.1", 8000),
        (b"me:secret@shop.example", "127.0.0.1", 8000),
        (b"x" * 254, "127.0.0.1", 8000),
        (b"caf\xe9", "127.0.0.1", 8000),
    ],
)
def test_the_server_is_named_by_a_valid_host_header(host: bytes, address: str, port: int | None) -> None:
    found = attributes((b"host", host))
    assert (found["server.address"], found.get("server.port")) == (address, port)


def test_without_a_host_header_the_server_is_its_socket() -> None:
    found = attributes(server=("/run/app.sock", None))
    assert (found["server.address"], "server.port" in found) == ("/run/app.sock", False)
    assert "server.address" not in attributes(server=None)


def test_client_and_peer_are_cut_to_their_networks() -> None:
    found = attributes(client=("203.0.113.9", 1), peer=("2001:db8:1:2::3", 2))
    assert (found["client.address"], found["network.peer.address"]) == ("203.0.113.0/24", "2001:db8:1::/48")
    assert attributes(client=("203.0.113.9", 1))["network.peer.address"] == "203.0.113.0/24"
    assert {"client.address", "network.peer.address"}.isdisjoint(attributes(client=None))


@pytest.mark.parametrize(
    ("method", "original"), [("GET", None), ("BREW", "BREW"), ("get", "get"), ("X" * 99, "X" * 64)]
)
def test_an_unknown_method_is_kept_as_the_original(method: str, original: str | None) -> None:
    assert attributes(method=method).get("http.request.method_original") == original


def test_what_a_client_writes_leaves_redacted() -> None:
    records, kept = Records(), InMemorySpanExporter()
    records.provider.add_span_processor(SimpleSpanProcessor(RedactingExporter(kept)))
    with records.provider.get_tracer("x").start_as_current_span(
        "x",
        kind=SpanKind.SERVER,
        attributes={
            "user_agent.original": "curl/8 (made.sari@ubud-villas.example)",
            "network.peer.address": "10.1.2.3",
            "client.address": "198.51.100.7",
            "http.request.method_original": "made.sari@ubud-villas.example",
        },
    ):
        pass
    (span,) = kept.get_finished_spans()
    assert dict(span.attributes or {}) == {
        "user_agent.original": "curl/8 ([email])",
        "network.peer.address": "10.1.2.0/24",
        "client.address": "198.51.100.0/24",
        "http.request.method_original": "[email]",
    }


async def test_the_user_agent_is_an_attribute() -> None:
    records = Records()
    await Wire(headers=((b"user-agent", b"curl/8"),)).run(ObservingMiddleware(ANSWER, **records.layer()))
    (span,) = records.spans()
    assert (span.attributes or {})["user_agent.original"] == "curl/8"


async def test_attributes_of_an_unsampled_request_are_never_made(monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(ratio=0.0)
    made: list[Any] = []
    monkeypatch.setattr(request_span, "request_attributes", made.append)
    await Wire().run(ObservingMiddleware(ANSWER, **records.layer()))
    assert made == []
