"""The alerting rules are valid for promtool, use the thresholds of slo.yaml and query existing metrics."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_fastapi_instrumentator import metrics as instrumentator

from app.metrics import AI_BUCKETS
from app.monitoring.metrics.catalogue import LATENCY_BUCKETS, build_catalogue
from app.monitoring.metrics.registry import BoundedRegistry
from app.monitoring.server.master import EXIT_REASONS
from monitoring.rules.cases import CASES, counted, not_applicable
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
    records,
    resolved,
    rules,
    slo,
)
from tests.dashboards.boards import BOARDS, panels

NAMES = sorted(alerts())
TEST_FILES = sorted(RULE_TESTS.glob("*.yml"))
BOUNDARIES = [*(str(float(boundary)) for boundary in LATENCY_BUCKETS), "+Inf"]  # as the exposition writes them
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}
AI_BOUNDARIES = [*(str(float(boundary)) for boundary in AI_BUCKETS), "+Inf"]
# Metrics of programs beside the service: Prometheus, Alertmanager, the collector, kube-state-metrics.
FOREIGN = re.compile(r"prometheus_|alertmanager_|otelcol_|kube_|up$|ALERTS$")
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
    assert f"{len(rules())} rules found" in done.stdout


@pytest.mark.parametrize("path", sorted((RULE_TESTS / "incidents").glob("*.yml")), ids=lambda path: path.stem)
def test_the_incidents_are_as_their_tests_say(path: Path) -> None:
    done = run("promtool", "test", "rules", path)
    assert done.returncode == 0, done.stdout


def test_every_alert_has_its_unit_tests() -> None:
    assert [path.stem for path in TEST_FILES] == NAMES
    for path in TEST_FILES:
        cases = [case for test in load(path)["tests"] for case in test.get("alert_rule_test", [])]
        assert {case["alertname"] for case in cases} == {path.stem}
        assert any(case["exp_alerts"] for case in cases), f"{path.name} never sees the alert fire"


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_an_alert_is_tested_in_every_case_that_applies(path: Path) -> None:
    text = path.read_text()
    excused = not_applicable(text)
    assert counted(text).keys() | excused.keys() == set(CASES)
    assert not counted(text).keys() & excused.keys()
    tests = load(path)["tests"]
    assert all(fires(test) or counted_firing(test) for test in tests if test["name"].startswith("fires:"))
    assert not any(fires(test, "baliblissed") for test in tests if test["name"].startswith("just below:"))
    assert all(resolves(test["alert_rule_test"]) for test in tests if test["name"].startswith("resolves:"))


def fires(test: dict[str, Any], job: str = "") -> bool:
    """Return whether an alert is expected: of `job`, since other jobs of a test may show the contrast.

    A test asks ALERTS where the alert's figure is another one in Prometheus 3, whose windows are open to the left.
    """
    if "alert_rule_test" not in test:
        return any("ALERTS" in case["expr"] and case["exp_samples"] for case in test["promql_expr_test"])
    expected = [one["exp_labels"] for case in test["alert_rule_test"] for one in case["exp_alerts"]]
    return any(labels.get("job") == job or not job for labels in expected)


def counted_firing(test: dict[str, Any]) -> bool:
    """Return whether a query on ALERTS expects samples: for values that differ between versions of Prometheus."""
    queries = test.get("promql_expr_test", [])
    return any(query["exp_samples"] for query in queries if "ALERTS{" in query["expr"])


def resolves(cases: list[dict[str, Any]]) -> bool:
    """Return True if the cases, in order of time, contain an alert that fires and then resolves."""
    return (True, False) in pairwise(bool(case["exp_alerts"]) for case in cases)


@pytest.mark.parametrize("alert", NAMES)
def test_an_alert_says_what_is_wrong_and_what_to_do(alert: str) -> None:
    rule = alerts()[alert]
    assert set(rule["labels"]) - {"slo"} == {"severity", "service"}
    assert rule["labels"]["severity"] in {"critical", "warning", "none"}
    assert rule["labels"]["service"] == slo()["service"]
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert rule["annotations"]["summary"]
    assert re.search(r"\$value \| (?:humanize|printf)", rule["annotations"]["description"])
    assert rule["annotations"]["runbook_url"] == f"{slo()['runbooks']}/{alert}.md"
    assert rule["annotations"]["dashboard_url"].startswith(f"{slo()['dashboards']}/baliblissed-")


@pytest.mark.parametrize("alert", NAMES)
def test_an_alert_opens_a_panel_that_links_to_its_runbook(alert: str) -> None:
    uid, number = re.fullmatch(r".*/d/(.+)\?viewPanel=(\d+)", alerts()[alert]["annotations"]["dashboard_url"]).groups()  # type: ignore[union-attr]
    (board,) = [board for board in BOARDS.values() if board["uid"] == uid]
    (panel,) = [panel for panel in panels(board) if str(panel["id"]) == number]
    assert f"{slo()['runbooks']}/{alert}.md" in [link["url"] for link in panel["links"]]


def test_every_alert_has_a_runbook_page_and_every_page_an_alert() -> None:
    assert sorted(path.stem for path in RUNBOOKS.glob("*.md")) == NAMES


@pytest.mark.parametrize("alert", NAMES)
def test_a_runbook_page_answers_the_same_six_questions(alert: str) -> None:
    page = (RUNBOOKS / f"{alert}.md").read_text()
    assert page.startswith(f"# {alert}\n")
    headings = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert headings == ["Meaning", "Impact", "First five minutes", "Causes", "Mitigation", "False alarms"]


@pytest.mark.parametrize("alert", NAMES)
def test_the_commands_of_a_runbook_page_name_the_namespace_and_variables_that_are_set(alert: str) -> None:
    page = (RUNBOOKS / f"{alert}.md").read_text()
    of_nodes = r"describe node|cordon|uncordon|describe pod`"
    for command in re.findall(r"kubectl [^\n`]*`?", page):
        assert command.startswith("kubectl -n ") or re.search(of_nodes, command), command
    services = load(MONITORING.parent / "docker-compose.yaml")["services"]
    for service, rest in re.findall(r"docker compose exec (?:-T )?([\w-]+) ([^\n]*)", page):
        for variable in re.findall(r"\$\{?([A-Z_]+)|environ\['([A-Z_]+)'", rest):
            assert set(variable) & services[service]["environment"].keys(), rest


def test_every_reason_for_an_exit_that_is_not_planned_counts_as_a_crash() -> None:
    planned = slo()["alerts"]["WorkerCrashLoop"]["planned_reasons"]
    assert ("reason", "!~", planned) in matchers(resolved(alerts()["WorkerCrashLoop"]["expr"]))
    assert {*EXIT_REASONS.values()} - set(planned.split("|")) == {"killed"}
    assert set(planned.split("|")) < {*EXIT_REASONS.values()}


def test_the_latency_thresholds_are_bucket_boundaries_with_others_above_them() -> None:
    threshold = slo()["alerts"]["HighLatencyP99"]["threshold_seconds"]
    found = matchers(resolved(alerts()["HighLatencyP99"]["expr"]))
    assert {value for label, _, value in found if label == "le"} == {str(float(threshold))}
    assert str(float(threshold)) in BOUNDARIES[:-2]
    for one in slo()["slos"]:
        for label, _, value in matchers(one["sli"]["events"]["error_query"]):
            known = AI_BOUNDARIES if "baliblissed_ai_" in one["sli"]["events"]["error_query"] else BOUNDARIES
            assert label != "le" or value in known[:-2], one["name"]


def test_the_unit_tests_have_the_services_buckets() -> None:
    seen: dict[str, list[str]] = {}
    for number, test in enumerate(load(RULE_TESTS / "HighLatencyP99.yml")["tests"]):
        for series in test["input_series"]:
            found = {label: value for label, _, value in matchers(series["series"])}
            if series["series"].startswith("http_request_duration_seconds_bucket"):
                seen.setdefault(f"{number} {found['job']} {found['handler']}", []).append(found["le"])
    assert seen
    assert all(set(boundaries) <= set(BOUNDARIES) for boundaries in seen.values()), seen


@pytest.mark.parametrize("alert", [name for name in NAMES if name != "Watchdog"])
def test_an_alert_rests_on_metrics_and_labels_that_exist(alert: str) -> None:
    series, expression = served(), resolved(alerts()[alert]["expr"])
    named = metrics(expression)
    assert named
    unknown = named - series.keys() - records().keys()
    assert all(FOREIGN.match(name) for name in unknown), unknown
    for name, selector in re.findall(r"\b(\w+)\{([^}]*)\}", expression):
        if name in series:
            assert {label for label, _, _ in matchers(selector)} <= series[name], name


@pytest.mark.parametrize("alert", [name for name in NAMES if name != "Watchdog"])
def test_an_alert_keeps_deployments_apart(alert: str) -> None:
    expression = resolved(alerts()[alert]["expr"])
    aggregations = re.findall(r"(?<![\w:])(?:sum|min|max|avg|count|group)\b", expression)
    assert len(aggregations) == len(grouping(expression)), "an aggregation without labels"
    assert all("job" in labels for labels in grouping(expression))


def test_no_rule_knows_the_service_by_the_name_of_its_job() -> None:
    allowed = {slo()["jobs"][name] for name in ("collector", "prometheus", "alertmanager")}
    for name, rule in alerts().items():
        for label, _, value in matchers(resolved(rule["expr"])):
            assert label != "job" or value in {*allowed, ".+"}, name


def test_the_job_of_the_objectives_is_scraped() -> None:
    jobs: list[dict[str, Any]] = load(MONITORING / "prometheus.yml")["scrape_configs"]
    assert set(slo()["jobs"].values()) <= {job["job_name"] for job in jobs}
