"""The alerting rules as Python sees them, and what their expressions name."""

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
    """A YAML file."""
    return yaml.safe_load(path.read_text())


@cache
def alerts() -> dict[str, dict[str, Any]]:
    """The alerting rules by name."""
    rules = [rule for group in load(RULES)["groups"] for rule in group["rules"]]
    found = {rule["alert"]: rule for rule in rules}
    assert len(found) == len(rules), "an alert is defined twice"
    return found


@cache
def slo() -> dict[str, Any]:
    """monitoring/slo.yaml."""
    found: dict[str, Any] = load(MONITORING / "slo.yaml")
    return found


def matchers(expression: str) -> set[tuple[str, str, str]]:
    """Every `label operator "value"` of an expression."""
    return set(re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', expression))


def windows(expression: str) -> set[str]:
    """Every range and offset of an expression, such as 5m."""
    return set(re.findall(r"(?:\[|\boffset )(\w+)", expression))


def _without_selectors(expression: str) -> str:
    return re.sub(r"\{[^}]*\}|\[[^]]*\]", "", expression)


def thresholds(expression: str) -> list[float]:
    """What an expression compares with, in order."""
    return [float(number) for number in re.findall(r"(?:==|[<>]=?) ([\d.]+)", _without_selectors(expression))]


def grouping(expression: str) -> list[set[str]]:
    """The labels of every `by (...)`."""
    return [set(re.findall(r"\w+", labels)) for labels in re.findall(r"\bby \(([^)]*)\)", expression)]


def metrics(expression: str) -> set[str]:
    """Every metric an expression names."""
    plain = re.sub(r"\b(?:by|on) \([^)]*\)", "", _without_selectors(expression))
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*", plain)) - PROMQL
