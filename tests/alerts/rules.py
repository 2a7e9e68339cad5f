"""Parsed alerting rules, and helpers that extract metrics, labels and numbers from PromQL."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from app.settings import ROOT

MONITORING = ROOT / "monitoring"
RULES = MONITORING / "rules" / "baliblissed.yml"
RULE_TESTS = MONITORING / "rules" / "tests"
RUNBOOKS = ROOT / "docs" / "runbooks"
# Every word of PromQL that the rules use. A new one fails the tests until it is added here.
PROMQL = frozenset(
    {
        "sum",
        "min",
        "max",
        "by",
        "and",
        "or",
        "unless",
        "offset",
        "rate",
        "increase",
        "absent",
        "vector",
        "max_over_time",
    }
)


def load(path: Path) -> Any:
    """Return the content of a YAML file."""
    return yaml.safe_load(path.read_text())


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerting rules by name."""
    rules = [rule for group in load(RULES)["groups"] for rule in group["rules"]]
    found = {rule["alert"]: rule for rule in rules}
    assert len(found) == len(rules), "an alert is defined twice"
    return found


@cache
def slo() -> dict[str, Any]:
    """Return the content of monitoring/slo.yaml."""
    found: dict[str, Any] = load(MONITORING / "slo.yaml")
    return found


def matchers(expression: str) -> set[tuple[str, str, str]]:
    """Return every matcher of an expression as (label, operator, value)."""
    return set(re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', expression))


def windows(expression: str) -> set[str]:
    """Return every range and offset of an expression, such as 5m."""
    return set(re.findall(r"(?:\[|\boffset )(\w+)", expression))


def _without_selectors(expression: str) -> str:
    return re.sub(r"\{[^}]*\}|\[[^]]*\]", "", expression)


def thresholds(expression: str) -> list[float]:
    """Return the numbers that an expression compares with, in order."""
    return [float(number) for number in re.findall(r"(?:==|[<>]=?) ([\d.]+)", _without_selectors(expression))]


def grouping(expression: str) -> list[set[str]]:
    """Return the labels of every `by (...)` clause."""
    return [set(re.findall(r"\w+", labels)) for labels in re.findall(r"\bby \(([^)]*)\)", expression)]


def metrics(expression: str) -> set[str]:
    """Return the names of the metrics in an expression."""
    plain = re.sub(r"\b(?:by|on) \([^)]*\)", "", _without_selectors(expression))
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*", plain)) - PROMQL
