"""The service with a collector that is away."""

import json
from pathlib import Path

from loadtest.programs import free_port
from tests.process.service import service, wait_for


def test_without_a_collector_the_service_starts_serves_and_stops_with_one_warning(
    tmp_path: Path, addresses: dict[str, str]
) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_TRACES_SAMPLER_ARG": "1",
        "GRACEFUL_TIMEOUT": "10",
    }
    with service(tmp_path, **environment, **addresses) as running:
        wait_for(lambda: running.answers("/api/v1/destinations"), "the catalogue")

        def warned() -> bool:
            assert running.answers("/api/v1/destinations")
            return "spans_not_exported" in running.output

        wait_for(warned, "the warning")
        failed = {"reason": "export_failed"}
        wait_for(
            lambda: running.total("baliblissed_spans_dropped_total", **failed) > 0, "the spans that are counted as lost"
        )
        assert running.stop() == 0
        output = running.output
        assert output.count("spans_not_exported") == 1
        assert "Traceback" not in output
        # Had a worker outstayed its time, the master would have killed it.
        assert running.exits("stopped") == 2


def test_every_line_of_production_is_json_with_the_ids_that_lead_to_the_trace(
    tmp_path: Path, addresses: dict[str, str]
) -> None:
    with service(tmp_path, REQUEST_ID_PATTERN="from-the-[a-z]{1,16}", **addresses) as running:
        wait_for(lambda: running.answers("/api/v1/destinations"), "the catalogue")
        foreign = running.get("/health/live", headers={"X-Request-ID": "from-a-guest"}).headers["x-request-id"]
        assert (len(foreign), set(foreign) <= set("0123456789abcdef")) == (32, True)
        request_id = running.get("/api/v1/destinations", headers={"X-Request-ID": "from-the-edge"}).headers[
            "x-request-id"
        ]
        assert request_id == "from-the-edge"
        assert running.stop() == 0
        lines = [json.loads(line) for line in running.output.splitlines()]
    for line in lines:
        assert {"timestamp", "level", "event", "logger", "service", "version", "environment", "worker"} <= line.keys()
    access = [line for line in lines if line.get("request_id") == "from-the-edge"]
    assert len(access) == 1
    line = access[0]
    assert (line["route"], line["method"], line["status"]) == ("/api/v1/destinations", "GET", 200)
    assert len(line["trace_id"]) == 32
    assert len(line["span_id"]) == 16
    assert line["client_ip"] == "127.0.0.0/24"
