"""The agency's metrics as they are before the first request, and what the requests of the API record."""

import re

from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample

from app.metrics import metrics
from app.monitoring.metrics.registry import BoundedRegistry
from app.settings import ROOT
from tests.agency import metrics_in
from tests.conftest import Application
from tests.dashboards.values import possible

# Set at the first look-up: a new worker must not replace the state that all workers share.
WITHOUT_VALUES = {"baliblissed_circuit_breaker_state"}


def samples(registry: BoundedRegistry) -> list[Sample]:
    return [
        sample for family in registry.collect() for sample in family.samples if not sample.name.endswith("_created")
    ]


def test_each_combination_of_label_values_exists_with_0_before_the_first_event() -> None:
    registry = BoundedRegistry()
    metrics_in(registry)
    found = samples(registry)
    assert all(sample.value == 0 for sample in found)
    for metric in registry._collector_to_names:
        assert isinstance(metric, MetricWrapperBase)
        if metric._name in WITHOUT_VALUES or not metric._labelnames or metric._name.startswith("baliblissed_metrics_"):
            continue
        suffix = {"counter": "_total", "histogram": "_count"}.get(str(metric._type), "")
        name = metric._name + suffix
        wanted = 1
        for label in metric._labelnames:
            values = possible(name, label)
            assert values is not None
            there = {sample.labels[label] for sample in found if sample.name == name}
            assert there == values - {"__overflow__"}, (name, label)
            wanted *= len(there)
        assert sum(sample.name == name for sample in found) == wanted, name


def test_each_value_is_one_that_the_code_uses() -> None:
    code = {path: path.read_text() for path in (ROOT / "app").rglob("*.py") if "monitoring" not in path.parts}
    code.pop(ROOT / "app" / "metrics.py")
    used = set(re.findall(r'"(\w+)"', "".join(code.values())))
    registry = BoundedRegistry()
    metrics_in(registry)
    values = {value for sample in samples(registry) for name, value in sample.labels.items() if name != "le"}
    assert values - used == set()


def buckets(histogram: Histogram) -> list[float]:
    return histogram._upper_bounds[:-1]


def test_the_buckets_fit_what_is_measured() -> None:
    declared = metrics_in(BoundedRegistry())
    queries = buckets(declared.database.query_duration)
    assert (queries[0], queries[-1]) == (0.001, 5)
    assert {0.5, 1} <= set(queries), "the time-outs of the pool and of a statement"
    assert buckets(declared.database.pool_wait) == queries
    calls = buckets(declared.redis.command_duration)
    assert (calls[0], calls[-1]) == (0.0005, 1)
    assert 0.25 in calls, "the time-out of a call"


async def test_the_requests_of_the_api_are_recorded_by_operation_and_command(application: Application) -> None:
    def counts() -> dict[str, float]:
        declared = metrics()
        return {
            sample.labels.get("operation") or sample.labels.get("command") or "wait": sample.value
            for histogram in (
                declared.database.query_duration,
                declared.redis.command_duration,
                declared.database.pool_wait,
            )
            for family in histogram.collect()
            for sample in family.samples
            if sample.name.endswith("_count")
        }

    inquiry = {"name": "Ayu", "email": "ayu@example.com", "message": "Two rooms, please.", "party_size": 2}
    async with application() as client:
        before = counts()
        place = "/api/v1/destinations/tanah-lot"
        assert (await client.get(place)).status_code == 200
        assert (await client.get("/api/v1/destinations")).status_code == 200
        assert (await client.get(f"{place}/reviews")).status_code == 200
        assert (await client.post(f"{place}/reviews", json={"rating": 5, "text": "Lovely."})).status_code == 201
        assert (await client.post("/api/v1/inquiries", json=inquiry)).status_code == 201
        assert (await client.post("/api/v1/assistant/chat", json={"message": "A temple?"})).status_code == 200
        assert (await client.post("/api/v1/assistant/itineraries", json={"days": 1})).status_code == 200
        after = counts()
    grown = {name: after[name] - count for name, count in before.items()}
    read = {"get_destination", "list_destinations", "suggest_destinations", "load_catalogue", "list_reviews"}
    assert {name: grown[name] for name in read | {"add_review", "add_inquiry"} if grown[name] != 1} == {}
    assert grown["list_inquiries"] == grown["delete_idempotency_keys"] == 0
    assert grown["rate_limit"] == 4
    # The look-up of a place, of an itinerary and of the catalogue: each reads again once it has the lease.
    assert grown["lease"] == grown["set"] == grown["release"] == 3
    assert grown["get"] == 6
    assert grown["delete"] >= 1
    assert grown["wait"] >= 7
