"""/metrics on the application's port: content, access control and formats."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from types import SimpleNamespace

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from prometheus_fastapi_instrumentator import metrics
from starlette.applications import Starlette

from app.monitoring import prometheus
from app.monitoring.metrics.registry import BoundedRegistry, registry
from app.monitoring.multiprocess.labels import OVERFLOW
from app.monitoring.prometheus import Instrumentator, allows

OUTSIDE = ("203.0.113.9", 40_000)
PRIVATE = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize("peer", [None, (), ("", 0), ("/run/app.sock", None), ("testclient", 50_000)])
def test_a_peer_without_an_address_is_refused(peer: tuple[str, int] | None) -> None:
    assert allows([ip_network("0.0.0.0/0"), ip_network("::/0")], peer) is False


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("fd12::1", True),
        ("::ffff:10.0.0.1", True),
        ("::ffff:a00:1%eth0", True),
        ("64:ff9b:1::a00:1", True),
        ("64:ff9b::a00:1", False),
        ("fd12::1%eth0", True),
        ("fe80::1%eth0", False),
    ],
)
def test_an_address_is_judged_in_either_family(peer: str, allowed: bool) -> None:  # noqa: FBT001
    assert allows(PRIVATE, (peer, 1)) is allowed


async def test_without_the_observing_layer_the_servers_own_peer_is_judged() -> None:
    app = FastAPI()
    Instrumentator().expose_to(app, PRIVATE)
    for host, status in (("10.0.0.1", 200), ("8.8.8.8", 403)):
        transport = httpx.ASGITransport(app, client=(host, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            assert (await client.get("/metrics")).status_code == status


def test_http_metrics_that_somebody_else_declared_stop_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = CollectorRegistry()
    metrics.default(registry=taken)
    monkeypatch.setattr(prometheus, "registry", lambda: taken)
    with pytest.raises(RuntimeError, match="declared elsewhere"):
        prometheus._declare_http_metrics.__wrapped__()


def test_the_http_metrics_are_bounded_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    Instrumentator()
    requests = registry()._names_to_collectors["http_requests_total"]
    assert isinstance(requests, Counter)
    before = set(requests._metrics)
    monkeypatch.setattr(registry(), "max_series", len(before))
    for path in ("/teapot", "/other"):
        requests.labels("BREW", "418", path).inc()
    assert set(requests._metrics) - before == {(OVERFLOW, OVERFLOW, OVERFLOW)}
    assert requests.labels(OVERFLOW, OVERFLOW, OVERFLOW)._value.get() == 2


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """Return the registry that single-process mode exposes, with three metrics."""
    own = BoundedRegistry()
    Counter("rides", "Rides.", registry=own).inc(4, {"trace_id": "1"})
    Gauge("depth", "Depth.", registry=own).set(1)
    Histogram("took", "Took.", registry=own, buckets=(1,)).observe(0.5)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(prometheus, "registry", lambda: own)
    return own


@pytest.fixture(params=[FastAPI, Starlette])
async def client(request: pytest.FixtureRequest, counted: CollectorRegistry) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of an application that exposes `counted`. It sends no headers of its own."""
    app = request.param()
    Instrumentator.expose_to(SimpleNamespace(), app, PRIVATE)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app, client=("10.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as made:
        made.headers = httpx.Headers()
        yield made


async def test_the_applications_port_negotiates_as_the_exporter_does(client: httpx.AsyncClient) -> None:
    for accept, kind in (
        ('application/openmetrics-text;version="1.0.0"', "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=abc", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.0.0;q=0,*/*", "text/plain; version=0.0.4"),
        ("\xff;;q=,", "text/plain; version=0.0.4"),
    ):
        answer = await client.get("/metrics", headers=[(b"Accept", accept.encode("latin-1"))])
        assert (answer.status_code, answer.headers["vary"]) == (200, "Accept, Accept-Encoding")
        assert answer.headers["content-type"].startswith(kind)
        assert answer.text.endswith("# EOF\n") is kind.startswith("application")
    twice = await client.get("/metrics", headers=[("Accept", "text/plain;q=0"), ("Accept", "application/*")])
    assert twice.text.endswith("# EOF\n")


async def test_the_applications_port_packs_what_is_to_be_packed(client: httpx.AsyncClient) -> None:
    plain = await client.get("/metrics", headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    packed = await client.get("/metrics", headers={"Accept-Encoding": "gzip, identity;q=0"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == plain.text


async def test_the_applications_port_restricts_to_names_as_the_library_does(
    client: httpx.AsyncClient, counted: CollectorRegistry
) -> None:
    for names in (["rides_total"], ["took_sum", "depth"], ["took"], ["rides"], ["none"]):
        answer = await client.get("/metrics", params={"name[]": names})
        lines = generate_latest(counted.restricted_registry(names)).decode().splitlines()
        assert sorted(answer.text.splitlines()) == sorted(lines)


async def test_the_applications_port_answers_other_methods(client: httpx.AsyncClient) -> None:
    options = await client.options("/metrics")
    assert (options.status_code, options.headers["allow"], options.content) == (200, "GET, HEAD, OPTIONS", b"")
    head, got = await client.head("/metrics"), await client.get("/metrics")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]
    refused = await client.request("BREW", "/metrics")
    assert refused.status_code == 405
    assert set(refused.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
