"""Typed content of monitoring/slo.yaml: objectives, burn rates, and the numbers of the other alerts."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FILE = Path(__file__).resolve().parents[1] / "slo.yaml"
VERSION = "prometheus/v1"
DURATION = re.compile(r"\d+(?:ms|[smhdwy])")
SEVERITIES = ("critical", "warning", "none")
WINDOW = "{{.window}}"


class ObjectivesError(Exception):
    """A value of slo.yaml is wrong; the message is one line with its place, the value and the form that is wanted."""


@dataclass(frozen=True)
class Pair:
    """Two windows over which the budget has to burn `factor` times as fast as it may."""

    short: str
    long: str
    factor: float


@dataclass(frozen=True)
class BurnRates:
    """The pairs of an alert, one of which is enough, and how long it waits before it fires."""

    wait: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Objective:
    """A service level objective. `target` is a share below 1, the queries have WINDOW in place of a duration."""

    name: str
    target: float
    description: str
    errors: str
    events: str
    alert: str
    severities: Mapping[str, str]
    """Of the alerts `fast` and `slow`; one that is disabled has none."""
    minimum_errors: float
    """Errors in the shorter of the long windows below which no alert fires; 0 for none."""

    @property
    def budget(self) -> float:
        """The share of events that may fail."""
        return round(1 - self.target, 9)


@dataclass(frozen=True)
class Numbers:
    """The numbers of one alert. Reading a key marks it as used."""

    alert: str
    values: Mapping[str, Any]
    used: set[str] = field(default_factory=set, compare=False)

    def number(self, key: str) -> str:
        """Return the number under `key` as PromQL has it. Raise ObjectivesError if it is none."""
        value = self._value(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ObjectivesError(f"alerts.{self.alert}.{key}={value!r}: want a number")
        return f"{value:.10g}" if isinstance(value, float) else str(value)

    def duration(self, key: str) -> str:
        """Return the duration under `key`. Raise ObjectivesError if it is none."""
        return duration(self._value(key), f"alerts.{self.alert}.{key}")

    def text(self, key: str) -> str:
        """Return the text under `key`. Raise ObjectivesError if it is none."""
        value = self._value(key)
        if not isinstance(value, str):
            raise ObjectivesError(f"alerts.{self.alert}.{key}={value!r}: want text")
        return value

    @property
    def severity(self) -> str:
        """The severity of the alert."""
        value = self._value("severity")
        if value not in SEVERITIES:
            raise ObjectivesError(f"alerts.{self.alert}.severity={value!r}: want one of {', '.join(SEVERITIES)}")
        return str(value)

    @property
    def wait(self) -> str:
        """The alert's `for`, or nothing."""
        return self.duration("for") if "for" in self.values else ""

    @property
    def keep(self) -> str:
        """The alert's `keep_firing_for`, or nothing."""
        return self.duration("keep_firing_for") if "keep_firing_for" in self.values else ""

    def _value(self, key: str) -> Any:
        if key not in self.values:
            raise ObjectivesError(f"alerts.{self.alert}: want the key {key!r}")
        self.used.add(key)
        return self.values[key]


@dataclass(frozen=True)
class Objectives:
    """The content of slo.yaml."""

    service: str
    slos: tuple[Objective, ...]
    fast: BurnRates
    slow: BurnRates
    failures_of_all: float
    """Failures that are enough for an alert where every event has failed."""
    window: str
    """Of the recorded rates; part of their names."""
    budget_window: str
    jobs: Mapping[str, str]
    runbooks: str
    dashboards: str
    dependencies: Mapping[str, str]
    alerts: Mapping[str, Numbers]

    def numbers(self, alert: str) -> Numbers:
        """Return the numbers of `alert`. Raise ObjectivesError if there are none."""
        if alert not in self.alerts:
            raise ObjectivesError(f"alerts: want the key {alert!r}")
        return self.alerts[alert]

    def slo(self, name: str) -> Objective:
        """Return the objective `name`. Raise ObjectivesError if there is none."""
        for one in self.slos:
            if one.name == name:
                return one
        raise ObjectivesError(f"slos: want one of the name {name!r}")


def duration(value: object, place: str) -> str:
    """Return `value` if it is a duration of Prometheus, such as 5m. Raise ObjectivesError if it is none."""
    if not isinstance(value, str) or not DURATION.fullmatch(value):
        raise ObjectivesError(f"{place}={value!r}: want a duration such as 5m")
    return value


def seconds(text: str) -> float:
    """Return the seconds of a duration of Prometheus."""
    found = DURATION.fullmatch(text)
    if found is None:
        raise ObjectivesError(f"{text!r}: want a duration such as 5m")
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
    unit = text.lstrip("0123456789")
    return float(text[: -len(unit)]) * units[unit]


@cache
def load(path: Path = FILE) -> Objectives:
    """Read slo.yaml. Raise ObjectivesError if a value is wrong."""
    return parse(content(path))


