"""Rules as the YAML of Prometheus, and as a PrometheusRule of its operator."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

import yaml

from .model import Alert, Group, Record
from .objectives import Objectives

HEADER = "# Made from slo.yaml by python -m monitoring.rules: edit that, or the modules of monitoring/rules/.\n"
WIDTH = 120


def rules_file(groups: Sequence[Group], objectives: Objectives, panels: Mapping[str, str]) -> str:
    """Return the rule file. `panels` are the addresses of the alerts' panels, by alert, without the base address."""
    return HEADER + "\n".join(_groups(groups, objectives, panels)) + "\n"


def prometheus_rule(groups: Sequence[Group], objectives: Objectives, panels: Mapping[str, str]) -> str:
    """Return the same groups as an object of the Prometheus operator."""
    head = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": objectives.service, "labels": {"app.kubernetes.io/name": objectives.service}},
    }
    body = "\n".join(_groups(groups, objectives, panels))
    header = HEADER.replace("slo.yaml", "monitoring/slo.yaml")
    return header + yaml.safe_dump(head, sort_keys=False) + "spec:\n" + textwrap.indent(body, "  ") + "\n"


def _groups(groups: Sequence[Group], objectives: Objectives, panels: Mapping[str, str]) -> Iterator[str]:
    yield "groups:"
    for group in groups:
        if not group.rules:
            continue
        yield f"  - name: {group.name}"
        if group.interval:
            yield f"    interval: {group.interval}"
        yield "    rules:"
        for number, rule in enumerate(group.rules):
            if number:
                yield ""
            yield from _comment(rule.comment)
            yield from (_alert(rule, objectives, panels) if isinstance(rule, Alert) else _record(rule))


def _comment(text: str) -> Iterator[str]:
    for line in textwrap.wrap(text, WIDTH - 8):
        yield f"      # {line}"


def _record(rule: Record) -> Iterator[str]:
    yield f"      - record: {rule.name}"
    yield from _expr(rule.expr)
    yield from _mapping("labels", rule.labels)


def _alert(rule: Alert, objectives: Objectives, panels: Mapping[str, str]) -> Iterator[str]:
    yield f"      - alert: {rule.name}"
    yield from _expr(rule.expr)
    if rule.wait:
        yield f"        for: {rule.wait}"
    if rule.keep:
        yield f"        keep_firing_for: {rule.keep}"
    yield from _mapping("labels", {"severity": rule.severity, "service": objectives.service, **rule.labels})
    yield from _mapping(
        "annotations",
        {
            "summary": rule.summary,
            "description": rule.description,
            "runbook_url": f"{objectives.runbooks}/{rule.name}.md",
            "dashboard_url": f"{objectives.dashboards}/{panels[rule.name]}",
        },
    )


def _expr(expression: str) -> Iterator[str]:
    lines = expression.splitlines()
    if len(lines) == 1 and not set(expression) & set("#:{"):
        yield f"        expr: {expression}"
        return
    yield "        expr: |-"
    yield from (f"          {line}" for line in lines)


def _mapping(name: str, values: Mapping[str, str]) -> Iterator[str]:
    if values:
        yield f"        {name}:"
        yield from (f"          {key}: {_scalar(text)}" for key, text in values.items())


def _scalar(text: str) -> str:
    return yaml.safe_dump(text, width=10_000, allow_unicode=True).removesuffix("\n...\n").rstrip("\n")
