"""The criteria of a load test: the objectives of monitoring/slo.yaml, and the alerts that a fault fires."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loadtest.configuration import ConfigurationError, milliseconds
from loadtest.inhibition import effects
from loadtest.receiver import PAGES

_BOUND = re.compile(r'le="([\d.]+)"')
_RANGE = re.compile(r"(?:\[|:\w*?[a-z])(\d+(?:ms|[smhdwy]))\b")
_EXCLUDED = re.compile(r'handler!~"([^"]*)"')


@dataclass(frozen=True)
class Latency:
    """At most `share` of the requests may take longer than `seconds`, a boundary of the service's histogram."""

    name: str
    share: float
    seconds: float
    excluded: str
    """A regular expression of the handlers that do not count."""


@dataclass(frozen=True)
class Fault:
    """The alert that pages for a fault, and those that may fire beside it."""

    page: str
    inhibits: bool
    """True if the others are inhibited by it: then nothing else is notified."""
    may_fire: frozenset[str]


@dataclass(frozen=True)
class Criteria:
    """The criteria of one campaign. Durations are in seconds of production, not divided by the speed."""

    max_error_share: float
    latencies: tuple[Latency, ...]
    longest: float
    """Of the alerts' windows, each with its `for`."""
    notice: float
    """Until a page is notified, or its end."""
    rules: Mapping[str, Mapping[str, Any]]
    faults: Mapping[str, Fault]

    def window(self, alert: str) -> float:
        """Return the longest window of an alert; 0 for one that has none."""
        return _window(self.rules.get(alert, {}))

    def wait(self, alert: str) -> float:
        """Return the `for` of an alert."""
        return _seconds(self.rules.get(alert, {}).get("for", "0s"))

    def kept(self, alert: str) -> float:
        """Return the `keep_firing_for` of an alert."""
        return _seconds(self.rules.get(alert, {}).get("keep_firing_for", "0s"))


def read(monitoring: Path, rules: Path) -> Criteria:
    """Read slo.yaml and alertmanager.yml in the directory `monitoring`, and the alerts of the file `rules`.

    Raise ConfigurationError if one of them lacks what is needed.
    """
    try:
        return _criteria(monitoring, rules)
    except (OSError, AttributeError, KeyError, StopIteration, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{monitoring}: the criteria of the load test cannot be read: {error!r}") from error


def _criteria(monitoring: Path, rules: Path) -> Criteria:
    content = yaml.safe_load((monitoring / "slo.yaml").read_text())
    own, alerts = content["loadtest"], _alerts(rules)
    objectives = {one["name"]: one for one in content["slos"] if one["name"] in own["objectives"]}
    if unknown := set(own["objectives"]) - objectives.keys():
        raise ValueError(f"loadtest.objectives: no slo is called {', '.join(sorted(unknown))}")
    hard = content["alerts"][own["hard_limit"]]
    latencies = [_latency(one) for one in objectives.values() if _BOUND.search(_errors(one))]
    latencies.append(
        Latency(own["hard_limit"], _rest(hard["quantile"]), hard["threshold_seconds"], hard["excluded_handlers"])
    )
    severities = {name: rule["labels"]["severity"] for name, rule in alerts.items()}
    most = _seconds(own["longest_alert"])
    each = [_window(rule) + _seconds(rule.get("for", "0s")) for rule in alerts.values()]
    route = next(
        one
        for one in yaml.safe_load((monitoring / "alertmanager.yml").read_text())["route"]["routes"]
        if one["receiver"] == PAGES
    )
    return Criteria(
        max_error_share=_rest(objectives["availability"]["objective"] / 100),
        latencies=tuple(latencies),
        longest=max(length for length in each if length <= most),
        notice=max(_seconds(route[name]) for name in ("group_wait", "group_interval")),
        rules=alerts,
        faults={
            name: _fault(name, candidates, severities, monitoring / "alertmanager.yml")
            for name, candidates in own["faults"].items()
        },
    )


def _latency(objective: Mapping[str, Any]) -> Latency:
    """Return the objective on latency. Its bound and the handlers that do not count are in its query of errors."""
    query = _errors(objective)
    (bound,), (excluded,) = set(_BOUND.findall(query)), set(_EXCLUDED.findall(query)) or {""}
    return Latency(objective["name"], _rest(objective["objective"] / 100), float(bound), excluded)


def _errors(objective: Mapping[str, Any]) -> str:
    return str(objective["sli"]["events"]["error_query"])


def _fault(name: str, candidates: list[str], severities: Mapping[str, str], alertmanager: Path) -> Fault:
    page = next(one for one in candidates if one in severities)
    others = effects(alertmanager, {"alertname": candidates[0], "dependency": name}, severities)
    helpers = {alert for alert, severity in severities.items() if severity == "none"}
    return Fault(page, page == candidates[0], frozenset(others | helpers | {page}))


def _alerts(rules: Path) -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(rules.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


def _window(rule: Mapping[str, Any]) -> float:
    """Return the longest range of an expression; a recorded series has it in its name: job:http_errors:ratio_rate5m."""
    return max((_seconds(found) for found in _RANGE.findall(str(rule.get("expr", "")))), default=0.0)


def _rest(share: float) -> float:
    return round(1 - share, 9)


def _seconds(duration: str) -> float:
    return milliseconds(duration) / 1000
