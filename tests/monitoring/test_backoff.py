"""The delay before a restart, on a clock of the test's own."""

from hypothesis import given
from hypothesis import strategies as st

from app.monitoring.backoff import Backoff

MIN_DELAY, MAX_DELAY = 0.1, 10.0


def delays(runs: list[float]) -> list[float]:
    """Return the delay after each run; `runs` are their durations in seconds."""
    now = 1_000.0
    backoff = Backoff(MIN_DELAY, MAX_DELAY, clock=lambda: now)
    found = []
    for seconds in runs:
        backoff.started()
        now += seconds
        found.append(backoff.ended())
        now += found[-1]
    return found


def test_short_runs_double_the_delay_up_to_the_longest() -> None:
    assert delays([0.0] * 9) == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]


def test_a_long_run_sets_the_delay_back() -> None:
    assert delays([0, 0, 0, 11, 0, 0]) == [0.1, 0.2, 0.4, 0.1, 0.2, 0.4]


def test_a_run_of_just_the_longest_delay_is_a_short_one() -> None:
    assert delays([0, MAX_DELAY, MAX_DELAY + 0.001]) == [0.1, 0.2, 0.1]


def test_the_wait_before_a_run_is_no_part_of_it() -> None:
    assert delays([0.0] * 12)[-4:] == [10.0] * 4


def test_a_run_begins_with_the_object_where_nobody_says_so() -> None:
    now = 0.0
    backoff = Backoff(MIN_DELAY, MAX_DELAY, clock=lambda: now)
    assert [backoff.ended(), backoff.ended()] == [0.1, 0.2]
    now = 11.0
    assert backoff.ended() == 0.1


@given(st.lists(st.sampled_from([0.0, 0.5, 9.9, 10.5, 3_600.0]), max_size=40))
def test_a_delay_depends_on_the_short_runs_since_the_last_long_one(runs: list[float]) -> None:
    short = 0
    for seconds, delay in zip(runs, delays(runs), strict=True):
        short = 0 if seconds > MAX_DELAY else short
        assert delay == min(MIN_DELAY * 2**short, MAX_DELAY)
        short += 1
