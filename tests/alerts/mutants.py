"""Rules broken on purpose, one change each, and the judgement of their promtool tests.

An alert is judged with the recorded series that it rests on alone: with all rules its tests take ten times as long.
"""

import copy
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from monitoring.rules.objectives import seconds
from tests.alerts.programs import run
from tests.alerts.rules import RULE_TESTS, RULES, load, metrics, records

Rule = dict[str, Any]
COMPARED = re.compile(r"(==|!=|[<>]=?) (-?[\d.]+)(?![\w.])")
OTHER_WORD = {"and": "or", "or": "and", "unless": "and", "min": "max", "max": "min"}


def mutants(rule: Rule) -> Iterator[tuple[str, Rule]]:
    """Yield each change of a rule, in words, and the changed rule."""
    for change, expression in sorted(set(expressions(rule["expr"]))):
        yield change, {**rule, "expr": expression}
    for key in ("for", "keep_firing_for"):
        if key in rule:
            for factor in (0.5, 2):
                yield f"{key} times {factor:g}", {**rule, key: f"{round(seconds(rule[key]) * factor)}s"}
    if "alert" in rule:
        yield "another severity", {**rule, "labels": {**rule["labels"], "severity": "info"}}


def expressions(text: str) -> Iterator[tuple[str, str]]:
    """Yield each change of an expression, in words, and the changed expression."""
    for found in COMPARED.finditer(text):
        number = float(found[2])
        for other in (number * 0.85, number * 1.15) if number else (1.0, -1.0):
            yield f"{found[0]} becomes {other:.6g}", _with(text, found.start(2), found.end(2), f"{other:.6g}")
    for found in re.finditer(r"\[(\d+[smhd])\]", text):
        for factor in (0.5, 2):
            changed = f"{round(seconds(found[1]) * factor)}s"
            yield f"[{found[1]}] becomes {changed}", _with(text, found.start(1), found.end(1), changed)
    for found in re.finditer(r"\bby \(([^)]*)\)", text):
        labels = found[1].split(", ")
        for label in labels:
            kept = ", ".join(one for one in labels if one != label)
            yield f"{found[0]} at {found.start()} without {label}", _with(text, found.start(1), found.end(1), kept)
    for found in re.finditer(r'(=~|!~|!=|=)"([^"]*)"', text):
        yield f"{found[0]} at {found.start()} is another", _with(text, found.start(2), found.end(2), "nothing")
    for found in re.finditer(r"\b(and|or|unless|min|max)\b", text):
        yield f"{found[0]} at {found.start()} is another", _with(text, *found.span(), OTHER_WORD[found[0]])


def _with(text: str, start: int, end: int, put: str) -> str:
    return text[:start] + put + text[end:]


def needed(expression: str) -> set[str]:
    """Return the names of the recorded series that an expression rests on, at any depth."""
    found: set[str] = set()
    pending = [expression]
    while pending:
        new = metrics(pending.pop()) & records().keys() - found
        found |= new
        pending += [rule["expr"] for name in new for rule in records()[name]]
    return found


def groups(rule: Rule) -> list[dict[str, Any]]:
    """Return the shipped groups with only an alert and the recorded series that it rests on."""
    names, slo = needed(rule["expr"]), rule["labels"].get("slo")
    kept = copy.deepcopy(load(RULES)["groups"])
    for group in kept:
        group["rules"] = [
            rule if one.get("alert") == rule["alert"] else one
            for one in group["rules"]
            if one.get("alert") == rule["alert"]
            or (one.get("record") in names and slo in (None, one.get("labels", {}).get("slo", slo)))
        ]
    return list(kept)


def survivors(directory: Path, alert: str, rules: Sequence[tuple[str, Rule]]) -> list[str]:
    """Return the changes of an alert that its tests do not notice. All are judged by one promtool."""
    files = {}
    for number, (change, rule) in enumerate(rules):
        place = directory / f"{number}" / "tests"
        place.mkdir(parents=True)
        shutil.copy(RULE_TESTS / f"{alert}.yml", place)
        (place.parent / RULES.name).write_text(yaml.safe_dump({"groups": groups(rule)}))
        files[str(place / f"{alert}.yml")] = change
    done = run("promtool", "test", "rules", *files)
    verdicts = dict(re.findall(r"^Unit Testing:\s+(\S+)\n\s+(\w+)", done.stdout, re.MULTILINE))
    assert verdicts.keys() == files.keys(), done.stdout
    return [change for file, change in files.items() if verdicts[file] != "FAILED"]
