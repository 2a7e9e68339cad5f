"""The collector's files: what ships, what the tests change in it, and what holds between them and the service."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.monitoring.metrics.catalogue import LATENCY_BUCKETS
from tests.alerts.rules import MONITORING, load, slo
from tests.telemetry.collector import CHANGES, SHIPPED

BUILDER = SHIPPED.with_name("builder-config.yaml")


@pytest.fixture(scope="module")
def shipped() -> dict[str, Any]:
    """Return monitoring/otel-collector/config.yaml."""
    found: dict[str, Any] = load(SHIPPED)
    return found


def leaves(tree: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of all values in a tree."""
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from leaves(value, f"{path}/{key}")
    else:
        yield path


def test_the_collector_takes_what_ships_and_refuses_it_when_it_is_broken(program: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("processors: {redaction: {blocked_values: ['(']}}")
    for files, accepted in [((SHIPPED,), True), ((SHIPPED, CHANGES), True), ((SHIPPED, broken), False)]:
        command = [str(program), "validate", *(f"--config={file}" for file in files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is accepted, done.stderr


def test_the_tests_change_addresses_and_add_a_copy_of_what_comes_in(shipped: dict[str, Any]) -> None:
    changed, known = set(leaves(load(CHANGES))), set(leaves(shipped))
    assert changed & known == {
        "/receivers/otlp/protocols/grpc/endpoint",
        "/receivers/otlp/protocols/http/endpoint",
        "/exporters/otlp_grpc/endpoint",
        "/exporters/otlp_http/endpoint",
        "/extensions/health_check/endpoint",
        "/service/telemetry/metrics/readers",
    }
    assert changed - known == {
        "/exporters/file/received/path",
        "/service/pipelines/traces/received/receivers",
        "/service/pipelines/traces/received/exporters",
    }


def test_spans_are_bounded_then_redacted_then_counted_and_only_then_sampled(shipped: dict[str, Any]) -> None:
    assert shipped["service"]["pipelines"] == {
        "traces": {
            "receivers": ["otlp"],
            "processors": ["memory_limiter", "transform", "redaction", "transform/names"],
            "exporters": ["spanmetrics", "forward"],
        },
        "traces/kept": {"receivers": ["forward"], "processors": ["tail_sampling"], "exporters": ["otlp_grpc"]},
        "metrics": {"receivers": ["spanmetrics"], "processors": ["transform/spanmetrics"], "exporters": ["otlp_http"]},
    }
    assert shipped["exporters"]["otlp_grpc"]["sending_queue"]["batch"]


def test_a_statement_that_fails_loses_the_batch_and_not_the_redaction(shipped: dict[str, Any]) -> None:
    transforms = [value for name, value in shipped["processors"].items() if name.startswith("transform")]
    assert {transform["error_mode"] for transform in transforms} == {"propagate"}


def test_errors_and_what_the_alert_calls_slow_are_kept(shipped: dict[str, Any]) -> None:
    policies = {policy["name"]: policy for policy in shipped["processors"]["tail_sampling"]["policies"]}
    assert policies["errors"]["status_code"] == {"status_codes": ["ERROR"]}
    assert policies["slow"]["latency"] == {
        "threshold_ms": 1000 * slo()["alerts"]["HighLatencyP99"]["threshold_seconds"]
    }
    assert 0 < policies["share"]["probabilistic"]["sampling_percentage"] < 100


def test_span_metrics_have_the_buckets_of_the_services_own(shipped: dict[str, Any]) -> None:
    written = shipped["connectors"]["spanmetrics"]["histogram"]["explicit"]["buckets"]
    seconds = [float(text.removesuffix("ms")) / 1000 if text.endswith("ms") else float(text[:-1]) for text in written]
    assert seconds == list(LATENCY_BUCKETS)


def test_keys_that_are_not_listed_do_not_leave_and_private_ones_are_not_listed(shipped: dict[str, Any]) -> None:
    redaction = shipped["processors"]["redaction"]
    assert redaction["allow_all_keys"] is False
    assert redaction["summary"] == "silent"
    listed = redaction["allowed_keys"]
    assert "service.name" in listed
    assert len(listed) == len(set(listed))
    assert not [key for key in listed if any(re.search(pattern, key) for pattern in redaction["blocked_key_patterns"])]


def test_prometheus_finds_the_collectors_own_metrics(shipped: dict[str, Any]) -> None:
    (reader,) = shipped["service"]["telemetry"]["metrics"]["readers"]
    port = reader["pull"]["exporter"]["prometheus"]["port"]
    jobs = {job["job_name"]: job for job in load(MONITORING / "prometheus.yml")["scrape_configs"]}
    assert jobs["otel-collector"]["static_configs"][0]["targets"] == [f"otel-collector:{port}"]


def test_the_slim_collector_has_the_components_of_the_configuration_at_one_version(shipped: dict[str, Any]) -> None:
    builder = load(BUILDER)
    parts = {"receivers": "receiver", "processors": "processor", "exporters": "exporter"}
    parts |= {"connectors": "connector", "extensions": "extension"}
    for kind, suffix in parts.items():
        modules = [entry["gomod"].split(" ") for entry in builder[kind]]
        assert {version for _, version in modules} == {f"v{builder['dist']['version']}"}
        built = {module.rpartition("/")[2].removesuffix(suffix) for module, _ in modules}
        # otlp_grpc and otlp_http are the newer names of otlp and otlphttp.
        used = {
            re.sub("_(grpc)?", "", name.partition("/")[0]) for name in [*shipped[kind], *load(CHANGES).get(kind, {})]
        }
        assert built == used, kind
