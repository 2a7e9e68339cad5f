"""/metrics of the service: what it says, to whom, and in which format."""

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from app.monitoring.metrics.registry import registry
from tests.conftest import Application

OUTSIDE = ("203.0.113.9", 40_000)


@pytest.mark.parametrize("forwarded_allow_ips", ["*", "127.0.0.1", ""])
@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-For": "10.0.0.1, 127.0.0.1"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "127.0.0.1"},
        {"X-Forwarded-For": ""},
    ],
)
async def test_no_header_opens_the_door_to_an_outsider(
    application: Application, forwarded_allow_ips: str, headers: dict[str, str]
) -> None:
    async with application(peer=OUTSIDE, forwarded_allow_ips=forwarded_allow_ips) as client:
        answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == 403
    assert answer.text == "metrics are not served to this address\n"
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded"])
async def test_a_request_that_a_proxy_has_forwarded_is_refused(application: Application, header: str) -> None:
    async with application() as client:
        assert (await client.get("/metrics", headers={header: "10.0.0.7"})).status_code == 403
        assert (await client.get("/metrics")).status_code == 200


async def test_a_proxy_of_an_allowed_network_does_not_lend_its_address(application: Application) -> None:
    async with application(peer=("10.0.0.1", 40_000), forwarded_allow_ips="10.0.0.1") as client:
        assert (await client.get("/metrics", headers={"X-Forwarded-For": "8.8.8.8"})).status_code == 403


async def test_the_networks_are_the_settings(application: Application) -> None:
    async with application(peer=OUTSIDE, allowed_metrics_ips="203.0.113.0/24, fd00::/8") as client:
        assert (await client.get("/metrics")).status_code == 200
    async with application(allowed_metrics_ips="203.0.113.0/24") as client:
        assert (await client.get("/metrics")).status_code == 403


async def test_no_network_lets_nobody_in(application: Application) -> None:
    async with application(allowed_metrics_ips=()) as client:
        assert (await client.get("/metrics")).status_code == 403


async def test_text_is_what_a_scrape_gets_unless_it_asks_otherwise(application: Application) -> None:
    async with application() as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "baliblissed_cache_hits" in {family.name for family in parse_text(answer.text)}


async def test_openmetrics_is_answered_where_it_is_asked_for(application: Application) -> None:
    async with application() as client:
        await client.get("/health/live")
        answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")
    assert "http_requests" in {family.name for family in parse_openmetrics(answer.text)}  # type: ignore[no-untyped-call]


async def test_metrics_are_no_part_of_the_api_description(application: Application) -> None:
    async with application() as client:
        assert "/metrics" not in (await client.get("/openapi.json")).json()["paths"]


async def test_the_http_metrics_are_the_instrumentators_with_our_buckets(application: Application) -> None:
    async with application() as client:
        await client.get("/health/live")
        families = {family.name: family for family in parse_text((await client.get("/metrics")).text)}
    assert families["http_requests"].samples[0].labels.keys() == {"method", "status", "handler"}
    assert {"http_request_size_bytes", "http_response_size_bytes"} <= families.keys()
    for name, labels in (
        ("http_request_duration_highr_seconds", set()),
        ("http_request_duration_seconds", {"method", "handler"}),
    ):
        buckets = [sample for sample in families[name].samples if sample.name.endswith("_bucket")]
        bounds = sorted({float(sample.labels["le"]) for sample in buckets})
        assert bounds == [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 2.5, 5, 10, float("inf")]
        assert buckets[0].labels.keys() - {"le"} == labels


@pytest.mark.parametrize("path", ["/no/such/place", "/api/v1/destinations/", "/api/v1/destinations/ubud/"])
async def test_an_unknown_path_is_never_a_label(application: Application, path: str) -> None:
    labels = {"method": "GET", "status": "404", "handler": "none"}
    before = registry().get_sample_value("http_requests_total", labels) or 0
    async with application() as client:
        assert (await client.get(path)).status_code == 404
        exposition = (await client.get("/metrics")).text
    assert registry().get_sample_value("http_requests_total", labels) == before + 1
    assert f'handler="{path}"' not in exposition


async def test_scrapes_are_not_counted_as_requests(application: Application) -> None:
    async with application() as client:
        await client.get("/metrics")
        assert 'handler="/metrics"' not in (await client.get("/metrics")).text


async def test_odd_headers_and_other_methods_are_answered(application: Application) -> None:
    async with application() as client:
        odd = await client.get("/metrics", headers={"Accept": 'application/openmetrics-text; version="1.0.0", ;q=x'})
        refused, options = await client.post("/metrics"), await client.options("/metrics")
    assert odd.text.endswith("# EOF\n")
    assert (refused.status_code, options.status_code) == (405, 200)
    for answer in (refused, options):
        assert {"GET", "HEAD", "OPTIONS"} == set(answer.headers["allow"].split(", "))
