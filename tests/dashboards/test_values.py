"""Each label value in a query is one that the code can produce."""

import re
from collections.abc import Iterator

import pytest

from app.assistant.breaker import STATE_VALUES
from app.settings import ROOT
from tests.alerts.rules import RULE_TESTS, load, rules, slo
from tests.dashboards.boards import BOARDS, label_query, panels, targets, variables
from tests.dashboards.breakages import STATIC, broken
from tests.dashboards.lint import complaints
from tests.dashboards.test_queries import documented
from tests.dashboards.values import MATCHER, SELECTOR, Matcher, alternatives, matchers, misspelt, possible

INLINE = re.compile(r"`([^`\n]*\{[^`\n]*=[^`\n]*\}[^`\n]*)`")
DOCUMENTS = sorted((ROOT / "docs").rglob("*.md"))


def of_dashboards() -> Iterator[str]:
    for board in BOARDS.values():
        yield from (target["expr"] for _, target in targets(board))
        yield from (label_query(item)[0] for item in variables(board) if item["type"] == "query")


def of_rules() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())


def of_rule_tests() -> Iterator[str]:
    """Yield the service's series in the rules' unit tests; series of another job are excluded."""
    for path in sorted(RULE_TESTS.glob("*.yml")):
        for test in load(path)["tests"]:
            series = [one["series"] for one in test["input_series"]]
            series = [one for one in series if UNKNOWN not in one]
            yield from (one for one in series if f'job="{slo()["jobs"]["service"]}"' in one)


def of_documents() -> Iterator[str]:
    yield from (query for _, query in documented())
    for document in DOCUMENTS:
        yield from INLINE.findall(document.read_text())


# The alert on dependencies that slo.yaml does not name is tested with one that the service does not have.
UNKNOWN = 'dependency="search"'
SOURCES = [of_dashboards, of_rules, of_rule_tests, of_documents]


def compared(source: object) -> set[Matcher]:
    return set().union(*(matchers(query) for query in source()))  # type: ignore[operator]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
def test_every_value_in_a_matcher_is_one_that_the_code_gives(source: object) -> None:
    found = compared(source)
    assert found
    assert sorted(misspelt(found)) == []


def test_no_matcher_is_overlooked() -> None:
    for source in SOURCES:
        for query in source():
            written = len(re.findall(r'(?:=~|!~|!=|=)\s*"(?!\$)', query))
            inside = [found for _, found in SELECTOR.findall(query)]
            read = [value for one in inside for *_, value in MATCHER.findall(one) if not value.startswith("$")]
            assert len(read) == written, query


@pytest.mark.parametrize(
    "wrong",
    [
        'baliblissed_ai_requests_total{outcome!~"succes|offline"}',
        'baliblissed_ai_requests_total{outcome="ok"}',
        'baliblissed_workers{state="alive"}',
        'baliblissed_worker_exits_total{reason!~"stopped|max_request"}',
        'baliblissed_worker_exits_total{reason="queue_full"}',
        'baliblissed_circuit_breaker_state{breaker="ai"}',
        'http_requests_total{status=~"6.."}',
        'http_requests_total{status=~"5.."}  / http_requests_total{method="get"}',
        'http_requests_total{handler=~"/healthz.*"}',
        'http_request_duration_seconds_bucket{le="2"}',
        'http_request_duration_seconds_bucket{le="0.75"}',
        'baliblissed_hook_errors_total{hook=~"pre_fork|child_exits"}',
        'process_resident_memory_bytes{worker!="exporters"}',
        'baliblissed_cache_hits_total{cache="destination"}',
        'baliblissed_no_such_total{cache="destinations"}',
        'baliblissed_database_pool_connections{state="live"}',
        'baliblissed_database_query_duration_seconds_count{operation="chat"}',
        'baliblissed_database_errors_total{reason=~"pool_timeout|connect_fail"}',
        'baliblissed_redis_command_duration_seconds_bucket{command="ge"}',
        'baliblissed_redis_errors_total{reason="timeouts"}',
        'baliblissed_upstream_requests_total{outcome!="circuit_open"}',
        'baliblissed_upstream_request_duration_seconds_bucket{upstream="redis"}',
    ],
)
def test_a_misspelt_value_is_noticed(wrong: str) -> None:
    assert len(list(misspelt(matchers(wrong)))) == 1


@pytest.mark.parametrize(("name", "before", "after"), STATIC)
def test_a_query_that_is_broken_is_noticed_as_it_is_written(name: str, before: str, after: str) -> None:
    board, _, target = broken(BOARDS[name], before, after)
    assert [*complaints(board), *misspelt(matchers(target["expr"]))]


def test_each_letter_that_is_missing_from_a_dashboard_is_noticed() -> None:
    """Take one letter out of each alternative of each matcher of the dashboards."""
    for sample, label, operator, value in compared(of_dashboards):
        for one in alternatives(value) if "~" in operator else [value]:
            for place in range(len(one)):
                changed = value.replace(one, one[:place] + one[place + 1 :])
                assert list(misspelt([(sample, label, operator, changed)])), (label, changed)


def test_the_states_of_the_breaker_that_dashboards_draw_are_those_that_it_has() -> None:
    shown = [
        mapping["options"].keys()
        for board in BOARDS.values()
        for panel in panels(board)
        if panel["title"] == "Circuit breaker"
        for mapping in panel["fieldConfig"]["defaults"]["mappings"]
    ]
    assert shown
    assert all(states == {str(value) for value in STATE_VALUES.values()} for states in shown)


LISTED = [
    ("baliblissed_ai_requests_total", "operation"),
    ("baliblissed_ai_requests_total", "outcome"),
    ("baliblissed_ai_tokens_used_total", "kind"),
    ("baliblissed_circuit_breaker_state", "breaker"),
    ("baliblissed_cache_hits_total", "cache"),
    ("baliblissed_workers", "state"),
    ("baliblissed_worker_exits_total", "reason"),
    ("baliblissed_log_lines_dropped_total", "reason"),
    ("baliblissed_spans_dropped_total", "reason"),
    ("baliblissed_caller_samples_total", "decision"),
    ("baliblissed_metrics_series_refused_total", "reason"),
    ("baliblissed_database_pool_connections", "state"),
    ("baliblissed_database_errors_total", "operation"),
    ("baliblissed_database_errors_total", "reason"),
    ("baliblissed_redis_errors_total", "command"),
    ("baliblissed_redis_errors_total", "reason"),
    ("baliblissed_upstream_requests_total", "upstream"),
    ("baliblissed_upstream_requests_total", "outcome"),
]


@pytest.mark.parametrize(("sample", "label"), LISTED)
def test_the_document_on_metrics_lists_each_value(sample: str, label: str) -> None:
    known = possible(sample, label)
    assert known is not None
    listed = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "metrics.md").read_text()))
    assert known - listed - {"__overflow__"} == set()
