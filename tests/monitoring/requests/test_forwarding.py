"""Signs of a proxy: what any of them adds to a request closes /metrics on the application's port."""

import socket
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from app.monitoring import prometheus
from app.monitoring.options import DEFAULT_NETWORKS
from app.monitoring.prometheus import Instrumentator
from app.monitoring.requests.forwarding import proxy_sign

# As the documentation of servers, CDNs and clouds names them.
# fmt: off
ADDED = [
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Server",
    "X-Forwarded-Prefix", "X-Forwarded-By", "X-Forwarded-Client-Cert", "X-Forwarded-Scheme", "Forwarded", "Via",
    "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "True-Client-IP", "CF-Connecting-IP", "CF-Ray", "CF-Visitor",
    "CF-IPCountry", "CDN-Loop", "Fastly-Client-IP", "Fastly-FF", "Fly-Client-IP", "Fly-Region",
    "X-Envoy-External-Address", "X-Envoy-Expected-Rq-Timeout-Ms", "X-Envoy-Attempt-Count", "X-Amz-Cf-Id",
    "X-Amzn-Trace-Id", "CloudFront-Viewer-Address", "X-Cloud-Trace-Context", "X-Azure-ClientIP", "X-Azure-Ref",
    "X-Azure-FDID", "X-FD-HealthProbe", "X-Original-Forwarded-For", "X-Original-Host", "X-Scheme", "Front-End-Https",
    "X-ARR-LOG-ID", "X-AppEngine-User-IP", "X-Vercel-Id", "X-Nf-Client-Connection-Ip", "X-Akamai-Edgescape",
    "Akamai-Origin-Hop", "X-Varnish", "X-ProxyUser-Ip", "WL-Proxy-Client-IP", "Proxy-Connection", "DO-Connecting-IP",
    "Max-Forwards", "X-Sucuri-ClientIP", "Incap-Client-IP",
    "X-Original-URI", "X-Original-URL", "X-Original-Method", "X-Rewrite-URL", "X-Request-Start", "X-Queue-Start",
    "Surrogate-Capability", "Remote-Addr", "Remote-User", "X-Auth-Request-User", "X-Client-Cert", "Ssl-Client-Verify",
    "X-SSL-Client-Verify", "X-SSL-Cipher", "X-Amzn-Tls-Version", "X-Amzn-Oidc-Data", "X-Goog-Iap-Jwt-Assertion",
    "X-Kong-Request-Id", "X-Consumer-Id", "l5d-client-id", "Tailscale-User-Login", "Ngrok-Auth-User-Email",
    "X-Railway-Edge", "Ali-CDN-Real-Port",
]
# fmt: on


def scope(host: str | None = "10.0.0.5:8000", server: Any = ("10.0.0.5", 8000), **fields: Any) -> dict[str, Any]:
    """Return a scope as a direct scrape of Prometheus has it."""
    headers = {
        "User-Agent": "Prometheus/3.5.0",
        "Accept": "*/*",
        "Accept-Encoding": "gzip",
        **fields.pop("headers", {}),
    }
    headers |= {"X-Prometheus-Scrape-Timeout-Seconds": "10"} | ({} if host is None else {"Host": host})
    pairs = [(name.lower().encode("latin-1"), value.encode()) for name, value in headers.items()]
    return {"type": "http", "http_version": "1.1", "headers": pairs, "server": server, **fields}


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("10.0.0.5:8000", ("10.0.0.5", 8000)),
        ("10.0.0.5", ("::ffff:10.0.0.5", 8000)),
        ("[::ffff:10.0.0.5]:8000", ("10.0.0.5", 8000)),
        ("[fd00::5]:8000", ("fd00::5", 8000)),
        ("localhost:8000", ("172.17.0.2", 8000)),
        ("127.0.0.1:8000", ("172.17.0.2", 8000)),
        ("[::1]:8000", ("::1", 8000)),
        ("api:8000", ("10.0.0.5", 8000)),
        ("api.shop.svc:8000", ("10.0.0.5", 8000)),
        ("api.shop.svc.cluster.local.:8000", ("10.0.0.5", 8000)),
        ("ip-10-0-0-5.eu-central-1.compute.internal", ("10.0.0.5", 8000)),
        (f"{socket.gethostname()}:8000", ("10.0.0.5", 8000)),
        (f"{socket.gethostname()}.Example.com", ("10.0.0.5", 8000)),
        ("10.0.0.9", ("/run/app.sock", None)),
        ("10.0.0.9", None),
    ],
)
def test_a_direct_scrape_has_no_sign(host: str, server: Any) -> None:
    assert proxy_sign(scope(host, server)) is None


def test_every_header_that_proxies_add_is_a_sign() -> None:
    assert [name for name in ADDED if proxy_sign(scope(headers={name: "10.0.0.1"})) is None] == []
    assert [name for name in ADDED if proxy_sign(scope(headers={name: ""})) is None] == []


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "203.0.113.9",
        "10.0.0.6:8000",
        "[fd00::5]",
        "api.example.com",
        "api.example.com:443",
        "a b",
        "x@y",
        "[::",
    ],
)
def test_a_host_of_another_machine_is_a_sign(host: str | None) -> None:
    assert proxy_sign(scope(host)) == "host"


def test_http_1_0_and_a_second_host_are_signs() -> None:
    assert proxy_sign(scope(http_version="1.0")) == "HTTP/1.0"
    twice = scope()
    twice["headers"].append((b"host", b"10.0.0.5"))
    assert proxy_sign(twice) == "host"


def test_signs_have_few_values() -> None:
    signs = {proxy_sign(scope(headers={f"X-Forwarded-{number}": "1"})) for number in range(100)}
    assert signs == {"x-forwarded-*"}


@settings(max_examples=100)
@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=3), st.binary(max_size=60))
def test_no_header_raises(headers: list[tuple[bytes, bytes]], host: bytes) -> None:
    asked = scope(None)
    asked["headers"] += [*headers, (b"host", host)]
    assert proxy_sign(asked) is None or isinstance(proxy_sign(asked), str)


async def test_metrics_are_closed_to_a_forwarded_request_and_the_log_says_why_once() -> None:
    prometheus._log_refusal.cache_clear()
    app = FastAPI()
    Instrumentator().expose_to(app, DEFAULT_NETWORKS)
    transport = httpx.ASGITransport(app, client=("::ffff:10.0.0.1", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://api:8000") as client:
        with capture_logs() as lines:
            assert (await client.get("/metrics")).status_code == 200
            statuses = [(await client.get("/metrics", headers={name: "10.0.0.1"})).status_code for name in ADDED]
            statuses += [(await client.get("/metrics", headers={"Via": "1.1 proxy"})).status_code]
    assert set(statuses) == {403}
    refusals = [line["sign"] for line in lines if line["event"] == "metrics_refused"]
    assert {"via", "x-real-ip", "cf-*"} <= set(refusals)
    assert len(refusals) == len(set(refusals))
