"""The alerting rules are valid for promtool, use the thresholds of slo.yaml and query existing metrics."""

import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_fastapi_instrumentator import metrics as instrumentator

from app.monitoring.metrics.catalogue import LATENCY_BUCKETS, build_catalogue
from app.monitoring.metrics.registry import BoundedRegistry
from app.monitoring.server.master import EXIT_REASONS
from tests.agency import metrics_in
from tests.alerts.programs import run
from tests.alerts.rules import (
    MONITORING,
    RULE_TESTS,
    RULES,
    RUNBOOKS,
    alerts,
    grouping,
    load,
    matchers,
    metrics,
    slo,
    thresholds,
    windows,
)

NAMES = sorted(alerts())
TEST_FILES = sorted(RULE_TESTS.glob("*.yml"))
BOUNDARIES = [*(str(float(boundary)) for boundary in LATENCY_BUCKETS), "+Inf"]  # as the exposition writes them
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}
LABELS_OF_A_SCRAPE = {"job", "instance"}


def served() -> dict[str, set[str]]:
    """Return the labels of every series that the service exposes or Prometheus adds, by name."""
    registry = BoundedRegistry()
    metrics_in(registry)
    build_catalogue(registry)
    assert instrumentator.default(registry=registry) is not None
    found = {"up": set(LABELS_OF_A_SCRAPE)}
    for metric in set(registry._names_to_collectors.values()):
        assert isinstance(metric, MetricWrapperBase)
        for suffix in SUFFIXES.get(str(metric._type), ("",)):
            boundary = {"le"} if suffix == "_bucket" else set()
            found[metric._name + suffix] = {*metric._labelnames, *boundary, *LABELS_OF_A_SCRAPE}
    return found


def test_promtool_accepts_the_rules() -> None:
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout
    assert f"{len(NAMES)} rules found" in done.stdout


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_promtools_unit_tests_pass(path: Path) -> None:
    done = run("promtool", "test", "rules", path)
    assert done.returncode == 0, done.stdout


def test_every_alert_has_its_unit_tests() -> None:
    assert [path.stem for path in TEST_FILES] == NAMES
    for path in TEST_FILES:
        cases = [case for test in load(path)["tests"] for case in test["alert_rule_test"]]
        assert {case["alertname"] for case in cases} == {path.stem}
        assert any(case["exp_alerts"] for case in cases), f"{path.name} never sees the alert fire"
        assert any(not test["input_series"] for test in load(path)["tests"]), f"{path.name} lacks the absent series"
        if path.stem != "Watchdog":
            assert any(not case["exp_alerts"] for case in cases), f"{path.name} never sees the alert silent"
            assert any(resolves(test["alert_rule_test"]) for test in load(path)["tests"]), f"{path.name} never resolves"


def resolves(cases: list[dict[str, Any]]) -> bool:
    """Return True if the cases, in order of time, contain an alert that fires and then resolves."""
    return (True, False) in pairwise(bool(case["exp_alerts"]) for case in cases)


