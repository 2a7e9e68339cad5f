"""/metrics on the application's port: content, access control and formats."""

from ipaddress import ip_network

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter
from prometheus_fastapi_instrumentator import metrics

from app.monitoring import prometheus
from app.monitoring.metrics.registry import registry
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
