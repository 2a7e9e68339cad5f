"""slo.yaml: a wrong value is an error of one line, and a document of sloth is read as it is."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from monitoring.rules.__main__ import Names, render
from monitoring.rules.formats import read
from monitoring.rules.groups import groups
from monitoring.rules.objectives import Objective, Objectives, ObjectivesError, Pair, load, parse, seconds
from tests.alerts.rules import slo


def wrong(path: str, value: object) -> dict[str, Any]:
    """Return slo.yaml with `value` at a path such as slos.0.objective; None removes the key."""
    content = copy.deepcopy(slo())
    where: Any = content
    *keys, last = path.split(".")
    for key in keys:
        where = where[int(key)] if isinstance(where, list) else where[key]
    if value is None:
        del where[last]
    else:
        where[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("version", "prometheus/v2", "version='prometheus/v2': want prometheus/v1"),
        ("slos.0.objective", 100, "slos.availability.objective=100: want a percentage between 0 and 100"),
        ("slos.0.objective", "99.9", "slos.availability.objective='99.9': want a percentage between 0 and 100"),
        ("slos.0.objective", True, "slos.availability.objective=True: want a percentage between 0 and 100"),
        ("slos.0.sli.events.error_query", None, "slos.availability.error_query: is missing"),
        (
            "slos.0.sli.events.error_query",
            "up",
            "slos.availability.sli: 'up': want [{{.window}}] in place of a duration",
        ),
        (
            "slos.0.alerting.page_alert.labels.severity",
            "page",
            "slos.availability.alerting.page_alert.labels.severity='page': want one of critical, warning, none",
        ),
        ("window", "5 minutes", "window='5 minutes': want a duration such as 5m"),
        ("burn_rates.fast.for", None, "burn_rates.fast.for=None: want a duration such as 5m"),
        ("burn_rates.fast.pairs.0.short", "2h", "burn_rates.fast.pairs: 2h, 1h: want the shorter window first"),
        ("burn_rates.fast.pairs.0.factor", -1, "burn_rates.fast.pairs.factor=-1: want a number of 0 or more"),
        ("failures_of_all", "all", "failures_of_all='all': want a number of 0 or more"),
        ("slos.0.minimum_errors", "5", "slos.availability.minimum_errors='5': want a number of 0 or more"),
        ("dependencies.redis", "high", "dependencies.redis='high': want one of critical, warning, none"),
        ("alerts.HighErrorRate.severity", "page", "alerts.HighErrorRate.severity='page': want one of "),
        ("alerts.HighErrorRate.error_ratio", "5%", "alerts.HighErrorRate.error_ratio='5%': want a number"),
        ("alerts.HighErrorRate.error_ratio", None, "alerts.HighErrorRate: want the key 'error_ratio'"),
        ("alerts.HighErrorRate.limit", 3, "alerts.HighErrorRate.limit: the alert has no such number"),
        ("alerts.HighErorRate", {"severity": "critical"}, "alerts.HighErorRate: no alert of that name"),
    ],
)
def test_a_wrong_value_is_an_error_of_one_line(path: str, value: object, line: str) -> None:
    with pytest.raises(ObjectivesError) as raised:
        groups(parse(wrong(path, value)))
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


def test_objectives_are_typed() -> None:
    found = load()
    assert isinstance(found, Objectives)
    availability = found.slo("availability")
    assert (availability.target, availability.budget) == (0.999, 0.001)
    assert availability.severities == {"fast": "critical", "slow": "warning"}
    assert found.slo("ai-success").severities == {"slow": "warning"}
    assert found.fast.pairs == (Pair("5m", "1h", 14.4), Pair("30m", "6h", 6.0))
    assert found.slow.pairs == (Pair("2h", "1d", 3.0), Pair("6h", "3d", 1.0))


def test_an_error_ratio_of_sloth_is_an_objective_too() -> None:
    query = "1 - avg_over_time(probe_success[{{.window}}])"
    found = parse(wrong("slos.0.sli", {"raw": {"error_ratio_query": query}}))
    assert found.slo("availability").errors == query
    assert found.slo("availability").events == f"({query}) >= bool 0"


@pytest.mark.parametrize(("text", "value"), [("500ms", 0.5), ("5m", 300.0), ("1d", 86400.0), ("1w", 604800.0)])
def test_durations_are_those_of_prometheus(text: str, value: float) -> None:
    assert seconds(text) == value


SLOTH = """
version: prometheus/v1
service: shop
slos:
  - name: orders
    objective: 99.5
    sli:
      events:
        error_query: sum by (job) (rate(orders_failed_total[{{.window}}]))
        total_query: sum by (job) (rate(orders_total[{{.window}}]))
    alerting: {name: Orders, page_alert: {disable: true}}
