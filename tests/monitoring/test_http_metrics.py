"""The library's middleware and ours see the same traffic: the library is the oracle, the expositions are the same."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from app.monitoring.metrics.catalogue import LATENCY_BUCKETS
from app.monitoring.metrics.http import HttpMetrics, known_method
from app.monitoring.metrics.registry import BoundedRegistry
from app.monitoring.multiprocess.labels import OVERFLOW
from tests.middleware.applications import Records
from tests.monitoring.oracle import Call, both, exposed

FASTAPI_CALLS = [
    Call("/items/7"),
    Call("/items/8?page=1"),
    Call("/items/none"),  # 422
    Call("/items/7", "DELETE"),  # 405
    Call("/items/7", "HEAD"),  # 405: FastAPI adds no HEAD to a GET
    Call("/nowhere"),
    Call("/nowhere", "POST", content=b"lost"),
    Call("/slashed/"),
    Call("/files/a/b/c"),
    Call("/refused/418"),
    Call("/refused/404"),
    Call("/refused/503"),
    Call("/stream"),
    Call("/task"),
    Call("/echo", "POST", content=b"x" * 1000),
    Call("/metrics"),
    Call("/docs"),
    Call("/openapi.json"),
    Call("/old/one"),
    Call("/old/one", "HEAD"),
    Call("/old/one", "PUT"),
    Call("/old/one/gone"),
    Call("/v1/beaches/sanur"),
    Call("/v1/beaches/sanur", "POST", content=b'{"depth": 3}', headers={"content-type": "application/json"}),
    Call("/v1/beaches/sanur", "POST", content=b"{", headers={"content-type": "application/json"}),
    Call("/v1/beaches/sanur", "DELETE"),
    Call("/v1/beaches/sanur/plain"),
    Call("/v2/islands/bali/beaches/kuta"),
    Call("/v2/islands/bali/beaches/kuta/plain"),
    Call("/v2/shop/goods/hat"),
    Call("/v2/shop/nothing"),
    Call("/starlette/rooms/3"),
    Call("/starlette/rooms/3", "DELETE"),
    Call("/starlette/gone"),
    Call("/starlette/nowhere"),
    Call("/tenants/one/near/beaches/kuta"),
    Call("/tenants/two/near/beaches/sanur"),
    Call("/tenants/two/near/beaches/sanur", "PATCH"),
    Call("/tenants/two/nowhere"),
    Call("/tenants/two/docs"),
    Call("/static/applications.py"),
    Call("/static/applications.py", "HEAD"),
    Call("/static/nothing.py"),
    Call("/static/applications.py", "POST"),
]
STARLETTE_CALLS = [
    Call("/items/7"),
    Call("/items/7", "HEAD"),
    Call("/items/7", "PUT"),
    Call("/items/none"),
    Call("/any", "POST", content=b"x"),
    Call("/a/1/c/2"),
    Call("/a/1/c/2", "DELETE"),
    Call("/a/1/nothing"),
    Call("/static/__init__.py"),
    Call("/static/none"),
]


@pytest.mark.parametrize("call", FASTAPI_CALLS, ids=str)
async def test_a_request_to_fastapi_is_exposed_as_the_library_exposes_it(call: Call) -> None:
    theirs, ours = await both("fastapi", [call])
    assert exposed(ours) == exposed(theirs)


@pytest.mark.parametrize("call", STARLETTE_CALLS, ids=str)
async def test_a_request_to_starlette_is_exposed_as_the_library_exposes_it(call: Call) -> None:
    theirs, ours = await both("starlette", [call])
    assert exposed(ours) == exposed(theirs)


PREFLIGHT = {"origin": "https://elsewhere.example", "access-control-request-method": "GET"}


@pytest.mark.parametrize(
    ("house", "call"),
    [
        ("fastapi behind others", Call("/echo", "POST", content=b"x")),  # 413, before routing
        ("fastapi behind others", Call("/v1/beaches/sanur", "OPTIONS", headers=PREFLIGHT)),  # 200, likewise
        ("fastapi behind others", Call("/nowhere", "OPTIONS", headers=PREFLIGHT)),
        ("fastapi behind a copy", Call("/items/7")),
        ("fastapi behind a copy", Call("/v2/islands/bali/beaches/kuta")),
        ("fastapi behind a copy", Call("/nowhere")),
    ],
    ids=str,
)
async def test_where_the_scope_has_no_route_it_is_found_as_the_library_finds_it(house: str, call: Call) -> None:
    theirs, ours = await both(house, [call])
    assert exposed(ours) == exposed(theirs)


SEGMENTS = ["items", "7", "x", "v1", "v2", "islands", "beaches", "sanur", "plain", "tenants", "near", "static", "old"]
GENERATED = st.builds(
    Call,
    path=st.lists(st.sampled_from([*SEGMENTS, "starlette", "rooms", "a", "c", "%20", "é"]), max_size=6).map(
        lambda parts: "/" + "/".join(parts)
    ),
    method=st.sampled_from(["GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"]),
    content=st.binary(max_size=50),
)
LISTED = [call for call in FASTAPI_CALLS + STARLETTE_CALLS if call.path != "/metrics"]
CALLS = st.lists(GENERATED | st.sampled_from(LISTED), max_size=8)


@pytest.mark.parametrize("house", ["fastapi without redirects", "starlette without redirects"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(calls=CALLS)
async def test_whatever_is_asked_for_the_expositions_are_the_same(house: str, calls: list[Call]) -> None:
    theirs, ours = await both(house, calls)
    assert exposed(ours) == exposed(theirs)


@settings(deadline=None)
@given(
    seconds=st.lists(
        st.floats(0, 20) | st.sampled_from(LATENCY_BUCKETS) | st.sampled_from([0.0, 1e-9, 1e9, 10.000000001]),
        max_size=30,
    )
)
def test_an_observation_falls_into_the_bucket_that_the_library_chooses(seconds: list[float]) -> None:
    registry = CollectorRegistry()
    theirs = Histogram("http_request_duration_highr_seconds", "x", buckets=LATENCY_BUCKETS, registry=registry)
    ours = Records()
    recorder = HttpMetrics(ours.registry)
    for value in seconds:
        theirs.observe(value)
        recorder.record("GET", 200, "/x", value, 0, 0)
    for sample in [sample for family in theirs.collect() for sample in family.samples]:
        if not sample.name.endswith("_created"):
            assert ours.registry.get_sample_value(sample.name, sample.labels) == pytest.approx(sample.value)


def bounded(most: int) -> tuple[BoundedRegistry, HttpMetrics]:
    """Return our metrics in a registry that allows `most` series per metric."""
    registry = BoundedRegistry(most)
    return registry, Records(registry=registry).layer()["metrics"]


def test_what_overflows_is_counted_in_one_series_and_each_refusal_is_counted() -> None:
    registry, recorder = bounded(2)
    for place in ("a", "b", "c", "c", "d"):
        recorder.record("GET", 200, f"/{place}", 0.1, 0, 0)
    overflow = {"method": OVERFLOW, "status": OVERFLOW, "handler": OVERFLOW}
    assert registry.get_sample_value("http_requests_total", overflow) == 3
    refused = {"metric": "http_requests", "reason": "too_many_series"}
    assert registry.get_sample_value("baliblissed_metrics_series_refused_total", refused) == 3
    counts = dict.fromkeys(("http_request_size_bytes_count", "http_request_duration_seconds_count"), 0.0)
    for sample in [sample for family in registry.collect() for sample in family.samples]:
        if sample.name in counts:
            counts[sample.name] += sample.value
    assert set(counts.values()) == {5}


def test_odd_methods_take_no_memory() -> None:
    registry, recorder = bounded(100)
    for number in range(1000):
        recorder.record(known_method(f"ODD{number}"), 405, "/x", 0.1, 0, 0)
    assert (
        registry.get_sample_value("http_requests_total", {"method": "_OTHER", "status": "405", "handler": "/x"}) == 1000
    )
    assert len(recorder._series) == 1


def test_metrics_that_nobody_has_declared_cannot_be_recorded() -> None:
    registry = CollectorRegistry()
    with pytest.raises(TypeError, match="http_requests_total is not declared as a Counter: create the Instrumentator"):
        HttpMetrics(registry)
    Histogram("http_requests_total", "Of another kind.", registry=registry)
    with pytest.raises(TypeError, match="http_requests_total is not declared as a Counter"):
        HttpMetrics(registry)


def test_an_exemplar_is_on_the_requests_count_and_on_its_routes_duration() -> None:
    records = Records()
    HttpMetrics(records.registry).record("GET", 200, "/x", 0.3, 1, 2, {"trace_id": "1"})
    HttpMetrics(records.registry).record("GET", 200, "/x", 0.3, 1, 2)
    kept = [
        (sample.name, sample.labels.get("le"), sample.exemplar.value)
        for family in records.registry.collect()
        for sample in family.samples
        if sample.exemplar
    ]
    assert sorted(kept) == [
        ("http_request_duration_seconds_bucket", "0.5", 0.3),
        ("http_requests_total", None, 1.0),
    ]
    assert records.requests() == {("GET", "200", "/x"): 2}
