"""Prometheus and Alertmanager: their files as their own programs read them, and what they promise."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.alerts.programs import run
from tests.alerts.rules import MONITORING, alerts, load


def prometheus() -> dict[str, Any]:
    """Return monitoring/prometheus.yml."""
    found: dict[str, Any] = load(MONITORING / "prometheus.yml")
    return found


def alertmanager() -> dict[str, Any]:
    """Return monitoring/alertmanager.yml."""
    found: dict[str, Any] = load(MONITORING / "alertmanager.yml")
    return found


def targets(configs: list[dict[str, Any]]) -> list[str]:
    """Return the targets of static_configs."""
    return [target for config in configs for target in config["static_configs"][0]["targets"]]


def test_promtool_accepts_prometheus_configuration_with_the_rules_in_it(tmp_path: Path) -> None:
    shutil.copytree(MONITORING, tmp_path / "prometheus")
    done = run("promtool", "check", "config", "--lint=all", "--lint-fatal", tmp_path / "prometheus" / "prometheus.yml")
    assert done.returncode == 0, done.stdout
    assert "1 rule files found" in done.stdout


def test_promtool_refuses_a_configuration_with_a_broken_rule(tmp_path: Path) -> None:
    copied = tmp_path / "prometheus"
    shutil.copytree(MONITORING, copied)
    rules = copied / "rules" / "baliblissed.yml"
    rules.write_text(rules.read_text().replace("sum by (job) (", "sum by (job ("))
    assert run("promtool", "check", "config", copied / "prometheus.yml").returncode != 0


def test_amtool_accepts_alertmanagers_configuration() -> None:
    done = run("amtool", "check-config", MONITORING / "alertmanager.yml")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=Watchdog", "severity=none"], "heartbeat"),
        (["alertname=RecentOutage", "severity=none"], "nobody"),
        (["alertname=HighErrorRate", "severity=critical"], "pages"),
        (["alertname=HighLatencyP99", "severity=warning"], "tickets"),
        (["alertname=SomethingNew"], "tickets"),
    ],
)
def test_an_alert_takes_the_route_of_its_severity(labels: list[str], receiver: str) -> None:
    configuration = f"--config.file={MONITORING / 'alertmanager.yml'}"
    done = run("amtool", "config", "routes", "test", configuration, f"--verify.receivers={receiver}", *labels)
    assert done.returncode == 0, done.stdout


def test_the_metrics_port_is_scraped_and_not_the_applications() -> None:
    jobs = {job["job_name"]: job for job in prometheus()["scrape_configs"]}
    assert targets([jobs["baliblissed"]]) == [f"backend:{Settings.model_fields['metrics_port'].default}"]
    assert "metrics_path" not in jobs["baliblissed"]
    assert jobs.keys() == {"baliblissed", "prometheus", "alertmanager", "otel-collector", "victorialogs"}


def test_alerts_reach_the_alertmanager() -> None:
    assert targets(prometheus()["alerting"]["alertmanagers"]) == ["alertmanager:9093"]
    assert prometheus()["rule_files"] == ["rules/*.yml"]


def test_pages_are_sooner_than_tickets() -> None:
    route = alertmanager()["route"]
    (critical,) = [child for child in route["routes"] if child["matchers"] == ['severity="critical"']]
    for name in ("group_wait", "group_interval", "repeat_interval"):
        assert seconds(critical[name]) < seconds(route[name])


def test_a_group_waits_for_the_alert_that_inhibits_it() -> None:
    """Another scrape and another evaluation may see it; a ticket's may have a longer `for` as well."""
    route, own = alertmanager()["route"], prometheus()["global"]
    (critical,) = [child for child in route["routes"] if child["matchers"] == ['severity="critical"']]
    assert seconds(critical["group_wait"]) >= seconds(own["scrape_interval"]) + seconds(own["evaluation_interval"])
    sources = {"DependencyDown", "OptionalDependencyDown", "TargetDown", "NotReady", "CollectorDown"}
    waits = [seconds(rule.get("for", "0s")) for name, rule in alerts().items() if name in sources]
    assert seconds(route["group_wait"]) >= max(waits)


def test_people_are_told_of_the_end_of_an_alert_and_a_heartbeat_has_none() -> None:
    resolved = {
        one["name"]: [hook["send_resolved"] for hook in one.get("webhook_configs", [])]
        for one in alertmanager()["receivers"]
    }
    assert resolved == {"pages": [True], "tickets": [True], "heartbeat": [False], "nobody": []}


def test_a_heartbeat_is_repeated_at_every_interval() -> None:
    (heartbeat,) = [child for child in alertmanager()["route"]["routes"] if child["receiver"] == "heartbeat"]
    assert seconds(heartbeat["repeat_interval"]) < seconds(heartbeat["group_interval"])


def seconds(duration: str) -> int:
    """Return the seconds of a duration of one unit, such as 5m."""
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]
