"""Parsed rules, and helpers that extract metrics, labels and numbers from PromQL."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from app.settings import ROOT

# Ten times as fast where the package has been built with libyaml.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MONITORING = ROOT / "monitoring"
RULES = MONITORING / "rules" / "baliblissed.yml"
RULE_TESTS = MONITORING / "rules" / "tests"
RUNBOOKS = ROOT / "docs" / "runbooks"
# Every word of PromQL that the rules use. A new one fails the tests until it is added here.
PROMQL = frozenset(
    {
        "absent",
        "and",
        "avg",
        "avg_over_time",
        "bool",
        "by",
        "changes",
        "clamp_min",
        "count",
        "count_over_time",
        "group",
        "group_left",
        "histogram_quantile",
        "increase",
        "label_replace",
        "last_over_time",
        "max",
        "max_over_time",
        "min",
        "min_over_time",
        "offset",
        "on",
        "or",
        "rate",
        "sum",
        "sum_over_time",
        "time",
        "unless",
        "vector",
    }
)


def load(path: Path) -> Any:
    """Return the content of a YAML file."""
    return yaml.load(path.read_text(), Loader=LOADER)  # noqa: S506 -- a safe loader


@cache
def rules() -> list[dict[str, Any]]:
    """Return all rules in their order."""
    return [rule for group in load(RULES)["groups"] for rule in group["rules"]]


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerting rules by name."""
    found = {rule["alert"]: rule for rule in rules() if "alert" in rule}
    assert len(found) == len([rule for rule in rules() if "alert" in rule]), "an alert is defined twice"
    return found


@cache
def records() -> dict[str, list[dict[str, Any]]]:
    """Return the recording rules by name. An objective's series has one rule for each objective."""
    found: dict[str, list[dict[str, Any]]] = {}
    for rule in rules():
        if "record" in rule:
            found.setdefault(rule["record"], []).append(rule)
    return found


@cache
def slo() -> dict[str, Any]:
    """Return the content of monitoring/slo.yaml."""
    found: dict[str, Any] = load(MONITORING / "slo.yaml")
    return found


def resolved(expression: str) -> str:
    """Return an expression, and below it those of the recorded series that it rests on, at any depth."""
    found: dict[str, None] = {}
    pending = [expression]
    while pending:
        text = pending.pop()
        for name in sorted(metrics(text) & records().keys() - found.keys()):
            found[name] = None
            pending += [rule["expr"] for rule in records()[name]]
    return "\n".join([expression, *(rule["expr"] for name in found for rule in records()[name])])


def matchers(expression: str) -> set[tuple[str, str, str]]:
    """Return every matcher of an expression as (label, operator, value)."""
    return set(re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', expression))


def windows(expression: str) -> set[str]:
    """Return every range and offset of an expression, such as 5m."""
    return set(re.findall(r"(?:\[|\boffset )(\w+)", expression))


def _without_selectors(expression: str) -> str:
    return re.sub(r'\{[^}]*\}|\[[^]]*\]|"[^"]*"', "", expression)


def thresholds(expression: str) -> list[float]:
    """Return the numbers that an expression compares with, in order."""
    return [float(number) for number in re.findall(r"(?:==|[<>]=?) ([\d.]+)", _without_selectors(expression))]


def grouping(expression: str) -> list[set[str]]:
    """Return the labels of every `by (...)` clause."""
    return [set(re.findall(r"\w+", labels)) for labels in re.findall(r"\bby \(([^)]*)\)", expression)]


def metrics(expression: str) -> set[str]:
    """Return the names of the metrics in an expression."""
    plain = re.sub(r"\b(?:by|on|group_left) ?\([^)]*\)", "", _without_selectors(expression))
    plain = re.sub(r"\boffset \w+", "", plain)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*", plain)) - PROMQL
