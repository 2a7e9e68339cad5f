"""The rules of inhibition of monitoring/alertmanager.yml, as Alertmanager reads them."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

_MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"(.*)"')


def matches(matchers: Iterable[str], labels: Mapping[str, str]) -> bool:
    """Return True if `labels` match all `matchers`; raise ValueError for one of another form than name="value"."""
    return all(_matches(one, labels) for one in matchers)


def _matches(matcher: str, labels: Mapping[str, str]) -> bool:
    found = _MATCHER.fullmatch(matcher)
    if found is None:
        raise ValueError(f'{matcher!r} is no matcher: want one such as alertname="HighErrorRate"')
    name, operator, value = found.groups()
    # A label that is missing is an empty one.
    equal = re.fullmatch(value if "~" in operator else re.escape(value), labels.get(name, ""))
    return bool(equal) != operator.startswith("!")


def effects(alertmanager: Path, cause: Mapping[str, str], names: Iterable[str]) -> set[str]:
    """Return those of the alerts `names` that an alert with the labels `cause` inhibits."""
    rules: list[dict[str, Any]] = yaml.safe_load(alertmanager.read_text()).get("inhibit_rules", [])
    return {
        name
        for name in names
        for rule in rules
        if matches(rule["source_matchers"], cause) and matches(rule["target_matchers"], {"alertname": name})
    }
