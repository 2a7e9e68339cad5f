"""A dependency goes away under traffic and comes back; nobody restarts the service."""

import time
from pathlib import Path

import httpx
import psutil

from app.embedded import EmbeddedServers
from tests.process.service import Service, service, wait_for
from tests.process.traffic import traffic

CATALOGUE, REVIEWS = "/api/v1/destinations", "/api/v1/destinations/tanah-lot/reviews"


def processes_of(data: Path, name: str) -> psutil.Process:
    """Return the server process that works on `data`."""
    return next(
        process
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] == name and any(str(data) in word for word in process.info["cmdline"] or [])
    )


def test_postgresql_stopped_under_traffic(tmp_path: Path, scratch: Path, redis_url: str) -> None:
    data = scratch / "stopped"
    servers = EmbeddedServers(data, redis=False)
    address = servers.wait_until_ready()["DATABASE_URL"]
    with service(tmp_path, DATABASE_URL=address, REDIS_URL=redis_url) as running:
        wait_for(lambda: running.answers(CATALOGUE), "the catalogue")
        workers = running.workers()
        with traffic(running, CATALOGUE) as statuses:
            wait_for(lambda: statuses[200] > 50, "answers")
            servers.stop()
            wait_for(lambda: statuses[503] > 50, "refusals")
            refusal = running.get(CATALOGUE)
            assert refusal.status_code == 503
            assert int(refusal.headers["retry-after"]) > 0
            assert refusal.headers["content-type"] == "application/problem+json"
            assert refusal.json()["request_id"] == refusal.headers["x-request-id"]
            assert "postgres" not in refusal.text.lower()
            assert running.get("/health/live").status_code == 200
            ready = running.get("/health/ready")
            assert (ready.status_code, ready.json()["checks"]["database"]["status"]) == (503, "fail")
            servers = EmbeddedServers(data, redis=False)
            assert servers.wait_until_ready()["DATABASE_URL"] == address
            wait_for(lambda: running.answers("/health/ready"), "recovery")
            served = statuses[200]
            wait_for(lambda: statuses[200] > served + 50, "answers again")
        assert set(statuses) == {200, 503}
        assert running.workers() == workers, "no worker was restarted"
    servers.stop()


def test_a_postgresql_that_hangs_makes_the_pod_unready_within_the_time_out(
    tmp_path: Path, scratch: Path, redis_url: str
) -> None:
    data = scratch / "hung"
    servers = EmbeddedServers(data, redis=False)
    address = servers.wait_until_ready()["DATABASE_URL"]
    with service(tmp_path, DATABASE_URL=address, REDIS_URL=redis_url) as running:
        wait_for(lambda: running.answers(CATALOGUE), "the catalogue")
        postmaster = processes_of(data, "postgres")
        frozen = [postmaster, *postmaster.children(recursive=True)]
        for process in frozen:
            process.suspend()
        try:
            started = time.monotonic()
            ready = running.get("/health/ready")
            waited = time.monotonic() - started
            assert ready.status_code == 503
            check = ready.json()["checks"]["database"]
            assert check["status"] == "fail"
            # The check's own clock: the time-out is what ended it, not the driver's patience.
            # The event loop's clock ticks in milliseconds, so it may end a little early.
            assert 1990 <= check["response_ms"] < 3000
            assert waited < 10
            assert running.get("/health/live").status_code == 200
            assert running.get(REVIEWS).status_code == 503
        finally:
            for process in frozen:
                process.resume()
        wait_for(lambda: running.answers("/health/ready"), "recovery")
        wait_for(lambda: running.answers(REVIEWS), "answers again")
    servers.stop()


def test_redis_stopped_under_traffic_leaves_every_route_working(
    tmp_path: Path, scratch: Path, database_url: str
) -> None:
    data = scratch / "redis"
    servers = EmbeddedServers(data, postgres=False)
    address = servers.wait_until_ready()["REDIS_URL"]
    with service(tmp_path, DATABASE_URL=database_url, REDIS_URL=address) as running:
        with traffic(running, "/api/v1/destinations/tanah-lot") as statuses:
            wait_for(lambda: statuses[200] > 50, "answers")
            servers.stop()
            ready = wait_for(lambda: degraded(running), "the report")
            assert ready.status_code == 200
            assert ready.json()["checks"]["redis"]["status"] == "warn"
            assert_every_route_works(running)
            servers = EmbeddedServers(data, postgres=False)
            assert servers.wait_until_ready()["REDIS_URL"] == address
            wait_for(lambda: running.get("/health/ready").json()["status"] == "ready", "recovery")
        assert set(statuses) == {200}
        hits = running.total("baliblissed_cache_hits_total", cache="destinations")
        assert hits > 0
    servers.stop()


def degraded(running: Service) -> httpx.Response | None:
    answer = running.get("/health/ready")
    return answer if answer.json()["status"] == "degraded" else None


def assert_every_route_works(running: Service) -> None:
    with httpx.Client(base_url=running.url, timeout=20) as client:
        inquiry = {"name": "A traveller", "email": "a@example.com", "message": "Two rooms?"}
        answers = [
            client.get(CATALOGUE),
            client.get("/api/v1/destinations/besakih-temple"),
            client.get(REVIEWS),
            client.post(REVIEWS, json={"rating": 5, "text": "Good."}),
            client.post("/api/v1/inquiries", json=inquiry, headers={"Idempotency-Key": "k-1"}),
            client.post("/api/v1/inquiries", json=inquiry, headers={"Idempotency-Key": "k-1"}),
            client.post("/api/v1/assistant/chat", json={"message": "a quiet temple"}),
            client.post("/api/v1/assistant/itineraries", json={"days": 2}),
            client.get("/health"),
        ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 201, 201, 201, 200, 200, 200]


def test_a_service_starts_without_its_database_and_serves_when_it_comes(
    tmp_path: Path, scratch: Path, redis_url: str
) -> None:
    data = scratch / "late"
    servers = EmbeddedServers(data, redis=False)
    address = servers.wait_until_ready()["DATABASE_URL"]
    servers.stop()
    context = Service(tmp_path, {"DATABASE_URL": address, "REDIS_URL": redis_url})
    try:
        wait_for(lambda: context.answers("/health/live"), "life")
        assert context.get("/health/ready").status_code == 503
        assert context.get(CATALOGUE).status_code == 503
        servers = EmbeddedServers(data, redis=False)
        servers.wait_until_ready()
        wait_for(lambda: context.answers(CATALOGUE), "the migrated catalogue")
        # Each worker has a verdict of its own, and it may be one check old.
        wait_for(lambda: context.answers("/health/ready"), "readiness")
    finally:
        assert context.stop() == 0
        servers.stop()
