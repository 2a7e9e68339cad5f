"""The shipped configuration of Prometheus and Alertmanager, for a run on one machine.

Addresses are replaced, and every duration may be divided by one factor, so that a five-minute window is seen to fill
within a campaign. Expressions, thresholds, labels and routes stay what they are: they are what is tested.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
# Quoted text, a name (which may end in :5m), or a number with its unit.
_WORD = re.compile(r"""("(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`|[A-Za-z_][\w:]*)|\d[\w.]*""")
_DURATION = re.compile(r"(?:\d+(?:ms|[smhdwy]))+")
_PART = re.compile(r"(\d+)(ms|[smhdwy])")
RECEIVER = "http://alert-receiver:9095"
JOB = "loadtest"


class ConfigurationError(Exception):
    """A configuration file does not have the form that the campaign knows; the message names it."""


def milliseconds(duration: str) -> int:
    """Parse a duration as Prometheus writes it, such as 1h30m; raise ValueError for anything else."""
    if not _DURATION.fullmatch(duration):
        raise ValueError(f"{duration!r} is no duration: want one such as 30s or 1h30m")
    return sum(int(number) * UNITS[unit] for number, unit in _PART.findall(duration))


def quicker(duration: str, speed: float) -> str:
    """Divide `duration` by `speed`, in whole milliseconds; 0s stays 0s."""
    whole = milliseconds(duration)
    return f"{max(1, round(whole / speed))}ms" if whole else "0s"


def quicker_expression(expression: str, speed: float) -> str:
    """Divide the ranges and offsets of a PromQL expression by `speed`; leave quoted text unchanged."""

    def replace(found: re.Match[str]) -> str:
        return quicker(found[0], speed) if found[1] is None and _DURATION.fullmatch(found[0]) else found[0]

    return _WORD.sub(replace, expression)


# On programs that a load test does not start.
ELSEWHERE = frozenset({"CollectorDown"})


def rules(shipped: Path, speed: float) -> dict[str, Any]:
    """Return a rule file with windows and durations divided by `speed`, without the alerts of ELSEWHERE.

    Raise ConfigurationError if it is no rule file.
    """
    with _read(shipped) as document:
        for group in document["groups"]:
            group["rules"] = [rule for rule in group["rules"] if rule.get("alert") not in ELSEWHERE]
            _divide(group, {"interval", "query_offset"}, speed)
            for rule in group["rules"]:
                _divide(rule, {"for", "keep_firing_for"}, speed)
                rule["expr"] = quicker_expression(str(rule["expr"]), speed)
    return document


def prometheus(
    shipped: Path, rule_file: Path, addresses: Mapping[str, str], speed: float, clients: Sequence[str] = ()
) -> dict[str, Any]:
    """Return prometheus.yml with `addresses` ({"backend:9090": "127.0.0.1:41234"}); drop jobs without a target here.

    Those of `clients`, the load test's own, are in a further job.
    """
    intervals = {"scrape_interval", "evaluation_interval"}
    with _read(shipped) as document:
        _divide(document["global"], intervals, speed)
        _shorten_timeout(document["global"])
        document["rule_files"] = [str(rule_file)]
        for manager in document["alerting"]["alertmanagers"]:
            _readdress(manager["static_configs"], addresses)
        for job in document["scrape_configs"]:
            _divide(job, intervals, speed)
            _readdress(job["static_configs"], addresses)
        document["scrape_configs"] = [job for job in document["scrape_configs"] if job["static_configs"]]
        if clients:
            document["scrape_configs"].append({"job_name": JOB, "static_configs": [{"targets": list(clients)}]})
    return document


def alertmanager(shipped: Path, receiver: str, speed: float) -> dict[str, Any]:
    """Return alertmanager.yml with webhooks sent to `receiver`; raise ConfigurationError if one points elsewhere."""
    with _read(shipped) as document:
        _quicker_route(document["route"], speed)
        for one in document["receivers"]:
            for hook in one.get("webhook_configs", []):  # a receiver of nothing has none
                if not hook["url"].startswith(RECEIVER):
                    raise ConfigurationError(
                        f"{shipped}: {hook['url']} is not at {RECEIVER}: it would leave this machine"
                    )
                hook["url"] = receiver + hook["url"].removeprefix(RECEIVER)
    return document


def write(document: Mapping[str, Any], path: Path) -> Path:
    """Write a configuration; returns its path."""
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False, width=1000))
    return path


@contextmanager
def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the document in `path`; raise ConfigurationError if a key is missing or has another form."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    try:
        yield document
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path} has not the form that the campaign knows: {error!r}") from error


def _quicker_route(route: dict[str, Any], speed: float) -> None:
    _divide(route, {"group_wait", "group_interval", "repeat_interval"}, speed)
    for child in route.get("routes", []):
        _quicker_route(child, speed)


def _divide(section: dict[str, Any], names: set[str], speed: float) -> None:
    for name in names & section.keys():
        section[name] = quicker(section[name], speed)


def _shorten_timeout(section: dict[str, Any]) -> None:
    """Keep the scrape time-out undivided (scrapes are not faster), but within the interval, as Prometheus requires."""
    section["scrape_timeout"] = min(section["scrape_timeout"], section["scrape_interval"], key=milliseconds)


def _readdress(static_configs: list[dict[str, Any]], addresses: Mapping[str, str]) -> None:
    """Replace the targets; a target that has no address here goes, and so does a list left empty."""
    for config in static_configs:
        config["targets"] = [addresses[target] for target in config["targets"] if target in addresses]
    static_configs[:] = [config for config in static_configs if config["targets"]]
