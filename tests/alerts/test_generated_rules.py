"""The generator of the rules: the committed files, another service's, and numbers of slo.yaml that change them."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT
from monitoring.rules import objectives
from monitoring.rules.__main__ import PROMETHEUS_RULE, Names, drift, place, render
from monitoring.rules.groups import OF_THE_AGENCY, groups
from monitoring.rules.rendering import prometheus_rule, rules_file
from tests.alerts.programs import run
from tests.alerts.rules import RULES, alerts, load, slo

COMMITTED = render(Names())
PANELS = dict.fromkeys(alerts(), "panel")
SHIPPED = {file: file(groups(objectives.load()), objectives.load(), PANELS) for file in (rules_file, prometheus_rule)}


def generated(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitoring.rules", "--output", str(output), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_committed_files_are_those_of_the_generator() -> None:
    assert drift(COMMITTED) == []


@pytest.mark.parametrize("name", ["baliblissed.yml", PROMETHEUS_RULE, "tests/HighErrorRate.yml"])
def test_drift_of_a_committed_file_is_found(name: str) -> None:
    changed = {**COMMITTED, name: COMMITTED[name].replace("0.05", "0.06") + "\n"}
    assert drift(changed) == [f"{place(name).relative_to(ROOT)}: differs from what python -m monitoring.rules makes"]


def test_the_prometheus_rule_holds_the_same_groups() -> None:
    document = load(place(PROMETHEUS_RULE))
    assert document["kind"] == "PrometheusRule"
    assert document["spec"] == load(RULES)


def numbers() -> list[tuple[str, ...]]:
    """Return the path of each value in slo.yaml that a rule states."""
    found: list[tuple[str, ...]] = [
        ("alerts", alert, key) for alert, own in slo()["alerts"].items() for key in own if key != "severity"
    ]
    found += [("slos", str(number), "objective") for number in range(len(slo()["slos"]))]
    return found


def changed(path: tuple[str, ...]) -> dict[str, Any]:
    """Return slo.yaml with another value at `path`."""
    content = copy.deepcopy(slo())
    where: Any = content
    for key in path[:-1]:
        where = where[int(key)] if isinstance(where, list) else where[key]
    value = where[path[-1]]
    if isinstance(value, str):
        where[path[-1]] = "11m" if objectives.DURATION.fullmatch(value) else f"{value}|/other"
    else:
        where[path[-1]] = value * 0.9 if value else 1
    return content


@pytest.mark.parametrize("path", numbers(), ids=".".join)
def test_each_number_of_the_objectives_changes_rules_and_prometheus_rule(path: tuple[str, ...]) -> None:
    other = objectives.parse(changed(path))
    found = groups(other)
    for file, before in SHIPPED.items():
        assert file(found, other, PANELS) != before


def test_promtool_accepts_the_rules_of_another_service_and_their_tests_pass(tmp_path: Path) -> None:
    names = ["--namespace", "shop", "--job", "shop-api", "--runbooks", "https://example.org/runbooks"]
    names += ["--dashboards", "https://grafana.example/d"]
    done = generated(tmp_path, *names, "--without", "WorkerCrashLoop")
    assert done.returncode == 0, done.stderr
    tests = sorted((tmp_path / "tests").glob("*.yml"))
    assert {path.stem for path in tests} == alerts().keys() - OF_THE_AGENCY - {"WorkerCrashLoop"}
    text = "".join(path.read_text() for path in (tmp_path / "shop.yml", *tests))
    assert "baliblissed" not in text
    assert "WorkerCrashLoop" not in text
    assert "https://grafana.example/d/shop-fastapi-overview?viewPanel=" in text
    for foreign in ("localhost:3000", "shop_ai_", "shop_cache_", "slo: ai-", "job:ai_", "job_cache:"):
        assert foreign not in text
    checked = run("promtool", "check", "rules", tmp_path / "shop.yml")
    assert checked.returncode == 0, checked.stdout
    tested = run(
        "promtool", "test", "rules", tmp_path / "tests" / "HighErrorRate.yml", tmp_path / "tests" / "NotReady.yml"
    )
    assert tested.returncode == 0, tested.stdout


def test_an_unknown_alert_and_a_wrong_namespace_are_refused(tmp_path: Path) -> None:
    done = generated(tmp_path, "--namespace", "shop", "--job", "shop", "--without", "Nothing")
    assert done.returncode == 1
    assert "--without Nothing: want one of " in done.stderr
    done = generated(tmp_path, "--namespace", "my-shop", "--job", "shop")
    assert "'my-shop': want letters, digits and underscores" in done.stderr
    assert not list(tmp_path.iterdir())


def test_another_service_does_not_overwrite_the_committed_rules() -> None:
    command = [sys.executable, "-m", "monitoring.rules", "--namespace", "shop"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "want --output too" in done.stderr
    assert drift(COMMITTED) == []


def test_a_new_form_of_the_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="in a form that FORMS does not have"):
        Names("shop").apply("expr: sum(of_baliblissed)")
