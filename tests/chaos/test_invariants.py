"""Each invariant of a chaos run fails when it has to, on what a real service exposes."""

import math
from collections import Counter
from pathlib import Path

import pytest

from loadtest.chaos import invariants
from loadtest.chaos.invariants import Allowance, Series
from loadtest.chaos.ledger import CLOSED, Failure, Ledger, Write

DETAIL = "/api/v1/destinations/{slug}"
GOOD = ("GET", DETAIL, 200)


@pytest.fixture(scope="module")
def exposition() -> str:
    """Return an exposition in the service's format."""
    return (Path(__file__).parent / "exposition.txt").read_text()


@pytest.fixture
def series(exposition: str) -> Series:
    return invariants.monotone(exposition)


def test_only_samples_that_never_decrease_are_compared(series: Series) -> None:
    assert series['http_requests_total{handler="/api/v1/inquiries",method="POST",status="201"}'] == 47
    assert series['http_request_duration_seconds_bucket{handler="/api/v1/inquiries",le="+Inf",method="POST"}'] == 68
    assert series['http_request_size_bytes_count{handler="/api/v1/inquiries"}'] == 68
    assert not [name for name in series if name.startswith(("process_open_fds", "#"))]


def test_a_total_that_falls_is_found(series: Series) -> None:
    name = 'http_requests_total{handler="/api/v1/inquiries",method="POST",status="201"}'
    assert invariants.falls(series, series) == []
    assert invariants.falls(series, {**series, name: 48}) == []
    assert invariants.falls(series, {**series, name: 46}) == [f"{name} fell from 47 to 46"]


def test_a_total_that_disappears_is_found(series: Series) -> None:
    name, value = next(iter(series.items()))
    after = {other: number for other, number in series.items() if other != name}
    assert invariants.falls(series, after) == [f"{name} disappeared at {value:g}"]


def test_requests_are_counted_by_method_handler_and_status(series: Series) -> None:
    counted = invariants.counts(series)
    assert counted["POST", "/api/v1/inquiries", 201] == 47
    assert counted["POST", "/api/v1/inquiries", 503] == 21
    assert counted[GOOD] == 496


def ledger(answered: int, unanswered: int = 0) -> Ledger:
    return Ledger(answered=Counter({GOOD: answered}), unanswered=Counter({GOOD[:2]: unanswered}))


@pytest.mark.parametrize("counted", [310, 311, 312])
def test_totals_may_hold_what_was_in_flight(counted: int) -> None:
    assert invariants.miscounts(ledger(310, 2), Counter({GOOD: counted}), Counter()) == []


def test_a_request_in_flight_may_be_counted_with_any_status() -> None:
    assert invariants.miscounts(ledger(310, 1), Counter({GOOD: 310, ("GET", DETAIL, 499): 1}), Counter()) == []


def test_an_answer_that_was_not_counted_is_found() -> None:
    found = invariants.miscounts(ledger(310, 2), Counter({GOOD: 309}), Counter())
    assert found == [f"GET {DETAIL} 200: 310 answered, 309 counted"]


def test_an_answer_that_was_counted_with_another_status_is_found() -> None:
    counted = Counter({GOOD: 309, ("GET", DETAIL, 503): 1})
    assert invariants.miscounts(ledger(310), counted, Counter()) == [f"GET {DETAIL} 200: 310 answered, 309 counted"]


def test_a_request_that_was_counted_twice_is_found() -> None:
    assert invariants.miscounts(ledger(310, 2), Counter({GOOD: 313}), Counter()) == [
        f"GET {DETAIL}: 312 sent, 313 counted"
    ]


def test_what_was_written_off_is_not_found_again() -> None:
    lost = invariants.missing(ledger(310), Counter({GOOD: 300}))
    assert lost == Counter({GOOD: 10})
    assert invariants.miscounts(ledger(320), Counter({GOOD: 310}), lost) == []
    assert invariants.miscounts(ledger(320), Counter({GOOD: 309}), lost) != []


ALLOWED = [Allowance(frozenset({"503"}), 10.0, 20.0)]


@pytest.mark.parametrize(
    ("kind", "started", "ended", "is_forbidden"),
    [
        ("503", 11.0, 12.0, False),
        ("503", 9.0, 10.5, False),
        ("503", 19.5, 23.0, False),
        ("503", 1.0, 30.0, False),
        ("503", 8.0, 9.9, True),
        ("503", 20.1, 21.0, True),
        ("500", 11.0, 12.0, True),
        (CLOSED, 11.0, 12.0, True),
    ],
)
def test_a_failure_is_allowed_by_its_kind_and_time(
    kind: str, started: float, ended: float, *, is_forbidden: bool
) -> None:
    failure = Failure(kind, "GET", DETAIL, started, ended)
    assert invariants.forbidden([failure], ALLOWED) == ([failure] if is_forbidden else [])


def test_an_action_that_still_runs_allows_its_failures() -> None:
    failure = Failure("503", "GET", DETAIL, 30.0, 31.0)
    assert invariants.forbidden([failure], [Allowance(frozenset({"503"}), 10.0, math.inf)]) == []


WRITE = Write("inquiries", 7, "run-1", "run-1")


def test_an_acknowledged_write_is_stored_as_it_was_sent() -> None:
    assert invariants.lost_writes([WRITE], {("inquiries", 7): ("run-1", "run-1")}) == []
    assert invariants.lost_writes([WRITE], {}) == ["inquiries 7 was acknowledged and is not stored"]
    assert (
        "acknowledged as 'run-1' and holds 'run-2', run-1"
        in invariants.lost_writes([WRITE], {("inquiries", 7): ("run-2", "run-1")})[0]
    )


def test_a_retry_that_was_stored_twice_is_found() -> None:
    again = Write("inquiries", 8, "run-1", "run-1")
    assert invariants.repeated_writes([WRITE, WRITE]) == []
    assert invariants.repeated_writes([WRITE, again]) == ["key run-1 was acknowledged as [7, 8]"]


def test_a_process_without_its_master_is_found() -> None:
    marked = {10: "gunicorn", 11: "gunicorn", 12: "python -m exporter"}
    assert invariants.orphans(marked, {10, 11, 12}) == []
    assert invariants.orphans(marked, {10, 11}) == ["process 12 has no master: python -m exporter"]


def test_a_figure_that_grows_steadily_is_found_in_spite_of_noise() -> None:
    noise = [0, 3, -2, 1, -3, 2, 0, -1, 3, -3]
    flat = invariants.trend([(10.0 * at, 100.0 + wobble) for at, wobble in enumerate(noise)])
    steep = invariants.trend([(10.0 * at, 100.0 + wobble + 2 * at) for at, wobble in enumerate(noise)])
    assert invariants.growing("memory", {"master": flat}, 10, 10) == []
    assert invariants.growing("memory", {"master": steep}, 10, 10) == [
        "memory of the master grows by 17 over the run, at most 10 are allowed"
    ]
    assert invariants.growing("memory", {"master": steep}, 10, 11) == [], "too few samples"
    assert steep.slope_per_hour == pytest.approx(steep.growth / 90 * 3600)


def test_samples_of_one_moment_have_no_trend() -> None:
    assert invariants.trend([(1.0, 5.0)]).growth == 0
    assert invariants.trend([(1.0, 5.0), (1.0, 9.0)]).growth == 0
