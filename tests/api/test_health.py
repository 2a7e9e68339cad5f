"""/health as probes and people see it, with dependencies well, failing and away."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import psutil
import pytest

from app import main
from app.api import health
from app.monitoring.metrics.registry import registry
from loadtest.fake_ai import fake_ai
from tests.conftest import Application

AWAY = {"database_url": "postgresql://nobody@127.0.0.1:1/none", "redis_url": "redis://127.0.0.1:1/0"}
READY = ["/health/ready", "/health"]
DEPENDENCIES = ["database", "redis", "ai"]


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Yield the port of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_each_dependency_has_its_time() -> None:
    assert (health.DATABASE_TIMEOUT, health.REDIS_TIMEOUT, health.AI_TIMEOUT) == (2.0, 1.0, 3.0)


async def test_a_live_process_says_so(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/live")
    body = answer.json()
    assert answer.status_code == 200
    assert (body["status"], body["version"]) == ("alive", "1.0.0")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", body["timestamp"])


async def test_a_ready_service_names_its_checks(client: httpx.AsyncClient) -> None:
    answer = await client.get("/health/ready")
    body = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert body.keys() == {"status", "timestamp", "version", "checks"}
    assert body["status"] == "ready"
    assert list(body["checks"]) == ["database", "redis", "disk", "memory"]
    for check in body["checks"].values():
        assert check["status"] == "pass"
        assert check["response_ms"] >= 0
    assert 0 <= body["checks"]["disk"]["usage_percent"] < 95


async def test_the_page_for_people_has_the_process_too(client: httpx.AsyncClient) -> None:
    body = (await client.get("/health")).json()
    assert (body["status"], body["alive"]) == ("ready", True)
    assert body["worker_started"] == int(psutil.Process().create_time())


@pytest.mark.parametrize("path", READY)
async def test_without_a_database_the_service_is_alive_and_not_ready(application: Application, path: str) -> None:
    async with application(**AWAY) as client:
        assert (await client.get("/health/live")).status_code == 200
        answer = await client.get(path)
    body = answer.json()
    assert (answer.status_code, body["status"]) == (503, "not_ready")
    assert body["checks"]["database"]["status"] == "fail"
    assert body["checks"]["database"]["error"] == "the database cannot be reached"
    assert body["checks"]["redis"]["status"] in {"warn", "unknown"}
    assert "127.0.0.1" not in answer.text


@pytest.mark.parametrize("path", READY)
async def test_without_redis_the_service_is_degraded_and_ready(application: Application, path: str) -> None:
    async with application(redis_url=AWAY["redis_url"]) as client:
        answer = await client.get(path)
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, "degraded")
    assert (body["checks"]["redis"]["status"], body["checks"]["database"]["status"]) == ("warn", "pass")


async def test_the_first_request_finds_a_new_database_set_up(application: Application, empty_database_url: str) -> None:
    async with application(database_url=empty_database_url) as client:
        assert (await client.get("/health/ready")).status_code == 200


async def test_a_database_without_its_tables_is_not_ready(
    application: Application, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(main, "migrate_when_reachable", never)
    monkeypatch.setattr(main, "MAX_SETUP_WAIT", 0.01)
    async with application(database_url=empty_database_url) as client:
        answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["checks"]["database"]["error"]) == (503, "the database is being set up")


async def test_a_database_that_says_nothing_is_answered_when_its_time_is_up(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "DATABASE_TIMEOUT", 0.05)
    async with silent_server() as port, application(database_url=f"postgresql://x@127.0.0.1:{port}/x") as client:
        answer = await asyncio.wait_for(client.get("/health/ready"), 30)
    assert answer.status_code == 503
    assert answer.json()["checks"]["database"]["error"] == "no answer within 0.05 s"


@pytest.mark.parametrize(("status", "shown", "overall"), [(200, "pass", "ready"), (500, "warn", "degraded")])
async def test_the_ai_service_is_reported_and_never_unready(
    application: Application, status: int, shown: str, overall: str
) -> None:
    async with fake_ai() as ai:
        ai.status = status
        async with application(ai_base_url=ai.url) as client:
            answer = await client.get("/health/ready")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (200, overall)
    assert body["checks"]["ai"]["status"] == shown
    assert "closed" in str(body["checks"]["ai"])
    assert ai.url not in answer.text


async def test_probes_of_every_worker_do_not_reach_the_ai_service_each_time(application: Application) -> None:
    async with fake_ai() as ai, application(ai_base_url=ai.url) as client:
        seen = []
        for status in (200, 500, 500):
            ai.status = status
            seen.append((await client.get("/health/ready")).json()["checks"]["ai"]["status"])
    assert seen == ["pass"] * 3, "what it said at first is remembered"


async def test_an_ai_service_that_is_away_is_reported_and_never_unready(application: Application) -> None:
    async with application(ai_base_url="http://127.0.0.1:1/v1") as client:
        answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["checks"]["ai"]["status"]) == (200, "warn")
    assert answer.json()["checks"]["ai"]["error"] == "the AI service cannot be reached; the circuit is closed"


@pytest.mark.parametrize(("percent", "shown", "overall"), [(94, "pass", "ready"), (95, "warn", "degraded")])
async def test_a_full_disk_is_a_warning_and_takes_no_pod_of_the_node_out(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, percent: int, shown: str, overall: str
) -> None:
    monkeypatch.setattr(
        health, "shutil", SimpleNamespace(disk_usage=lambda _: SimpleNamespace(used=percent, total=100))
    )
    answer = await client.get("/health/ready")
    body = answer.json()
    assert (answer.status_code, body["status"], body["checks"]["disk"]["status"]) == (200, overall, shown)
    assert body["checks"]["disk"].get("error") == (f"the disk is {percent}% full" if shown == "warn" else None)


async def test_full_memory_is_a_warning(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "memory", lambda: (96, 100))
    answer = await client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["memory"] | {"response_ms": 0} == {
        "status": "warn",
        "response_ms": 0,
        "error": "memory is 96% full",
    }


async def test_readiness_and_each_dependency_are_metrics_without_any_probe(application: Application) -> None:
    def shown() -> list[float | None]:
        up = [registry().get_sample_value("baliblissed_dependency_up", {"dependency": name}) for name in DEPENDENCIES]
        return [registry().get_sample_value("baliblissed_ready"), *up]

    for reached in (False, True):  # in this order: the second must lift what the first has left
        async with fake_ai() as ai:
            ai.status = 200 if reached else 500
            away = {} if reached else AWAY
            async with application(**away, ai_base_url=ai.url), asyncio.timeout(30):
                while shown() != [float(reached)] * 4:  # noqa: ASYNC110 -- what is waited for is in gauges
                    await asyncio.sleep(0.01)
    for local in ("disk", "memory"):
        assert registry().get_sample_value("baliblissed_dependency_up", {"dependency": local}) is None


async def test_a_redis_socket_that_does_not_exist_is_a_warning(application: Application, tmp_path: Path) -> None:
    async with application(redis_url=f"unix://{tmp_path}/away.sock") as client:
        answer = await client.get("/health/ready")
    assert answer.json()["checks"]["redis"]["error"] == "Redis cannot be reached; every route works without it"
