"""The possible values of each label of each metric, taken from the code, and the matchers of a query."""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import get_args

from prometheus_client import Histogram
from prometheus_client.parser import text_string_to_metric_families

from app import metrics as agency
from app.api import destinations
from app.assistant import breaker
from app.main import create_app
from app.monitoring import prometheus
from app.monitoring.logs.writer import DROP_REASONS
from app.monitoring.metrics import process
from app.monitoring.metrics.catalogue import catalogue
from app.monitoring.metrics.http import METHODS, NO_ROUTE, UNKNOWN_METHOD
from app.monitoring.metrics.registry import registry
from app.monitoring.multiprocess import entries
from app.monitoring.multiprocess.labels import OVERFLOW
from app.monitoring.server import admission, limits
from app.monitoring.server.master import EXIT_REASONS, TIMEOUT
from app.monitoring.traces import callers_decisions, span_queue
from app.settings import ROOT, Settings
from tests.dashboards import elsewhere
from tests.dashboards.lint import metrics

Values = frozenset[str]
Matcher = tuple[str, str, str, str]
"""Sample, label, operator, value."""
# Labels whose values depend on the machine or the deployment.
FREE = {"job", "instance", "pod", "version", "python", "environment", "run", "scenario"}
SELECTOR = re.compile(r'([a-zA-Z_:][\w:]*)\{((?:[^{}"]|"[^"]*")*)\}')
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


def _tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text())


def _texts(node: ast.AST) -> Iterator[str]:
    return (one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str))


def _assigned(path: str, name: str) -> Values:
    """Return every string that a variable is assigned."""
    nodes = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.Assign)]
    return frozenset(
        text
        for node in nodes
        if any(isinstance(target, ast.Name) and target.id == name for target in node.targets)
        for text in _texts(node.value)
    )


def _passed(path: str, *functions: str, position: int = 0) -> Values:
    """Return every string passed to one of `functions` at that position."""
    nodes = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.Call)]
    return frozenset(
        text
        for node in nodes
        if isinstance(node.func, ast.Attribute | ast.Name)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id) in functions
        and len(node.args) > position
        for text in _texts(node.args[position])
    )


def _hooks() -> Values:
    """Return the package's hooks that count what they catch."""
    calls = [node for node in ast.walk(_tree("app/monitoring/server/configuration.py")) if isinstance(node, ast.Call)]
    return frozenset(
        argument.id
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "never_raises"
        for argument in call.args
        if isinstance(argument, ast.Name) and argument.id != "theirs"
    )


@cache
def _by_label() -> dict[str, Values]:
    """Return the values of labels that have one meaning in every metric."""
    app = create_app(Settings(environment="test"))
    return {
        "method": frozenset(METHODS) | {UNKNOWN_METHOD},
        "status": frozenset(str(code) for code in range(100, 600)),
        "handler": frozenset(app.openapi()["paths"]) | {"/openapi.json", "/docs", NO_ROUTE},
        "operation": frozenset(get_args(agency.AIOperation)),
        "outcome": frozenset(get_args(agency.AIOutcome)),
        "command": frozenset(get_args(agency.RedisCommand)),
        "upstream": frozenset(get_args(agency.UpstreamName)),
        "kind": _passed("app/assistant/concierge.py", "labels", position=1),
        "cache": _passed("app/assistant/concierge.py", "get_or_load") | {destinations.CACHE},
        "breaker": frozenset({breaker.NAME}),
        "limit": _passed("app/api/reviews.py", "limited")
        | _passed("app/api/inquiries.py", "limited")
        | _passed("app/api/assistant.py", "limited")
        | _passed("app/api/dependencies.py", "check", "hit"),
        "state": _passed("app/monitoring/server/master.py", "labels"),
        "dependency": _passed("app/api/health.py", "Check"),
        "decision": frozenset(callers_decisions.DECISIONS),
        "hook": _hooks(),
        "worker": frozenset(str(place) for place in range(64)) | {"exporter"},
        "generation": frozenset("012"),
        "metric": frozenset(collector._name for collector in registry()._collector_to_names),  # type: ignore[attr-defined]
    }