"""
PYRRA = """
apiVersion: pyrra.dev/v1alpha1
kind: ServiceLevelObjective
metadata: {name: orders}
spec:
  target: "99.5"
  window: 4w
  indicator:
    %s
"""
RATIO = "ratio: {errors: {metric: 'orders_total{code=~\"5..\"}'}, total: {metric: orders_total}}"
LATENCY = "latency: {success: {metric: 'orders_seconds_bucket{le=\"1.0\"}'}, total: {metric: orders_seconds_count}}"
COUNT = "sum by (job) (rate(orders_seconds_count[{{.window}}]))"
GAUGE = "bool_gauge: {metric: probe_success}"


def objective(path: Path, text: str) -> Objective:
    path.write_text(text)
    return parse({**slo(), "slos": read(path)}).slo("orders")


def test_a_document_of_sloth_is_read(tmp_path: Path) -> None:
    found = objective(tmp_path / "slo.yaml", SLOTH)
    assert (found.target, found.severities) == (0.995, {"slow": "warning"})
    assert found.errors == "sum by (job) (rate(orders_failed_total[{{.window}}]))"


def test_rules_of_other_objectives_are_made_without_the_table_of_the_shipped_tests(tmp_path: Path) -> None:
    (tmp_path / "slo.yaml").write_text(SLOTH)
    files = render(Names(), objectives=parse({**slo(), "slos": read(tmp_path / "slo.yaml")}))
    assert "alert: OrdersBudgetBurnsSlowly" in files["baliblissed.yml"]
    assert "alerts.md" not in files


@pytest.mark.parametrize(
    ("indicator", "errors", "events"),
    [
        (
            RATIO,
            'sum by (job) (rate(orders_total{code=~"5.."}[{{.window}}]))',
            "sum by (job) (rate(orders_total[{{.window}}]))",
        ),
        (
            LATENCY,
            f'{COUNT} - sum by (job) (rate(orders_seconds_bucket{{le="1.0"}}[{{{{.window}}}}]))',
            COUNT,
        ),
        (
            GAUGE,
            "sum by (job) (1 - avg_over_time(probe_success[{{.window}}]))",
            "sum by (job) (avg_over_time(probe_success[{{.window}}]) >= bool 0)",
        ),
    ],
    ids=["ratio", "latency", "bool_gauge"],
)
def test_an_objective_of_pyrra_is_read(tmp_path: Path, indicator: str, errors: str, events: str) -> None:
    found = objective(tmp_path / "slo.yaml", PYRRA % indicator)
    assert (found.target, found.errors, found.events) == (0.995, errors, events)
    assert found.alert == "Orders"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kind: Service", "want version prometheus/v1 of sloth, or apiVersion pyrra.dev/v1alpha1"),
        (SLOTH.replace("events:", "plugin: {id: x}\n      none:"), "slos.orders.sli.plugin: want events or raw"),
        (PYRRA % "latencyNative: {latency: 1s}", "orders.spec.indicator: want ratio, latency or bool_gauge"),
        (PYRRA % RATIO.replace("}}", "}, grouping: [x]}"), "orders.spec.indicator: want no grouping"),
    ],
)
def test_what_is_not_supported_is_an_error_of_one_line(tmp_path: Path, text: str, line: str) -> None:
    with pytest.raises(ObjectivesError, match=re.escape(line)):
        objective(tmp_path / "slo.yaml", text)