@pytest.mark.parametrize(
    ("alert", "right", "wrong"),
    [
        ("HighErrorRate", 'status=~"5.."', 'status=~"6.."'),
        ("HighErrorRate", 'status=~"5.."', 'code=~"5.."'),
        ("HighErrorRate", 'status=~"5.."', 'status=~"[45].."'),
        ("HighErrorRate", 'handler!~"/health.*"', 'handler!~"/none"'),
        ("HighErrorRate", "> 0.05", "> 0.052"),
        ("HighErrorRate", "> 0.05", "> 0.048"),
        ("HighErrorRate", "> 0.2", "> 0.15"),
        ("HighErrorRate", "> 0.2", "> 0.25"),
        ("HighErrorRate", "for: 2m", "for: 1m"),
        ("HighErrorRate", "sum by (job)", "sum"),
        ("HighErrorRate", "[5m]", "[15m]"),
        ("HighLatencyP99", 'le="2.0"', 'le="2"'),
        ("HighLatencyP99", 'le="2.0"', 'le="2.5"'),
        ("HighLatencyP99", 'le="2.0"', 'le="1.0"'),
        ("HighLatencyP99", "> 0.01", "> 0.012"),
        ("HighLatencyP99", "> 0.01", "> 0.008"),
        ("HighLatencyP99", "> 0.5", "> 0.47"),
        ("HighLatencyP99", "> 0.5", "> 0.53"),
        ("HighLatencyP99", "|/api/v1/assistant/.*", ""),
        ("HighLatencyP99", "/health.*|", ""),
        ("HighLatencyP99", "sum by (job)", "sum"),
        ("TargetDown", "or absent(up", "or absent(down"),
        ("TargetDown", "== 0", "== 1"),
        ("TargetDown", "for: 1m", "for: 30s"),
        ("TargetDown", 'up{job="baliblissed"}', "up"),
        ("CircuitBreakerOpen", "== 2", ">= 1"),
        ("CircuitBreakerOpen", "for: 2m", "for: 1m"),
        (
            "CircuitBreakerOpen",
            "max_over_time(baliblissed_circuit_breaker_state[1m])",
            "baliblissed_circuit_breaker_state",
        ),
        ("CircuitBreakerOpen", "max by", "min by"),
        ("WorkerCrashLoop", "> 2.5", "> 1.5"),
        ("WorkerCrashLoop", "> 2.5", "> 3.5"),
        ("WorkerCrashLoop", "for: 5m", "for: 4m"),
        ("WorkerCrashLoop", "for: 5m", "for: 6m"),
        ("WorkerCrashLoop", "[5m]", "[6m]"),
        ("WorkerCrashLoop", "stopped|max_requests", "stopped"),
        ("WorkerCrashLoop", "stopped|max_requests", "max_requests"),
        ("WorkerCrashLoop", "sum by (job, instance)", "sum by (job, instance, reason)"),
        ("WorkerCrashLoop", "sum by (job, instance)", "sum by (job)"),
        ("NotEnoughWorkers", ">= 1", ">= 2"),
        ("NotEnoughWorkers", ">= 1", ">= 0"),
        ("NotEnoughWorkers", "for: 5m", "for: 4m"),
        ("NotEnoughWorkers", 'state="live"', 'state="alive"'),
        ("NotEnoughWorkers", "by (job, instance)", "by (job)"),
        ("MetricFilesUnreadable", "> 0", "> 1"),
        ("MetricFilesUnreadable", ">", ">="),
        ("MetricFilesUnreadable", "[10m]", "[5m]"),
        ("MetricFilesUnreadable", "[10m]", "[15m]"),
        ("MetricFilesUnreadable", "increase", "delta"),
        ("MetricFilesUnreadable", "or increase(baliblissed_exporter_entries_left_out_total[10m])", ""),
        ("MetricFilesUnreadable", "by (job, instance)", "by (job)"),
        ("MetricsDirectoryNearlyFull", "< 8388608", "< 8380000"),
        ("MetricsDirectoryNearlyFull", "< 8388608", "<= 8388608"),
        ("MetricsDirectoryNearlyFull", "< 0.2", "< 0.19"),
        ("MetricsDirectoryNearlyFull", "< 0.2", "<= 0.2"),
        ("MetricsDirectoryNearlyFull", "for: 2m", "for: 1m"),
        ("MetricsDirectoryNearlyFull", "== 1 unless", "== 0 unless"),
        ("MetricsDirectoryNearlyFull", "== 1 unless", "unless"),
        ("MetricsDirectoryNearlyFull", 'up{job="baliblissed"}', "up"),
        ("MetricsDirectoryNearlyFull", "or 0 * min", "and 0 * min"),
        ("MetricsDirectoryNearlyFull", "min by (job, instance)", "max by (job)"),
        ("MetricSeriesRefused", "offset 10m", "offset 5m"),
        ("MetricSeriesRefused", "max_over_time(baliblissed_metrics_series_refused_total[10m] offset 10m)", "up"),
        (
            "MetricSeriesRefused",
            "max_over_time(baliblissed_metrics_series_refused_total[10m] offset 10m)",
            "baliblissed_metrics_series_refused_total offset 10m",
        ),
        ("MetricSeriesRefused", "unless max", "and max"),
        ("MetricSeriesRefused", "[10m])) > 0", "[10m])) > 20"),
        ("MetricSeriesRefused", "[10m])) > 0", "[5m])) > 0"),
        ("MetricSeriesRefused", "instance, metric)", "instance)"),
        ("MetricSeriesRefused", "series_lost_total", "series_gone_total"),
        ("Watchdog", "vector(1)", "up == 1"),
        ("Watchdog", "severity: none", "severity: critical"),
    ],
)
def test_a_rule_broken_on_purpose_fails_its_unit_tests(tmp_path: Path, alert: str, right: str, wrong: str) -> None:
    rule = text_of(alert)
    assert right in rule
    done = judged_alone(tmp_path, alert, rule.replace(right, wrong))
    assert done.returncode != 0, done.stdout
    assert "FAILED" in done.stdout


