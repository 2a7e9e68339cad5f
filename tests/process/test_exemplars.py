"""From a bucket to the trace behind it: what a real Prometheus has stored of a service on several workers."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from loadtest.programs import free_port
from tests.alerts.programs import require
from tests.dashboards.prometheus import Prometheus, prometheus
from tests.plain_http import plain
from tests.process.service import Service, service, wait_for

OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
BUCKETS = 'http_request_duration_seconds_bucket{handler="/api/v1/destinations/{slug}"}'
REQUESTS = 60


def exported(running: Service) -> set[str]:
    """Return the trace ids of the spans that the workers have exported to the console."""
    return set(re.findall(r'"trace_id": "0x([0-9a-f]{32})"', running.output))


def stored(server: Prometheus, start: float) -> list[dict[str, Any]]:
    """Return the exemplars of the latency buckets."""
    found = server.ask("query_exemplars", query=BUCKETS, start=start, end=time.time())
    return [exemplar for series in found for exemplar in series["exemplars"]]


def ids(kept: list[dict[str, Any]]) -> set[str]:
    """Return the traces that these exemplars name."""
    return {exemplar["labels"]["trace_id"] for exemplar in kept}


def exemplars(running: Service) -> Iterator[dict[str, str]]:
    """Yield the labels of all exemplars on the metrics port; none while a histogram's series are being made.

    A worker makes them one after the other, and the parser refuses a histogram whose last bucket is not there yet.
    """
    text = plain.get(running.metrics_url, headers=OPENMETRICS, timeout=10).text
    try:
        families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    except ValueError as error:
        if "+Inf bucket missing" in str(error):
            return
        raise
    for family in families:
        for sample in family.samples:
            if sample.exemplar is not None:
                yield sample.exemplar.labels


def ids_of(labels: list[dict[str, str]]) -> set[str]:
    """Return the traces that these labels name."""
    return {each["trace_id"] for each in labels}


def spans(running: Service) -> list[dict[str, Any]]:
    """Return the complete spans that the workers have exported to the console."""
    decoder, output, found = json.JSONDecoder(), running.output, []
    for start in re.finditer(r"^\{$", output, re.MULTILINE):
        with suppress(ValueError):
            found.append(decoder.raw_decode(output, start.start())[0])
    return found


@pytest.mark.parametrize("ratio", ["0.3", "1"])
def test_every_exemplar_leads_to_a_trace_that_was_exported(
    tmp_path: Path, addresses: dict[str, str], ratio: str
) -> None:
    environment = {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER_ARG": ratio, **addresses}
    require("prometheus")
    with service(tmp_path, WEB_CONCURRENCY="3", **environment) as running:
        target = f"127.0.0.1:{running.metrics_port}"
        start = time.time()
        with prometheus(tmp_path, target, "--enable-feature=exemplar-storage") as server:
            for _ in range(REQUESTS):
                assert running.answers("/api/v1/destinations/tanah-lot")
            kept = wait_for(lambda: stored(server, start), "exemplars in Prometheus")
            # Spans wait some seconds in their worker; one that is killed would take them with it.
            wait_for(lambda: ids(kept) <= exported(running), "the traces that the exemplars name")
            # Its exemplars are left to the archive.
            running.workers()[0].kill()
            wait_for(lambda: running.total("baliblissed_exporter_folded_processes_total") == 1, "the fold")
            shown = list(exemplars(running))
        assert running.stop() == 0
    assert kept
    assert shown
    for labels in [exemplar["labels"] for exemplar in kept] + shown:
        assert labels.keys() == {"trace_id", "span_id"}


def test_without_sampling_an_exemplar_leads_to_a_request_that_failed_or_was_slow(
    tmp_path: Path, addresses: dict[str, str]
) -> None:
    environment = {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER_ARG": "0", **addresses}
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    upstream = f"http://127.0.0.1:{free_port()}/v1"
    with service(tmp_path, AI_BASE_URL=upstream, **environment) as running:
        for _ in range(REQUESTS):
            assert running.answers("/api/v1/destinations/tanah-lot")
        assert running.total("http_requests_total", handler="/api/v1/destinations/{slug}") == REQUESTS
        failed = plain.post(
            f"{running.url}/api/v1/assistant/chat",
            json={"message": "Where to swim?"},
            headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-00"},
            timeout=30,
        )
        assert failed.status_code == 502
        wait_for(lambda: trace_id in ids_of(list(exemplars(running))), "the exemplar")
        wait_for(lambda: ids_of(list(exemplars(running))) <= exported(running), "the traces behind all exemplars")
        found = spans(running)
        assert running.stop() == 0
    assert {span["attributes"].get("sampling.kept_because") for span in found} <= {"error", "slow"}
    (span,) = [span for span in found if span["context"]["trace_id"] == f"0x{trace_id}"]
    assert span["name"] == "POST /api/v1/assistant/chat"
    assert span["attributes"]["http.response.status_code"] == 502


def test_promtool_accepts_what_is_exposed(tmp_path: Path, addresses: dict[str, str]) -> None:
    promtool = require("promtool")
    with service(tmp_path, **addresses) as running:
        assert running.answers("/api/v1/destinations/tanah-lot")
        text = running.scrape()
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    assert checked.returncode == 0, checked.stderr
