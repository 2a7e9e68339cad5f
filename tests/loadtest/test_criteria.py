"""The criteria of a load test are those of monitoring/: another objective there is another criterion here."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtest import criteria
from loadtest.configuration import ConfigurationError
from loadtest.criteria import Criteria, Latency
from loadtest.inhibition import effects, matches
from loadtest.stack import MONITORING

SHIPPED: dict[str, Any] = yaml.safe_load((MONITORING / "slo.yaml").read_text())
ASSISTANT = "/health.*|/api/v1/assistant/.*"
NAMES = {
    "DependencyDown": "critical",
    "HighErrorRate": "critical",
    "HighLatencyP99": "warning",
    "AvailabilityBudgetBurnsFast": "critical",
    "AIErrorRate": "warning",
    "NotReady": "critical",
    "RecentOutage": "none",
    "Watchdog": "none",
}


def read(directory: Path, content: dict[str, Any], names: dict[str, str]) -> Criteria:
    """Return the criteria of this slo.yaml and of rules with these alerts."""
    (directory / "slo.yaml").write_text(yaml.safe_dump(content))
    (directory / "alertmanager.yml").write_text((MONITORING / "alertmanager.yml").read_text())
    rules = [{"alert": name, "labels": {"severity": severity}} for name, severity in names.items()]
    (directory / "rules.yml").write_text(yaml.safe_dump({"groups": [{"rules": [{"record": "a:b:c"}, *rules]}]}))
    return criteria.read(directory, directory / "rules.yml")


def changed(path: str, value: object) -> dict[str, Any]:
    """Return the shipped slo.yaml with another value at `path`, such as slos.0.objective."""
    content: dict[str, Any] = yaml.safe_load(yaml.safe_dump(SHIPPED))
    place: Any = content
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = value
    return content


def test_the_shipped_objectives_are_the_criteria() -> None:
    found = criteria.read(MONITORING, MONITORING / "rules" / "baliblissed.yml")
    assert found.max_error_share == 0.001
    assert found.latencies == (
        Latency("latency", 0.01, 0.5, ASSISTANT),
        Latency("HighLatencyP99", 0.01, 2.0, ASSISTANT),
    )
    assert found.notice == 60, "a page's group_interval"
    assert (found.window("HighErrorRate"), found.wait("HighErrorRate"), found.kept("HighErrorRate")) == (300, 120, 0)
    assert 600 <= found.longest <= 900


def test_another_objective_is_another_criterion(tmp_path: Path) -> None:
    slos = {one["name"]: index for index, one in enumerate(SHIPPED["slos"])}
    available, quick = (f"slos.{slos[name]}" for name in ("availability", "latency"))
    assert read(tmp_path, changed(f"{available}.objective", 99.5), NAMES).max_error_share == 0.005
    assert read(tmp_path, changed(f"{quick}.objective", 95), NAMES).latencies[0].share == 0.05
    query = SHIPPED["slos"][slos["latency"]]["sli"]["events"]["error_query"].replace('le="0.5"', 'le="0.25"')
    assert read(tmp_path, changed(f"{quick}.sli.events.error_query", query), NAMES).latencies[0].seconds == 0.25
    hard = read(tmp_path, changed("alerts.HighLatencyP99.threshold_seconds", 2.5), NAMES).latencies[1]
    assert (hard.name, hard.seconds) == ("HighLatencyP99", 2.5)


@pytest.mark.parametrize(
    ("expression", "wait", "longest"),
    [
        ("rate(a[5m]) > 1", "2m", 420),
        ("job:http_errors:ratio_rate5m > 0.05 and job:http_requests:rate5m > 0.2", "2m", 420),
        ("max_over_time(a[1m]) == 2", "10m", 660),
        ("job_slo:sli_errors:ratio_rate30m > 1 and job_slo:sli_errors:ratio_rate6h > 1", "2m", 600),
        ("job_dependency:dependency_up:avg < 0.5", "1m", 600),
    ],
)
def test_a_run_is_as_long_as_its_alerts_need_but_for_those_that_need_too_long(
    tmp_path: Path, expression: str, wait: str, longest: float
) -> None:
    rules: list[dict[str, Any]] = [
        {"alert": "HighErrorRate", "labels": {"severity": "critical"}, "expr": expression, "for": wait},
        {"alert": "Other", "labels": {"severity": "warning"}, "expr": "a", "for": "10m" if longest == 600 else "1m"},
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"rules": rules}]}))
    assert criteria.read(MONITORING, tmp_path / "rules.yml").longest == longest


def test_the_page_of_a_fault_is_the_first_of_its_alerts_that_the_rules_have(tmp_path: Path) -> None:
    fault = read(tmp_path, SHIPPED, NAMES).faults["ai"]
    effects_of_ai = {"HighErrorRate", "AvailabilityBudgetBurnsFast", "AIErrorRate"}
    assert (fault.page, fault.inhibits) == ("DependencyDown", True)
    assert fault.may_fire == effects_of_ai | {"DependencyDown", "RecentOutage", "Watchdog"}
    without = {name: severity for name, severity in NAMES.items() if name != "DependencyDown"}
    fault = read(tmp_path, SHIPPED, without).faults["ai"]
    assert (fault.page, fault.inhibits) == ("HighErrorRate", False)
    assert fault.may_fire == effects_of_ai | {"RecentOutage", "Watchdog"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("loadtest", None),
        ("loadtest.objectives", ["availability", "no-such"]),
        ("loadtest.objectives", ["latency"]),
        ("loadtest.hard_limit", "NoSuchAlert"),
        ("loadtest.longest_alert", "soon"),
        ("loadtest.faults", {"ai": ["NoSuchAlert"]}),
        ("slos", None),
    ],
)
def test_criteria_that_cannot_be_read_are_named(tmp_path: Path, path: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match="the criteria of the load test cannot be read"):
        read(tmp_path, changed(path, value), NAMES)


@pytest.mark.parametrize(
    ("matcher", "matching"),
    [
        ('alertname="A"', True),
        ('alertname="A|B"', False),
        ('alertname=~"A|B"', True),
        ('alertname=~"B"', False),
        ('alertname!="A"', False),
        ('alertname!~"B.*"', True),
        ('job=""', True),
        ('job!=""', False),
    ],
)
def test_a_matcher_is_read_as_alertmanager_reads_it(matcher: str, *, matching: bool) -> None:
    assert matches([matcher], {"alertname": "A"}) is matching


def test_an_alert_inhibits_what_its_rules_name_and_nothing_else() -> None:
    def inhibited(**labels: str) -> set[str]:
        return effects(MONITORING / "alertmanager.yml", labels, NAMES)

    ai = {"HighErrorRate", "AvailabilityBudgetBurnsFast", "AIErrorRate"}
    assert inhibited(alertname="DependencyDown", dependency="ai") == ai
    assert "NotReady" in inhibited(alertname="DependencyDown", dependency="database")
    assert inhibited(alertname="Watchdog") == set()


def test_a_matcher_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="is no matcher"):
        matches(["alertname=A"], {"alertname": "A"})