@pytest.mark.parametrize("alert", NAMES)
def test_a_rule_passes_its_unit_tests_without_the_others(tmp_path: Path, alert: str) -> None:
    done = judged_alone(tmp_path, alert, text_of(alert))
    assert done.returncode == 0, done.stdout


def text_of(alert: str) -> str:
    """Return the text of a rule, from its name on."""
    rules = RULES.read_text()
    return rules[rules.index(f"- alert: {alert}\n") :].split("\n      - alert:")[0].split("\n  - name:")[0]


def judged_alone(directory: Path, alert: str, rule: str) -> subprocess.CompletedProcess[str]:
    """Run the unit tests of an alert on its rule alone: with all rules they take four times as long."""
    tests = directory / "tests"
    tests.mkdir()
    shutil.copy(RULES.parent / "tests" / f"{alert}.yml", tests)
    (directory / RULES.name).write_text(f"groups:\n  - name: alone\n    rules:\n      {rule}\n")
    return run("promtool", "test", "rules", tests / f"{alert}.yml")


@pytest.mark.parametrize("alert", NAMES)
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: str) -> None:
    rule = alerts()[alert]
    assert set(rule["labels"]) == {"severity", "service"}
    assert rule["labels"]["service"] == slo()["service"]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["summary"]
    assert re.search(r"\$value \| (?:humanize|printf)", rule["annotations"]["description"])
    assert rule["annotations"]["runbook_url"] == f"{slo()['runbooks']}/{alert}.md"


def test_every_alert_has_a_runbook_page_and_every_page_an_alert() -> None:
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == NAMES


@pytest.mark.parametrize("alert", NAMES)
def test_a_runbook_page_answers_the_same_six_questions(alert: str) -> None:
    page = (RUNBOOKS / f"{alert}.md").read_text()
    assert page.startswith(f"# {alert}\n")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == ["Meaning", "Impact", "First five minutes", "Causes", "Mitigation", "False alarms"]


def test_the_objectives_name_every_alert_and_no_other() -> None:
    assert sorted(slo()["alerts"]) == NAMES


LIMITS = ("error_ratio", "state", "exits", "missing", "files", "free_bytes", "free_share", "series")
# Numbers in the rules that are not objectives: the values of `up`, and the zero of a second counter.
COMPARED_AS_WELL = {"TargetDown": [0.0], "MetricsDirectoryNearlyFull": [1.0], "MetricSeriesRefused": [0.0]}


def stated(alert: str) -> list[float]:
    """Return the numbers that slo.yaml states for an alert, in the order of its expression."""
    objective = slo()["alerts"][alert]
    numbers = [objective[name] for name in (*LIMITS, "minimum_requests_per_second") if name in objective]
    if "quantile" in objective:
        numbers.insert(0, round(1 - objective["quantile"], 9))
    return [*numbers, *COMPARED_AS_WELL.get(alert, [])]


