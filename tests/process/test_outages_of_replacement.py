"""The database is away while workers are replaced: the master lives, readiness says so, and the service recovers."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.embedded import EmbeddedServers
from tests.process.service import Service, gone, service, total, wait_for
from tests.process.test_outages import CATALOGUE
from tests.process.traffic import traffic

RECYCLED = 4


@dataclass
class Running:
    """A service, and the data directory and address of its PostgreSQL, which is away."""

    service: Service
    data: Path
    database: str

    def wait_for_outage(self) -> None:
        """Wait until readiness names the database. The workers serve: liveness is never asked of it."""
        answer = wait_for(lambda: unready(self.service), "readiness to fail")
        assert answer == "fail"
        assert self.service.answers("/health/live")

    def recover(self) -> EmbeddedServers:
        """Start the database again, and wait until the service has recovered by itself."""
        servers = EmbeddedServers(self.data, redis=False)
        assert servers.wait_until_ready()["DATABASE_URL"] == self.database
        wait_for(lambda: self.service.answers("/health/ready"), "recovery")
        wait_for(lambda: self.service.answers(CATALOGUE), "the catalogue")
        return servers


def unready(running: Service) -> str | None:
    answer = running.get("/health/ready")
    return str(answer.json()["checks"]["database"]["status"]) if answer.status_code == 503 else None


@pytest.fixture
def without_database(
    request: pytest.FixtureRequest, tmp_path: Path, scratch: Path, redis_url: str
) -> Iterator[Running]:
    max_requests = getattr(request, "param", "0")
    data = scratch / f"away-{max_requests}"  # short: the address of a long path has a random part
    servers = EmbeddedServers(data, redis=False)
    address = servers.wait_until_ready()["DATABASE_URL"]
    environment = {"DATABASE_URL": address, "REDIS_URL": redis_url, "MAX_REQUESTS": max_requests}
    with service(tmp_path, **environment) as running:
        wait_for(lambda: running.answers(CATALOGUE), "the catalogue")
        servers.stop()
        yield Running(running, data, address)


def test_a_reload_without_the_database_replaces_the_workers_and_the_service_recovers(without_database: Running) -> None:
    running = without_database.service
    before = running.workers()
    running.master.send_signal(signal.SIGHUP)
    wait_for(lambda: gone(before) and len(running.workers()) == len(before), "the workers of the reload", 60)
    without_database.wait_for_outage()
    servers = without_database.recover()
    assert running.total("baliblissed_worker_exits_total") == len(before)
    assert running.stop() == 0
    servers.stop()


@pytest.mark.parametrize("without_database", ["30"], indirect=True)
def test_workers_recycle_without_the_database_and_the_service_recovers(without_database: Running) -> None:
    running = without_database.service

    def recycled() -> float:
        return running.total("baliblissed_worker_exits_total", reason="max_requests")

    with traffic(running, "/health/live") as statuses:
        wait_for(lambda: recycled() >= RECYCLED, "recycled workers", 90)
    assert set(statuses) == {200}
    without_database.wait_for_outage()
    servers = without_database.recover()
    scraped = running.scrape()  # workers may leave between two
    exits = "baliblissed_worker_exits_total"
    assert total(scraped, exits) == total(scraped, exits, reason="max_requests")
    assert running.stop() == 0
    servers.stop()