def content(path: Path = FILE) -> dict[str, Any]:
    """Return the content of slo.yaml as it is."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def parse(content: Mapping[str, Any]) -> Objectives:
    """Return the typed content of slo.yaml. Raise ObjectivesError if a value is wrong."""
    if content.get("version") != VERSION:
        raise ObjectivesError(f"version={content.get('version')!r}: want {VERSION}")
    rates = _wanted(content, "burn_rates", "burn_rates")
    return Objectives(
        service=_wanted(content, "service", "service"),
        slos=tuple(_objective(one) for one in _wanted(content, "slos", "slos")),
        fast=_burn_rates(_wanted(rates, "fast", "burn_rates.fast"), "burn_rates.fast"),
        slow=_burn_rates(_wanted(rates, "slow", "burn_rates.slow"), "burn_rates.slow"),
        failures_of_all=_number(content.get("failures_of_all"), "failures_of_all"),
        window=duration(content.get("window"), "window"),
        budget_window=duration(content.get("budget_window"), "budget_window"),
        jobs=_wanted(content, "jobs", "jobs"),
        runbooks=_wanted(content, "runbooks", "runbooks"),
        dashboards=_wanted(content, "dashboards", "dashboards"),
        dependencies=_dependencies(_wanted(content, "dependencies", "dependencies")),
        alerts={name: Numbers(name, values or {}) for name, values in _wanted(content, "alerts", "alerts").items()},
    )


def _wanted(content: Mapping[str, Any], key: str, place: str) -> Any:
    if content.get(key) is None:
        raise ObjectivesError(f"{place}: is missing")
    return content[key]


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ObjectivesError(f"{place}={value!r}: want a number of 0 or more")
    return float(value)


def _objective(one: Mapping[str, Any]) -> Objective:
    name = _wanted(one, "name", "slos: name")
    place = f"slos.{name}"
    percent = one.get("objective")
    if isinstance(percent, bool) or not isinstance(percent, int | float) or not 0 < percent < 100:  # noqa: PLR2004
        raise ObjectivesError(f"{place}.objective={percent!r}: want a percentage between 0 and 100")
    alerting = _wanted(one, "alerting", f"{place}.alerting")
    errors, events = _queries(_wanted(one, "sli", f"{place}.sli"), place)
    return Objective(
        name=name,
        target=round(percent / 100, 9),
        description=one.get("description") or name,
        errors=errors,
        events=events,
        alert=_wanted(alerting, "name", f"{place}.alerting.name"),
        severities={
            kind: _severity(alerting.get(key) or {}, default, f"{place}.alerting.{key}")
            for kind, key, default in (("fast", "page_alert", "critical"), ("slow", "ticket_alert", "warning"))
            if not (alerting.get(key) or {}).get("disable")
        },
        minimum_errors=_number(one.get("minimum_errors", 0), f"{place}.minimum_errors"),
    )


def _queries(sli: Mapping[str, Any], place: str) -> tuple[str, str]:
    """Return the queries of errors and events. A raw ratio is one of events that add up to 1."""
    if raw := sli.get("raw"):
        ratio = _wanted(raw, "error_ratio_query", f"{place}.sli.raw.error_ratio_query")
        queries = (str(ratio), f"({ratio}) >= bool 0")
    else:
        events = _wanted(sli, "events", f"{place}.sli.events")
        failed = _wanted(events, "error_query", f"{place}.error_query")
        queries = (str(failed), str(_wanted(events, "total_query", f"{place}.total_query")))
    for query in queries:
        if WINDOW not in query:
            raise ObjectivesError(f"{place}.sli: {query!r}: want [{WINDOW}] in place of a duration")
    return queries


def _severity(alert: Mapping[str, Any], default: str, place: str) -> str:
    value = (alert.get("labels") or {}).get("severity", default)
    if value not in SEVERITIES:
        raise ObjectivesError(f"{place}.labels.severity={value!r}: want one of {', '.join(SEVERITIES)}")
    return str(value)


def _burn_rates(found: Mapping[str, Any], place: str) -> BurnRates:
    pairs = tuple(
        Pair(
            duration(pair.get("short"), f"{place}.pairs.short"),
            duration(pair.get("long"), f"{place}.pairs.long"),
            _number(pair.get("factor"), f"{place}.pairs.factor"),
        )
        for pair in _wanted(found, "pairs", f"{place}.pairs")
    )
    for pair in pairs:
        if seconds(pair.short) >= seconds(pair.long):
            raise ObjectivesError(f"{place}.pairs: {pair.short}, {pair.long}: want the shorter window first")
    return BurnRates(duration(found.get("for"), f"{place}.for"), pairs)


def _dependencies(found: Mapping[str, Any]) -> Mapping[str, str]:
    for name, severity in found.items():
        if severity not in SEVERITIES:
            raise ObjectivesError(f"dependencies.{name}={severity!r}: want one of {', '.join(SEVERITIES)}")
    return found
