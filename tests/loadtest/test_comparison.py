"""The service's figures against the clients': what agrees passes, and each way of being wrong is found."""

import math
from collections.abc import Sequence

import pytest

from app.monitoring.metrics.catalogue import LATENCY_BUCKETS
from loadtest import comparison
from loadtest.comparison import Figures, figures
from loadtest.ledger import Ledger, Request

ROUTE = ("GET", "/api/v1/destinations")
TIMES = [0.004, 0.02, 0.03, 0.06, 0.2, 0.4, 0.9, 1.5, 2.2, 3.0]
TRANSPORT = 0.01
BOUNDS = [*map(float, LATENCY_BUCKETS), math.inf]


def ledger(times: Sequence[float] = TIMES, status: int = 200) -> Ledger:
    """Return a ledger of clients that measured these times."""
    return Ledger([Request(0.0, *ROUTE, status, seconds) for seconds in times])


def served(times: Sequence[float] = TIMES, status: int = 200) -> Figures:
    """Return the figures of a service that took these times."""
    buckets = {bound: float(sum(seconds <= bound for seconds in times)) for bound in BOUNDS}
    return Figures({(*ROUTE, status): float(len(times))}, {ROUTE: buckets})


def test_equal_figures_agree() -> None:
    assert comparison.wrong_counts(served(), ledger()) == []
    assert comparison.wrong_buckets(served(), ledger(), TRANSPORT) == []
    assert comparison.wrong_percentiles(comparison.percentiles(served(), ledger()), TRANSPORT) == []


def test_a_lost_a_doubled_and_a_mislabelled_request_are_found() -> None:
    assert comparison.wrong_counts(served(TIMES[1:]), ledger()) == [
        "GET /api/v1/destinations 200: clients 10, service 9"
    ]
    assert comparison.wrong_counts(served([*TIMES, 0.1]), ledger()) != []
    assert len(comparison.wrong_counts(served(status=500), ledger())) == 2


def test_a_request_that_only_the_service_knows_is_found() -> None:
    assert comparison.wrong_counts(served(), Ledger()) == ["GET /api/v1/destinations 200: clients 0, service 10"]


@pytest.mark.parametrize("factor", [0.001, 10, 1000], ids=["too small", "too large", "milliseconds"])
def test_times_of_another_unit_are_found(factor: float) -> None:
    wrong = served([seconds * factor for seconds in TIMES])
    assert comparison.wrong_buckets(wrong, ledger(), TRANSPORT) != []
    assert comparison.wrong_percentiles(comparison.percentiles(wrong, ledger()), TRANSPORT) != []


def test_a_bucket_that_is_not_cumulative_is_found() -> None:
    wrong = served()
    wrong.buckets[ROUTE][2.0] = 1.0
    assert comparison.wrong_buckets(wrong, ledger(), TRANSPORT) == [
        "GET /api/v1/destinations: le=2 holds 1, clients say 7 to 9"
    ]


def test_a_route_without_buckets_is_found() -> None:
    assert comparison.wrong_buckets(Figures({}, {}), ledger(), TRANSPORT) == ["GET /api/v1/destinations: no buckets"]


def test_what_the_clients_see_on_top_is_allowed_up_to_a_limit() -> None:
    slower = ledger([seconds + 0.2 for seconds in TIMES])
    assert comparison.wrong_buckets(served(), slower, 0.25) == []
    assert comparison.wrong_buckets(served(), ledger([seconds + 5 for seconds in TIMES]), 0.25) != []


def test_percentiles_name_the_bucket_without_interpolation() -> None:
    found = comparison.percentiles(served(), ledger())
    assert found["p50"] == {"clients": 0.2, "service_above": 0.1, "service_up_to": 0.25}
    assert found["p99"] == {"clients": 3.0, "service_above": 2.5, "service_up_to": 5.0}
    assert comparison.percentiles(Figures({}, {}), Ledger()) == {}


def test_the_share_over_a_boundary_is_exact_and_routes_can_be_left_out() -> None:
    assert comparison.slower_share(served(), 2.0) == pytest.approx(0.2)
    assert comparison.slower_share(served(), 2.0, "/api") == pytest.approx(0.2), "a handler matches as a whole"
    assert math.isnan(comparison.slower_share(served(), 2.0, "/api/v1/destinations"))


def test_answers_faster_than_can_be_are_counted() -> None:
    assert comparison.faster_than(served(), ROUTE[1], 0.3) == 5
    assert comparison.faster_than(served([0.4, 0.5]), ROUTE[1], 0.3) == 0
    assert comparison.faster_than(served(), "/another", 0.3) == 0


EXPOSITION = """# TYPE http_requests_total counter
http_requests_total{handler="/api/v1/destinations",method="GET",status="200"} 7.0
http_requests_total{handler="/health/live",method="GET",status="200"} 90.0
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{handler="/api/v1/destinations",le="2.0",method="GET"} 6.0
http_request_duration_seconds_bucket{handler="/api/v1/destinations",le="+Inf",method="GET"} 7.0
http_request_duration_seconds_count{handler="/api/v1/destinations",method="GET"} 7.0
http_request_duration_seconds_sum{handler="/api/v1/destinations",method="GET"} 9.0
"""


def test_an_exposition_is_read_without_the_probes() -> None:
    assert figures(EXPOSITION) == Figures({(*ROUTE, 200): 7.0}, {ROUTE: {2.0: 6.0, math.inf: 7.0}})


def test_the_routes_to_read_can_be_named() -> None:
    assert figures(EXPOSITION, ["/health/"]).requests == {("GET", "/health/live", 200): 90.0}
    assert len(figures(EXPOSITION, ["/"]).requests) == 2


def test_only_growth_counts() -> None:
    later = figures(EXPOSITION.replace(" 7.0", " 9.0"))
    assert later.since(figures(EXPOSITION)) == Figures({(*ROUTE, 200): 2.0}, {ROUTE: {2.0: 0.0, math.inf: 2.0}})
    assert figures(EXPOSITION).since(figures(EXPOSITION)) == Figures({}, {})
