"""The service on a dual-stack socket, behind proxies that tell their client's address, and that do not."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtest.programs import free_port
from tests.process.nginx import proxying
from tests.process.service import Service, wait_for

REVIEWS = "/api/v1/destinations/amed/reviews"
REVIEW = {"rating": 5, "text": "fine"}
# Lines that a configuration adds to `proxy_pass http://127.0.0.1:<port>`, of which each has been seen in the field.
SILENT = {
    "bare": "",
    "host": "proxy_http_version 1.1; proxy_set_header Host api.example.com;",
    "the client's host": "proxy_http_version 1.1; proxy_set_header Host $http_host;",
    "real ip": "proxy_http_version 1.1; proxy_set_header X-Real-IP $remote_addr;",
    "via": 'proxy_http_version 1.1; proxy_set_header Via "1.1 edge";',
    "cloudflare": "proxy_http_version 1.1; proxy_set_header CF-Connecting-IP $remote_addr;",
    "forwarded for": "proxy_http_version 1.1; proxy_set_header X-Forwarded-For $remote_addr;",
}


@pytest.fixture
def running(tmp_path: Path, addresses: dict[str, str]) -> Iterator[Service]:
    started = Service(tmp_path, {**addresses, "HOST": "::", "RATE_LIMIT_WRITES": "2/day"})
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.stop()


@pytest.fixture
def proxies(running: Service, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Yield the URL of a proxy by its name in SILENT."""
    ports = {name: free_port() for name in SILENT}
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{ports[name]}; location / {{ proxy_pass {running.url}; {lines} }} }}"
        for name, lines in SILENT.items()
    )
    with proxying(tmp_path, servers):
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        wait_for(lambda: _answers(urls["bare"]), "nginx")
        yield urls


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


def _writes(url: str, address: str) -> list[int]:
    """Return the statuses of three reviews of the client at `address`."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=url, transport=transport, timeout=30) as client:
        return [client.post(REVIEWS, json=REVIEW).status_code for _ in range(3)]


def test_a_dual_stack_socket_knows_its_clients_and_serves_metrics_to_direct_peers_only(
    running: Service, proxies: dict[str, str]
) -> None:
    # FORWARDED_ALLOW_IPS is 127.0.0.1, which the socket sees as ::ffff:127.0.0.1.
    through = proxies["forwarded for"]
    assert [_writes(through, f"127.0.0.{last}") for last in (2, 3)] == [[201, 201, 429]] * 2
    assert [_writes(running.url, f"127.0.0.{last}") for last in (4, 5)] == [[201, 201, 429]] * 2
    assert running.get("/metrics").status_code == 200
    found = {name: httpx.get(f"{url}/metrics", headers={"Host": "shop.example.com"}) for name, url in proxies.items()}
    assert {name: answer.status_code for name, answer in found.items()} == dict.fromkeys(SILENT, 403)
    # A header that a stranger adds opens nothing.
    assert httpx.get(f"{proxies['bare']}/metrics", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 403
    wait_for(lambda: '"event":"metrics_refused"' in running.output, "the reason in the log")
    wait_for(lambda: '"client_ip":"127.0.0.0/24"' in running.output, "the access lines")
    assert "::ffff" not in running.output
