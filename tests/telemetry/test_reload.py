"""A request that outlives a reload arrives with its span and its log line."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from loadtest.fake_ai import FakeAI
from tests.process.service import gone, service, wait_for
from tests.telemetry import otlp
from tests.telemetry.collector import gateway
from tests.telemetry.traffic import CATALOGUE, CHAT, QUESTION, WORKERS, log_lines

# Three times WORKER_TIMEOUT, and within the drain: 0.7 of GRACEFUL_TIMEOUT.
REQUEST_SECONDS, WORKER_TIMEOUT, GRACEFUL_TIMEOUT = 12.0, 4, 25


def test_a_request_of_three_worker_timeouts_survives_a_reload_with_its_span_and_line(
    program: Path, addresses: dict[str, str], ai: FakeAI, tmp_path: Path
) -> None:
    ai.delay = REQUEST_SECONDS
    with gateway(program, tmp_path / "gateway") as collector, ThreadPoolExecutor() as threads:
        environment = {
            **addresses,
            "AI_BASE_URL": ai.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_TRACES_SAMPLER_ARG": "1",
            "WORKER_TIMEOUT": str(WORKER_TIMEOUT),
            "GRACEFUL_TIMEOUT": str(GRACEFUL_TIMEOUT),
        }
        with service(tmp_path, **environment) as running:
            wait_for(lambda: running.answers(CATALOGUE), "the catalogue")
            wait_for(lambda: running.output.count("Application startup complete.") == WORKERS, "both workers")
            before = running.workers()
            headers = {"X-Request-ID": "10a610a6"}
            asked = threads.submit(httpx.post, running.url + CHAT, json=QUESTION, headers=headers, timeout=60)
            wait_for(ai.arrived.is_set, "a request in flight")
            running.process.send_signal(signal.SIGHUP)
            assert asked.result().status_code == httpx.codes.OK
            wait_for(lambda: gone(before) and len(running.workers()) == WORKERS, "the end of the reload")
            assert running.total("baliblissed_worker_exits_total", reason="stopped") == WORKERS
            assert running.total("baliblissed_worker_exits_total") == WORKERS
            lines = [one for one in log_lines(running) if one["logger"] == "access"]
            (line,) = [one for one in lines if one["request_id"] == "10a610a6"]
            assert (line["status"], line["route"]) == (200, CHAT)
            assert line["duration_ms"] >= REQUEST_SECONDS * 1e3 * 0.99
            assert line["worker"] in {worker.pid for worker in before}
            received = collector.directory / "received.json"
            spans = wait_for(lambda: of_trace(received, line["trace_id"]), "its spans")
            assert line["span_id"] in {span.span_id for span in spans}
            assert max(span.seconds for span in spans) >= REQUEST_SECONDS * 0.99
            assert running.stop() == 0


def of_trace(received: Path, trace_id: str) -> list[otlp.Span]:
    """Return the spans of a trace once the request's own is among them."""
    spans = [span for span in otlp.spans(received) if span.trace_id == trace_id]
    return spans if any(span.kind == otlp.SERVER for span in spans) else []