@cache
def _by_sample() -> dict[tuple[str, str], Values]:
    """Return the values of labels that have another meaning in other metrics, by metric and label."""
    queries = frozenset(get_args(agency.Query))
    return {
        ("baliblissed_database_pool_connections", "state"): frozenset(get_args(agency.ConnectionState)),
        ("baliblissed_database_query_duration_seconds", "operation"): queries,
        ("baliblissed_database_errors_total", "operation"): queries,
        ("baliblissed_upstream_requests_total", "outcome"): frozenset(get_args(agency.UpstreamOutcome)),
    }


@cache
def _reasons() -> dict[str, Values]:
    """Return the values of `reason`, by sample."""
    return {
        "baliblissed_worker_exits_total": frozenset({*EXIT_REASONS.values(), TIMEOUT}),
        "baliblissed_spans_dropped_total": frozenset(span_queue.REASONS),
        "baliblissed_database_errors_total": frozenset(get_args(agency.QueryError)),
        "baliblissed_redis_errors_total": frozenset(get_args(agency.RedisFailure)),
        "baliblissed_log_lines_dropped_total": frozenset(DROP_REASONS),
        "baliblissed_metrics_series_refused_total": _assigned("app/monitoring/metrics/registry.py", "reason")
        | {"too_many_series"},
        "baliblissed_exporter_entries_left_out_total": frozenset(entries.REASONS),
        "baliblissed_metrics_writes_refused_total": frozenset(process.REASONS),
        "baliblissed_requests_shed_total": frozenset(admission.SHED_REASONS),
        "baliblissed_connections_rejected_total": frozenset(
            value.reason for value in vars(limits).values() if isinstance(value, limits.Refusal)
        )
        | {limits.EVICTED, limits.UNREAD},
    }


def _boundaries(sample: str) -> Values:
    agency.metrics()
    catalogue()
    prometheus.Instrumentator()
    found = registry()._names_to_collectors[SUFFIX.sub("", sample)]
    assert isinstance(found, Histogram), sample
    return frozenset("+Inf" if bound == float("inf") else str(float(bound)) for bound in found._upper_bounds)


def possible(sample: str, label: str) -> Values | None:
    """Return the possible values of `label` of `sample`, or None if the code does not determine them."""
    if (found := elsewhere.values().get((sample, label))) is not None:
        return found
    if label in FREE or sample in elsewhere.SAMPLES:
        return None
    if label == "le":
        return _boundaries(sample)
    if label == "reason":
        found = _reasons()[sample]
    else:
        found = _by_sample().get((SUFFIX.sub("", sample), label)) or _by_label()[label]
    assert found, f"{sample}: no value of {label} was found in the code"
    return found | {OVERFLOW}


def matchers(query: str) -> set[Matcher]:
    """Return the matchers of a query that compare with a literal value, not with a Grafana variable."""
    return {
        (sample, label, operator, value.replace(r"\|", "|"))
        for sample, inside in SELECTOR.findall(query)
        for label, operator, value in MATCHER.findall(inside)
        if not value.startswith("$")
    }


def alternatives(expression: str) -> list[str]:
    """Return the top-level alternatives of a regular expression, outside brackets."""
    assert "(" not in expression, f"{expression}: this test takes alternatives apart at each |"
    return expression.split("|")


def misspelt(found: Iterable[Matcher]) -> Iterator[str]:
    """Describe each matcher with a value, or an alternative, that no series can have."""
    for sample, label, operator, value in found:
        if sample not in metrics():
            yield f"{sample} is exposed by nothing"
            continue
        known = possible(sample, label)
        if known is None:
            continue
        for one in alternatives(value) if "~" in operator else [re.escape(value)]:
            if not any(re.fullmatch(one, each) for each in known - {OVERFLOW}):
                yield f'{sample}{{{label}{operator}"{value}"}}: no {label} is {one}, but {sorted(known)[:20]}'


def unknown(exposition: str) -> Iterator[str]:
    """Return label values in an exposition that the lists above lack."""
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            for label, value in sample.labels.items():
                known = possible(sample.name, label)
                if known is not None and value not in known:
                    yield f'{sample.name}{{{label}="{value}"}}'
