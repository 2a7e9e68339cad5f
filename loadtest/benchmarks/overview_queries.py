"""Queries of the dashboards as Grafana sends them, and the same over raw series: recorded names become their rules."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

STEP_SECONDS = 15
"""Grafana's step for one and for six hours on a panel of 1,440 pixels: never below the scrape interval."""
# Grafana's $__rate_interval: the larger of four scrape intervals and step + scrape interval.
RATE_INTERVAL = f"{4 * STEP_SECONDS}s"
# Names of recorded series have a colon, and may carry matchers and a range. What has an offset stays: none can stand
# behind an expression.
RECORDED = re.compile(
    r"(?<![\w:\"])(?P<name>[a-z]\w*:[\w:]+)(?P<where>\{[^}]*\})?(?P<range>\[\w+\])?(?![\w:{[]| offset)"
)
LONG = re.compile(r"([a-z]\w*:[\w:]+)(?:\{[^}]*\})?(?:\[\d+d\S*| offset \d+d)")

Rules = dict[str, list[tuple[str, dict[str, str]]]]
"""Expressions and labels of the recording rules by name."""


@dataclass(frozen=True)
class Asked:
    """A query of a dashboard's panel or, with `label`, of one of its variables."""

    board: str
    title: str
    expression: str
    label: str = ""
    instant: bool = False
    """Asked at one moment, and not over a range."""


def dashboards(directory: Path, names: Sequence[str]) -> list[Asked]:
    """Return the queries of the dashboards with these names, everything chosen."""
    found: list[Asked] = []
    for name in names:
        board = json.loads((directory / f"{name}.json").read_text())
        for variable in board["templating"]["list"]:
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("query", ""))
            if match:
                found.append(Asked(name, f"${variable['name']}", filled(match[1]), match[2]))
        found += [
            Asked(name, title, filled(target["expr"]), instant=target.get("instant", False))
            for title, target in _targets(board)
        ]
    return found


def _targets(board: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            if target.get("expr"):
                yield panel["title"], target


def filled(expression: str) -> str:
    """Return a query with Grafana's variables replaced: intervals by those of the step, choices by all of them."""
    expression = expression.replace("$__rate_interval", RATE_INTERVAL).replace("$__interval", f"{STEP_SECONDS}s")
    return re.sub(r"\$\{?\w+\}?", ".+", expression)


def recording_rules(file: Path) -> Rules:
    """Return the recording rules of a rule file."""
    found: Rules = {}
    for group in yaml.safe_load(file.read_text())["groups"]:
        for rule in group["rules"]:
            if "record" in rule:
                found.setdefault(rule["record"], []).append((rule["expr"], rule.get("labels", {})))
    return found


def groups(file: Path) -> dict[str, list[tuple[str, str]]]:
    """Return names and expressions of all rules of a rule file, alerts too, by group."""
    return {
        group["name"]: [(rule.get("record") or rule["alert"], rule["expr"]) for rule in group["rules"]]
        for group in yaml.safe_load(file.read_text())["groups"]
    }


def over_raw(expression: str, rules: Rules) -> str:
    """Return `expression` with every recorded series replaced by its rule, until only raw series are left.

    Matchers of recorded series are left out: they choose everything. A range becomes a subquery.
    """

    def rule(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in rules:
            return match[0]
        inner = " or ".join(_labelled(over_raw(_without(name, text), rules), labels) for text, labels in rules[name])
        window = match["range"]
        return f"({inner}){f'{window[:-1]}:{STEP_SECONDS}s]' if window else ''}"

    return RECORDED.sub(rule, expression)


def _without(name: str, expression: str) -> str:
    """Leave out the part of a rule that keeps its own series alive."""
    return re.sub(rf"\s+or {re.escape(name)}$", "", expression)


def _labelled(expression: str, labels: Mapping[str, str]) -> str:
    for label, value in labels.items():
        expression = f'label_replace({expression}, "{label}", "{value}", "", "")'
    return f"({expression})"


def long_lived(text: str) -> set[str]:
    """Return the names of recorded series that queries in `text` read over days."""
    return set(LONG.findall(text))
