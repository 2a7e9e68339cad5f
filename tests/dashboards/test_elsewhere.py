"""The collector exposes what dashboards ask of it, and makes the span metrics that they ask Prometheus for.

Prometheus 2.42 receives no OTLP, so the names of span metrics are translated here as Prometheus 3 does.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.alerts.rules import MONITORING
from tests.dashboards.boards import BOARDS, panels
from tests.dashboards.elsewhere import COLLECTOR, SAMPLES, SPANS, values
from tests.plain_http import plain
from tests.process.service import wait_for
from tests.telemetry.collector import Collector, gateway
from tests.telemetry.program import collector_program

QUICK = """
exporters:
  file/metrics: {path: "${env:DIRECTORY:-.}/metrics.json"}
connectors:
  spanmetrics: {metrics_flush_interval: 1s}
service:
  pipelines:
    metrics: {exporters: [file/metrics]}
"""
CLIENT, ERROR = 3, 2
UNITS = {"s": "_seconds", "": ""}


def of(program: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return type and labels of each sample that dashboards ask of a program."""
    return {name: (sample.kind, sample.labels) for name, sample in SAMPLES.items() if sample.program == program}


def send(collector: Collector) -> None:
    """Send a client's span with an error."""
    end = time.time_ns()
    span = {"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "SELECT"}
    span |= {"kind": CLIENT, "startTimeUnixNano": str(end - 10**8), "endTimeUnixNano": str(end)}  # type: ignore[dict-item]
    scopes = [{"spans": [{**span, "status": {"code": ERROR}}]}]
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "a client"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]}
    address = f"http://127.0.0.1:{collector.ports['OTLP_HTTP_PORT']}/v1/traces"
    assert plain.post(address, json=body, timeout=10).is_success


def exposed(collector: Collector) -> dict[str, tuple[str, frozenset[str]]]:
    """Return type and labels of each sample of the collector's own metrics."""
    text = plain.get(f"http://127.0.0.1:{collector.ports['METRICS_PORT']}/metrics", timeout=10).text
    return {
        sample.name: (family.type, frozenset(sample.labels))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def span_metrics(collector: Collector) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Yield each span metric by Prometheus's name, with the labels of its series."""
    path = collector.directory / "metrics.json"
    for line in path.read_text().splitlines() if path.exists() else []:
        for resource in json.loads(line).get("resourceMetrics", []):
            for metric in (one for scope in resource["scopeMetrics"] for one in scope["metrics"]):
                kind, suffix = ("sum", "_total") if "sum" in metric else ("histogram", "_bucket")
                name = metric["name"].replace(".", "_") + UNITS[metric.get("unit", "")] + suffix
                yield name, [_labels(point["attributes"]) for point in metric[kind]["dataPoints"]]


def _labels(attributes: list[dict[str, Any]]) -> dict[str, str]:
    return {one["key"].replace(".", "_"): one["value"]["stringValue"] for one in attributes}


def test_the_panel_of_the_collectors_memory_names_the_heap_from_which_spans_are_refused() -> None:
    limiter = yaml.safe_load((MONITORING / "otel-collector" / "config.yaml").read_text())["processors"][
        "memory_limiter"
    ]
    (panel,) = [one for one in panels(BOARDS["monitoring"]) if one["title"] == "Memory of the collector"]
    assert f"{limiter['limit_mib'] - limiter['spike_limit_mib']} MiB" in panel["description"]


def test_the_collector_has_every_sample_and_label_that_dashboards_ask_for(tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text(QUICK)
    with gateway(collector_program(), tmp_path, tmp_path / "quick.yaml") as running:
        send(running)
        wanted = of(COLLECTOR)
        wait_for(lambda: wanted.keys() <= exposed(running).keys(), "the collector's own figures")
        found = exposed(running)
        for name, (kind, labels) in wanted.items():
            assert found[name][0] == kind, name
            assert labels <= found[name][1], name
        wait_for(lambda: dict(span_metrics(running)).keys() >= of(SPANS).keys(), "span metrics")
        for name, series in span_metrics(running):
            [labels_of_one] = series
            assert of(SPANS)[name][1] <= labels_of_one.keys()
            assert (labels_of_one["span_kind"], labels_of_one["status_code"]) == (
                "SPAN_KIND_CLIENT",
                "STATUS_CODE_ERROR",
            )
            assert all(labels_of_one[label] in values()[name, label] for label in ("span_kind", "status_code"))
