"""The parts of GRACEFUL_TIMEOUT add up."""

import pytest

from app.monitoring.options import Options, OptionsError
from app.monitoring.stop_budget import MIN_EXPORTER_SECONDS, StopBudget, check_stop_delay


@pytest.mark.parametrize("graceful", [1, 5, 25, 3600])
def test_drain_and_spans_end_before_the_workers_are_killed(graceful: int) -> None:
    budget = StopBudget(graceful)
    assert budget.max_stop_delay < budget.drain < budget.drain + budget.spans < budget.workers < graceful


@pytest.mark.parametrize("graceful", [13, 25, 3600])
def test_the_exporter_ends_with_the_graceful_timeout(graceful: int) -> None:
    budget = StopBudget(graceful)
    for elapsed in (0.1, budget.drain, budget.workers):
        assert elapsed + budget.exporter(elapsed) == pytest.approx(graceful)


@pytest.mark.parametrize("graceful", [25, 3600])
def test_killed_workers_are_counted_within_the_graceful_timeout(graceful: int) -> None:
    budget = StopBudget(graceful)
    elapsed = budget.workers + budget.killed
    assert elapsed + budget.exporter(elapsed) == pytest.approx(graceful)


@pytest.mark.parametrize(("graceful", "end"), [(1, 1.96), (10, 10.6), (25, 25), (3600, 3600)])
def test_the_latest_end_is_that_of_an_exporter_behind_killed_workers(graceful: int, end: float) -> None:
    assert StopBudget(graceful).end == pytest.approx(end)


def test_the_exporter_always_has_a_second() -> None:
    assert StopBudget(1).exporter(0.9) == StopBudget(25).exporter(60) == MIN_EXPORTER_SECONDS == 1.0


def test_a_stop_delay_is_refused_above_its_share() -> None:
    check_stop_delay(Options(stop_delay=5.25, graceful_timeout=25))
    with pytest.raises(OptionsError, match=r"^STOP_DELAY=5.3: want at most 5.25, 0.21 of GRACEFUL_TIMEOUT=25$"):
        check_stop_delay(Options(stop_delay=5.3, graceful_timeout=25))


def test_the_default_stop_delay_is_never_refused() -> None:
    check_stop_delay(Options(graceful_timeout=1))
