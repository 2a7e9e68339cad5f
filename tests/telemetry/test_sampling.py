"""Tail sampling keeps errors, slow traces and a share of the rest; span metrics count all spans."""

from collections import Counter

import pytest

from tests.telemetry import otlp
from tests.telemetry.traffic import CATALOGUE, CHAT, DROPPED, SERVER_ERROR, SHARED, Observed, dropped_id, kept_id


def test_every_trace_with_an_error_is_kept_and_whole(observed: Observed) -> None:
    failed = [line for line in observed.logs if line.get("route") == CHAT and line["status"] >= SERVER_ERROR]
    assert failed
    for line in failed:
        trace = line["trace_id"]
        assert otlp.ERROR in {span.status for span in observed.trace(trace)}
        assert _ids(observed.trace(trace)) == _ids([span for span in observed.received if span.trace_id == trace])


def test_a_slow_trace_is_kept_and_whole(observed: Observed) -> None:
    trace = observed.trace(observed.slow)
    assert max(span.seconds for span in trace) >= 2
    assert not [span for span in trace if span.status == otlp.ERROR]
    assert _ids(trace) == _ids([span for span in observed.received if span.trace_id == observed.slow])


def test_a_decision_does_not_wait_for_the_collectors_end(observed: Observed) -> None:
    assert observed.left_in_time


@pytest.mark.parametrize(("seed", "kept"), [("error", True), ("slow", True), ("quick", False)])
def test_outside_the_share_an_error_or_two_seconds_decide(observed: Observed, seed: str, *, kept: bool) -> None:
    assert _arrived(observed, dropped_id(seed))
    assert bool(observed.trace(dropped_id(seed))) is kept


def test_of_ordinary_traces_the_share_is_kept_and_nothing_else(observed: Observed) -> None:
    kept = [kept_id(f"ordinary {number}") for number in range(SHARED)]
    dropped = [dropped_id(f"ordinary {number}") for number in range(DROPPED)]
    assert all(_arrived(observed, trace) for trace in kept + dropped)
    assert [trace for trace in kept + dropped if observed.trace(trace)] == kept


def test_span_metrics_count_every_span_though_some_are_dropped(observed: Observed) -> None:
    assert len(observed.spans) < len(observed.received)
    assert sum(count for _, count in observed.calls) == len(observed.received)
    catalogue = f"GET {CATALOGUE}"
    counts = Counter({labels["span.name"]: 0 for labels, _ in observed.calls})
    for labels, count in observed.calls:
        counts[labels["span.name"]] += int(count)
    assert counts[catalogue] == len([span for span in observed.received if span.name == catalogue])
    assert counts[catalogue] > len([span for span in observed.spans if span.name == catalogue])


def test_span_metrics_say_which_failed_and_are_of_the_service_not_of_a_worker(observed: Observed) -> None:
    ours = [labels for labels, _ in observed.calls if labels["service.name"] == "baliblissed-backend"]
    failed = [labels for labels in ours if labels["span.name"] == f"POST {CHAT}"]
    assert {labels["status.code"] for labels in failed} == {"STATUS_CODE_UNSET", "STATUS_CODE_ERROR"}
    assert {labels["deployment.environment.name"] for labels in ours} == {"production"}
    series = [tuple(sorted(labels.items())) for labels in ours]
    assert len(series) == len(set(series)), "two workers' series would collide"


def test_traces_leave_in_batches(observed: Observed) -> None:
    assert max(len({span.trace_id for span in request}) for request in observed.requests) > 1


def _ids(spans: list[otlp.Span]) -> list[str]:
    return sorted(span.span_id for span in spans)


def _arrived(observed: Observed, trace: str) -> bool:
    return any(span.trace_id == trace for span in observed.received)
