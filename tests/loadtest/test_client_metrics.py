"""The metrics of a load test: what the clients saw, in the service's own buckets, and the faults that were made."""

import math

import httpx
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.monitoring.metrics.catalogue import LATENCY_BUCKETS
from loadtest.campaign_metrics import campaign_metrics
from loadtest.client_metrics import ClientMetrics

RUN = {"run": "1", "scenario": "healthy"}


def clients(offered: float | None = 20.0) -> ClientMetrics:
    """Return the metrics of seven users."""
    return ClientMetrics(
        "1", "healthy", LATENCY_BUCKETS, users=lambda: 7, offered=lambda: offered, tasks=lambda: 3, late=lambda: 1
    )


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return labels, without the usual, and values of each sample by its name."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            assert RUN.items() <= one.labels.items()
            own = {label: value for label, value in one.labels.items() if label not in RUN}
            found.setdefault(one.name, []).append((own, one.value))
    return found


def exposed(metrics: ClientMetrics) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the samples of an exposition of `metrics`."""
    return samples(generate_latest(metrics.registry()).decode())


def test_a_request_is_counted_by_its_answer_and_in_the_bucket_of_its_time() -> None:
    metrics = clients()
    for status, seconds in ((200, 0.02), (200, 2.0), (503, 2.001), (0, 30.0)):
        metrics.note("GET", "/a", status, seconds)
    found = exposed(metrics)
    counts = {one["status"]: count for one, count in found["loadtest_requests_total"]}
    assert counts == {"200": 2, "503": 1, "0": 1}, "0 is no answer"
    below = {float(one["le"]): count for one, count in found["loadtest_request_duration_seconds_bucket"]}
    assert [*below] == [*LATENCY_BUCKETS, math.inf]
    assert (below[0.01], below[0.025], below[1], below[2], below[2.5], below[10], below[math.inf]) == (
        0,
        1,
        1,
        2,
        3,
        3,
        4,
    )
    route = {"method": "GET", "handler": "/a"}
    assert found["loadtest_request_duration_seconds_sum"] == [(route, 34.021)]
    assert found["loadtest_request_duration_seconds_count"] == [(route, 4)]


def test_users_and_their_schedule_are_exposed() -> None:
    found = exposed(clients())
    assert {name: values[0][1] for name, values in found.items()} == {
        "loadtest_run_info": 1,
        "loadtest_users": 7,
        "loadtest_offered_requests_per_second": 20,
        "loadtest_tasks_total": 3,
        "loadtest_tasks_late_total": 1,
    }


def test_a_rate_that_no_user_states_is_not_exposed_as_none() -> None:
    assert "loadtest_offered_requests_per_second" not in exposed(clients(offered=None))


async def test_a_fault_is_0_before_and_1_while_it_is_made() -> None:
    async with campaign_metrics("1", "healthy", 12.0, "ai") as metrics, httpx.AsyncClient() as client:

        async def scraped() -> dict[str, list[tuple[dict[str, str], float]]]:
            return samples((await client.get(f"{metrics.url}/metrics")).text)

        assert await scraped() == {"loadtest_speed": [({}, 12)], "loadtest_fault_active": [({"fault": "ai"}, 0)]}
        metrics.faults["ai"] = 1
        assert (await scraped())["loadtest_fault_active"] == [({"fault": "ai"}, 1)]
