"""The metrics port has the totals of all workers."""

import asyncio
import re
from pathlib import Path

import httpx

from tests.process.service import Service, service, total, wait_for

REQUESTS, CONNECTIONS = 1_000, 50


async def send(url: str, count: int, connections: int) -> list[int]:
    """Send `count` GETs of `url` over `connections` keep-alive connections; return their statuses."""

    async def one_connection() -> list[int]:
        # Without TLS: each client would read the machine's certificates.
        async with httpx.AsyncClient(timeout=30, verify=False, trust_env=False) as client:  # noqa: S501
            return [(await client.get(url)).status_code for _ in range(count // connections)]

    answers = await asyncio.gather(*(one_connection() for _ in range(connections)))
    return [status for statuses in answers for status in statuses]


def check_pools_and_calls(running: Service) -> None:
    """Check the sums over four workers, whose pools have ten connections each, after REQUESTS look-ups of one place."""
    pool = "baliblissed_database_pool"
    assert running.total(f"{pool}_size") == 40
    wait_for(lambda: running.total(f"{pool}_connections", state="in_use") == 0, "no connection in use")
    assert running.total(f"{pool}_waiting") == 0
    exposition = running.scrape()
    assert len(re.findall(rf"^{pool}_connections\{{", exposition, re.MULTILINE)) == 2, "not one a worker"
    assert 'baliblissed_database_errors_total{operation="list_inquiries",reason="statement"} 0.0' in exposition
    asked = {
        command: total(exposition, "baliblissed_redis_command_duration_seconds_count", command=command)
        + total(exposition, "baliblissed_redis_errors_total", command=command, reason="not_asked")
        for command in ("get", "lease", "release")
    }
    # A load reads once more when it has the lease.
    assert asked["get"] == REQUESTS + asked["release"]
    loads = total(exposition, "baliblissed_database_query_duration_seconds_count", operation="get_destination")
    assert 1 <= loads <= asked["release"] <= asked["lease"]
    assert total(exposition, f"{pool}_wait_seconds_count") >= loads + running.total("baliblissed_workers", state="live")


async def test_every_request_is_counted_once_and_scrapes_agree(tmp_path: Path, addresses: dict[str, str]) -> None:
    # One worker may get all connections; none of their requests may be shed.
    with service(tmp_path, WEB_CONCURRENCY="4", MAX_IN_FLIGHT=str(CONNECTIONS), **addresses) as running:
        handler = "/api/v1/destinations/{slug}"
        before = running.total("http_requests_total")
        statuses = await send(f"{running.url}/api/v1/destinations/tanah-lot", REQUESTS, CONNECTIONS)
        assert statuses == [200] * REQUESTS
        totals = [running.total("http_requests_total") - before for _ in range(10)]
        assert totals == [REQUESTS] * 10
        assert running.total("http_request_duration_seconds_count", handler=handler) == REQUESTS
        files = list(running.metrics_directory.glob("counter_*.db"))
        assert len(files) >= 4, "each worker counts in a file of its own"
        looked_up = running.total("baliblissed_cache_hits_total", cache="destinations") + running.total(
            "baliblissed_cache_misses_total", cache="destinations"
        )
        assert looked_up == REQUESTS
        check_pools_and_calls(running)


async def test_both_ports_give_the_same_answer(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses) as running:
        await send(f"{running.url}/api/v1/destinations", 20, 4)
        on_api = running.get("/metrics")
        assert on_api.status_code == 200
        assert 'http_requests_total{handler="/api/v1/destinations",method="GET",status="200"} 20.0' in on_api.text

        def names(exposition: str) -> set[str]:
            return {line.split("{")[0].split()[0] for line in exposition.splitlines() if not line.startswith("#")}

        # A worker takes its first figures of itself a moment after it has begun, which may be between the two.
        wait_for(lambda: names(running.get("/metrics").text) == names(running.scrape()), "the same names on both ports")
        assert "baliblissed_system_memory_used_bytes" in names(running.scrape())


async def test_host_figures_are_taken_once_and_not_once_a_worker(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, WEB_CONCURRENCY="3", **addresses) as running:
        lines = [
            line for line in running.scrape().splitlines() if line.startswith("baliblissed_system_cpu_usage_ratio")
        ]
        assert len(lines) == 1
        assert running.total("baliblissed_workers", state="live") == 3
        assert running.total("baliblissed_workers", state="configured") == 3
