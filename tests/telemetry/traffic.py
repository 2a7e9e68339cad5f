"""Requests and spans sent in the single run that the tests in this directory share."""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote

import httpx
import yaml

from loadtest.fake_ai import FakeAI
from tests.plain_http import plain
from tests.process.service import Service, wait_for
from tests.telemetry import dirty, otlp
from tests.telemetry.canaries import CANARIES, CLIENTS, FORMS, ORDINARY, WORDS, Canary, trace_id
from tests.telemetry.collector import SHIPPED, Collector

CATALOGUE, CHAT, INQUIRIES = "/api/v1/destinations", "/api/v1/assistant/chat", "/api/v1/inquiries"
QUESTION = {"message": "a quiet temple"}
SHARED, DROPPED = 5, 15
WORKERS = 2
SERVER_ERROR = 500
SLOW_ID = "510ab510"
ASKED_WITH = ("path", "query", "headers", "body", "prompt")


@dataclass
class Observed:
    """Observations of the run. Spans are those that the collector exported, except `received`."""

    slow: str = ""
    left_in_time: bool = False
    """True if the slow trace was exported while the collector ran. On exit it flushes all pending traces."""
    exposition: str = ""
    exit_status: int | None = None
    logs: list[dict[str, Any]] = field(default_factory=list)
    spans: list[otlp.Span] = field(default_factory=list)
    requests: list[list[otlp.Span]] = field(default_factory=list)
    received: list[otlp.Span] = field(default_factory=list)
    calls: list[tuple[dict[str, Any], float]] = field(default_factory=list)
    besides: str = ""
    """All other output: metrics and the logs of the collectors."""

    def trace(self, wanted: str) -> list[otlp.Span]:
        """Return the exported spans of one trace."""
        return [span for span in self.spans if span.trace_id == wanted]

    def line(self, request_id: str) -> dict[str, Any]:
        """Return the access log line of a request."""
        (found,) = [line for line in self.logs if line.get("request_id") == request_id and line["logger"] == "access"]
        return found


@cache
def share() -> float:
    """Return the percentage of ordinary traces that the shipped configuration keeps."""
    policies = yaml.safe_load(SHIPPED.read_text())["processors"]["tail_sampling"]["policies"]
    (found,) = [policy["probabilistic"]["sampling_percentage"] for policy in policies if "probabilistic" in policy]
    return float(found)


@cache
def kept_id(seed: str) -> str:
    """Return a trace id that the shipped configuration keeps."""
    return trace_id(seed, kept=True, percentage=share())


@cache
def dropped_id(seed: str) -> str:
    """Return a trace id that the shipped configuration drops."""
    return trace_id(seed, kept=False, percentage=share())


def _traced(wanted: str) -> dict[str, str]:
    return {"traceparent": f"00-{wanted}-{os.urandom(8).hex()}-01", "X-Request-ID": wanted}


def ask(service: Service, ai: FakeAI, seen: Observed) -> None:
    """Send slow, ordinary, private and failing requests; the failing ones last, because they open the circuit."""
    with httpx.Client(base_url=service.url, timeout=30) as client:
        # Warm-up: the first request has error spans because its scripts are not loaded in Redis yet.
        client.post(CHAT, json=QUESTION).raise_for_status()
        ai.delay = 2.1
        assert client.post(CHAT, json=QUESTION, headers={"X-Request-ID": SLOW_ID}).status_code == httpx.codes.OK
        ai.delay = 0.0
        for number in range(SHARED):
            client.get(CATALOGUE, headers=_traced(kept_id(f"ordinary {number}"))).raise_for_status()
        for number in range(DROPPED):
            client.get(CATALOGUE, headers=_traced(dropped_id(f"ordinary {number}"))).raise_for_status()
        for canary in CANARIES:
            for place in ASKED_WITH:
                _ask_with(client, canary, place)
    seen.exposition = plain.get(service.metrics_url, headers={"Accept": "application/openmetrics-text"}).text
    ai.status = 500
    wait_for(lambda: len(_fail(service)) == WORKERS, "a failure in each worker")


def _fail(service: Service) -> set[int]:
    """Send one failing request on a new connection; return the workers that have served such requests so far."""
    assert plain.post(service.url + CHAT, json=QUESTION, timeout=30).is_server_error
    failed = [line for line in log_lines(service) if line.get("route") == CHAT and line["status"] >= SERVER_ERROR]
    return {line["worker"] for line in failed}


def log_lines(service: Service) -> list[dict[str, Any]]:
    """Return the complete lines of the service's log."""
    return [json.loads(line) for line in service.output.splitlines(keepends=True) if line.endswith("\n")]


def _ask_with(client: httpx.Client, canary: Canary, place: str) -> None:
    text, headers = canary.planted, _traced(kept_id(f"{canary.name} in {place}"))
    if place == "path":
        client.get(f"{CATALOGUE}/{quote(text, safe='')}", headers=headers)
    elif place == "query":
        client.get(CATALOGUE, params={"q": text, "password": text, "access_token": text}, headers=headers)
    elif place == "headers":
        named = ("Authorization", "Cookie", "User-Agent", "Referer", "X-API-Key", "Forwarded", "baggage")
        private = dict.fromkeys(named, text)
        client.get(CATALOGUE, headers={**private, **headers, "tracestate": f"guest={quote(text)}"})
    elif place == "body":
        inquiry = {"name": text[:40], "email": "made.wirawan@example.com", "phone": text[:30], "message": text}
        client.post(INQUIRIES, json=inquiry, headers=headers)
    else:
        client.post(CHAT, json={"message": text}, headers=headers)


def dirty_spans() -> Iterator[Any]:
    """Yield spans with every private value in every place, ordinary values, and traces around the latency limit."""
    for name, place in {**dirty.SEARCHED, **dirty.REMOVED, **dirty.OUT_OF_REACH}.items():
        for canary in [*CANARIES, WORDS]:
            yield dirty.span(kept_id(f"{canary.name} as {name}"), place, canary.planted)
    for text in [*FORMS, *ORDINARY]:
        yield dirty.span(kept_id(text), dirty.in_attribute("url.path"), text)
    for address in CLIENTS:
        yield dirty.span(kept_id(f"client {address}"), dirty.in_attribute("client.address"), address)
    yield dirty.span(dropped_id("error"))
    yield dirty.span(dropped_id("slow"), error=False, seconds=2.0)
    yield dirty.span(dropped_id("quick"), error=False, seconds=1.9)


def collect(seen: Observed, gateway: Collector, store: Collector) -> None:
    """Wait until all spans are counted and the slow trace is exported, stop both collectors, and read their output."""
    received, metrics = gateway.directory / "received.json", store.directory / "metrics.json"
    traces = store.directory / "traces.json"
    read: list[int] = []

    def counted() -> bool:
        sizes = [received.stat().st_size, metrics.stat().st_size]
        if sizes == read:
            return False  # nothing new
        read[:] = sizes
        seen.calls = otlp.latest_sums(metrics, "traces.span.metrics.calls")
        return sum(count for _, count in seen.calls) >= len(otlp.spans(received)) > 0

    with suppress(AssertionError):  # reported by a separate test
        wait_for(counted, "the count of all spans", 45.0)
    with suppress(AssertionError):
        wait_for(lambda: seen.slow in traces.read_text(), "the slow trace", 20.0)
    seen.left_in_time = seen.slow in traces.read_text()
    gateway.stop()
    store.stop()
    seen.received = otlp.spans(received)
    seen.requests = otlp.requests(traces)
    seen.spans = [span for request in seen.requests for span in request]
    seen.besides = metrics.read_text() + store.output + gateway.output
