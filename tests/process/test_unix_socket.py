"""The service on a Unix socket behind nginx: it knows its clients, and limits each of them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.alerts.programs import require
from tests.process.nginx import nginx
from tests.process.service import Service, wait_for

REVIEWS = "/api/v1/destinations/amed/reviews"
REVIEW = {"rating": 5, "text": "fine"}


@contextlib.contextmanager
def behind_nginx(directory: Path, addresses: dict[str, str], **environment: str) -> Iterator[Service]:
    """Start the service on a Unix socket, and nginx on its port."""
    require("nginx")
    path = directory / "service.sock"
    started = Service(directory, {**addresses, "GUNICORN_CMD_ARGS": f"-b unix:{path}", **environment})
    try:
        with nginx(directory, started.port, path):
            started.wait_until_ready()
            yield started
    finally:
        started.stop()


@pytest.fixture
def directory(scratch: Path) -> Path:
    """A directory with a path that suits a Unix socket."""
    path = scratch / f"unix-{os.urandom(4).hex()}"
    path.mkdir()
    return path


def statuses(running: Service, address: str, times: int, **headers: str) -> list[int]:
    """The statuses of reviews that a client at `address` writes."""
    transport = httpx.HTTPTransport(local_address=address)
    with httpx.Client(base_url=running.url, transport=transport, headers=headers, timeout=30) as client:
        return [client.post(REVIEWS, json=REVIEW).status_code for _ in range(times)]


def test_each_client_behind_nginx_has_a_limit_of_its_own(directory: Path, addresses: dict[str, str]) -> None:
    limits = {"FORWARDED_ALLOW_IPS": "*", "RATE_LIMIT_WRITES": "3/day"}
    with behind_nginx(directory, addresses, **limits) as running:
        assert statuses(running, "127.0.0.2", 4) == [201, 201, 201, 429]
        assert statuses(running, "127.0.0.3", 4) == [201, 201, 201, 429]
        # nginx replaces the header, so that no client can choose its address.
        assert statuses(running, "127.0.0.2", 1, **{"X-Forwarded-For": "10.1.2.3"}) == [429]
        assert running.stop() == 0
        assert '"client_ip":"127.0.0.0/24"' in running.output
        assert "untrusted-proxies" not in running.output
        assert not (directory / "service.sock").exists()


def test_clients_behind_nginx_are_one_if_it_is_not_trusted_and_the_start_says_so(
    directory: Path, addresses: dict[str, str]
) -> None:
    with behind_nginx(directory, addresses, RATE_LIMIT_WRITES="3/day") as running:
        assert statuses(running, "127.0.0.2", 2) == [201, 201]
        assert statuses(running, "127.0.0.3", 2) == [201, 429]
        wait_for(lambda: running.output.count('"code":"untrusted-proxies"') == 1, "the finding")
        assert f"unix:{directory / 'service.sock'}" in running.output
