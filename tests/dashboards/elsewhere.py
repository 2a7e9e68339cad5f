"""Samples in the dashboards' queries that the service does not expose: recorded ones, and those of other programs."""

from dataclasses import dataclass
from functools import cache

import yaml

from app.settings import ROOT
from monitoring.rules.groups import alerts, groups
from monitoring.rules.model import Record
from monitoring.rules.objectives import load
from tests.alerts.rules import MONITORING

LOAD_TEST, COLLECTOR, SPANS = "the load test", "the collector", "the collector's span metrics"
KUBERNETES = "kube-state-metrics"
PROMETHEUS, ALERTMANAGER = "Prometheus", "Alertmanager"


@dataclass(frozen=True)
class Sample:
    """A sample of another program: its type, its labels beside job and instance, and the matcher that is its scope."""

    program: str
    kind: str
    labels: frozenset[str]
    scope: str


def _job(name: str) -> str:
    return f'job="{load().jobs[name]}"'


def _samples(program: str, scope: str, kinds: dict[str, tuple[str, str]]) -> dict[str, Sample]:
    return {name: Sample(program, kind, frozenset(labels.split()), scope) for name, (kind, labels) in kinds.items()}


# tests/dashboards/test_elsewhere.py compares these with what the programs expose.
SAMPLES = {
    **_samples(
        LOAD_TEST,
        'run="$run"',
        {
            "loadtest_run_info": ("gauge", "run scenario"),
            "loadtest_users": ("gauge", "run scenario"),
            "loadtest_offered_requests_per_second": ("gauge", "run scenario"),
            "loadtest_requests_total": ("counter", "run scenario method handler status"),
            "loadtest_request_duration_seconds_bucket": ("histogram", "run scenario method handler"),
            "loadtest_tasks_total": ("counter", "run scenario"),
            "loadtest_tasks_late_total": ("counter", "run scenario"),
            "loadtest_fault_active": ("gauge", "run scenario fault"),
        },
    ),
    **_samples(
        SPANS,
        'span_kind="SPAN_KIND_CLIENT"',
        {
            "traces_span_metrics_calls_total": ("counter", "span_name span_kind status_code service_name"),
            "traces_span_metrics_duration_seconds_bucket": (
                "histogram",
                "span_name span_kind status_code service_name",
            ),
        },
    ),
    **_samples(
        COLLECTOR,
        _job("collector"),
        {
            "otelcol_receiver_accepted_spans_total": ("counter", "receiver transport"),
            "otelcol_receiver_refused_spans_total": ("counter", "receiver transport"),
            "otelcol_exporter_sent_spans_total": ("counter", "exporter"),
            "otelcol_exporter_send_failed_spans_total": ("counter", "exporter"),
            "otelcol_exporter_queue_size": ("gauge", "exporter data_type"),
            "otelcol_exporter_queue_capacity": ("gauge", "exporter data_type"),
            "otelcol_process_memory_rss_bytes": ("gauge", ""),
        },
    ),
    **_samples(
        KUBERNETES,
        f'container="{load().alerts["ContainerRestarting"].values["container"]}"',
        {"kube_pod_container_status_restarts_total": ("counter", "namespace pod container")},
    ),
    **_samples(
        PROMETHEUS,
        _job("prometheus"),
        {
            "prometheus_notifications_errors_total": ("counter", "alertmanager"),
            "prometheus_notifications_dropped_total": ("counter", ""),
            "prometheus_notifications_alertmanagers_discovered": ("gauge", ""),
            "prometheus_config_last_reload_successful": ("gauge", ""),
            "prometheus_rule_evaluation_failures_total": ("counter", "rule_group"),
            "prometheus_rule_group_iterations_missed_total": ("counter", "rule_group"),
            "prometheus_rule_group_last_duration_seconds": ("gauge", "rule_group"),
            "prometheus_tsdb_head_series": ("gauge", ""),
        },
    ),
    **_samples(
        ALERTMANAGER,
        _job("alertmanager"),
        {
            "alertmanager_notifications_failed_total": ("counter", "integration"),
            "alertmanager_notifications_total": ("counter", "integration"),
            "alertmanager_config_last_reload_successful": ("gauge", ""),
        },
    ),
}
# Of each target, and of each alert that is pending or fires.
OF_TARGETS = {"up": frozenset[str](), "scrape_duration_seconds": frozenset[str]()}
ALERT_LABELS = frozenset({"alertname", "alertstate", "severity", "service", "slo"})


@cache
def recorded() -> dict[str, frozenset[str]]:
    """Return the labels of each recorded series, which the first part of its name has."""
    rules = [rule for group in groups(load()) for rule in group.rules if isinstance(rule, Record)]
    return {rule.name: frozenset(rule.name.partition(":")[0].split("_")) for rule in rules}


@cache
def alert_names() -> frozenset[str]:
    """Return the names of the alerts."""
    return frozenset(alert.name for alert in alerts(groups(load())))


@cache
def values() -> dict[tuple[str, str], frozenset[str]]:
    """Return the values of labels, by sample and label; the labels of other programs from their documentation."""
    objectives = load()
    known = {
        ("ALERTS", "alertname"): alert_names(),
        ("ALERTS", "alertstate"): frozenset({"pending", "firing"}),
        ("ALERTS", "severity"): frozenset({"critical", "warning", "none"}),
        ("ALERTS", "service"): frozenset({objectives.service}),
        ("ALERTS", "slo"): frozenset(slo.name for slo in objectives.slos),
        ("loadtest_fault_active", "fault"): frozenset({"ai"}),
        ("loadtest_requests_total", "status"): frozenset({"0", *map(str, range(100, 600))}),
    }
    for name, labels in recorded().items():
        if "slo" in labels:
            known[name, "slo"] = frozenset(slo.name for slo in objectives.slos)
    for name, sample in SAMPLES.items():
        if sample.program == SPANS:
            kinds = ("INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER", "UNSPECIFIED")
            known[name, "span_kind"] = frozenset(f"SPAN_KIND_{kind}" for kind in kinds)
            known[name, "status_code"] = frozenset(f"STATUS_CODE_{code}" for code in ("UNSET", "OK", "ERROR"))
        if sample.scope.startswith("job="):
            known[name, "job"] = frozenset(objectives.jobs.values())
    deployment = (ROOT / "k8s" / "base" / "deployment.yaml").read_text()
    containers = yaml.safe_load(deployment)["spec"]["template"]["spec"]["containers"]
    known["kube_pod_container_status_restarts_total", "container"] = frozenset(one["name"] for one in containers)
    scraped = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    known["up", "job"] = frozenset(one["job_name"] for one in scraped)
    return known