@pytest.mark.parametrize("alert", NAMES)
def test_an_alert_has_the_numbers_of_the_objectives(alert: str) -> None:
    rule, objective = alerts()[alert], slo()["alerts"][alert]
    assert rule["labels"]["severity"] == objective["severity"]
    assert rule.get("for") == objective.get("for")
    assert windows(rule["expr"]) == ({objective["window"]} if "window" in objective else set())
    assert thresholds(rule["expr"]) == stated(alert)


@pytest.mark.parametrize("alert", NAMES)
def test_an_alert_leaves_out_what_the_objectives_leave_out(alert: str) -> None:
    rule, objective = alerts()[alert], slo()["alerts"][alert]
    left_out = {value for label, operator, value in matchers(rule["expr"]) if (label, operator) == ("handler", "!~")}
    assert left_out == ({objective["excluded_handlers"]} if "excluded_handlers" in objective else set())
    assert rule["expr"].count("http_") == rule["expr"].count('handler!~"')


def test_every_reason_for_an_exit_that_is_not_planned_counts_as_a_crash() -> None:
    planned = slo()["alerts"]["WorkerCrashLoop"]["planned_reasons"]
    assert ("reason", "!~", planned) in matchers(alerts()["WorkerCrashLoop"]["expr"])
    assert {*EXIT_REASONS.values()} - set(planned.split("|")) == {"killed"}
    assert set(planned.split("|")) < {*EXIT_REASONS.values()}


def test_the_latency_threshold_is_a_bucket_boundary_with_others_above_it() -> None:
    threshold = slo()["alerts"]["HighLatencyP99"]["threshold_seconds"]
    (boundary,) = {value for label, _, value in matchers(alerts()["HighLatencyP99"]["expr"]) if label == "le"}
    assert boundary == str(float(threshold))
    assert boundary in BOUNDARIES[:-2]


def test_the_unit_tests_have_the_services_buckets() -> None:
    seen: dict[str, list[str]] = {}
    for number, test in enumerate(load(RULE_TESTS / "HighLatencyP99.yml")["tests"]):
        for series in test["input_series"]:
            found = {label: value for label, _, value in matchers(series["series"])}
            if series["series"].startswith("http_request_duration_seconds_bucket"):
                seen.setdefault(f"{number} {found['job']} {found['handler']}", []).append(found["le"])
    assert seen
    assert all(boundaries == BOUNDARIES for boundaries in seen.values()), seen


@pytest.mark.parametrize("alert", [name for name in NAMES if name != "Watchdog"])
def test_an_alert_rests_on_metrics_and_labels_that_exist(alert: str) -> None:
    series, expression = served(), alerts()[alert]["expr"]
    named = metrics(expression)
    assert named
    assert named <= series.keys()
    for name, selector in re.findall(r"\b(\w+)\{([^}]*)\}", expression):
        assert {label for label, _, _ in matchers(selector)} <= series[name], name
    assert set().union(*grouping(expression)) <= set().union(*(series[name] for name in named))


@pytest.mark.parametrize("alert", [name for name in NAMES if name != "Watchdog"])
def test_an_alert_keeps_deployments_apart(alert: str) -> None:
    expression = alerts()[alert]["expr"]
    assert len(re.findall(r"\b(?:sum|min|max)\b", expression)) == len(grouping(expression)) > 0
    assert all("job" in labels for labels in grouping(expression))


def test_the_job_of_the_objectives_is_scraped() -> None:
    jobs: list[dict[str, Any]] = load(MONITORING / "prometheus.yml")["scrape_configs"]
    assert slo()["job"] in {job["job_name"] for job in jobs}
    assert ("job", "=", slo()["job"]) in matchers(alerts()["TargetDown"]["expr"])
