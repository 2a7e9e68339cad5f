"""The arithmetic of the overload benchmark, what its clients count, and its cores. Nothing here looks at a time."""

import asyncio
import contextlib
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import psutil
import pytest

from loadtest.benchmarks.overload import MAX_P99_MS, MAX_PROBE_MS, MIN_GOODPUT, SETTLED_SECONDS, goodput, verdicts
from loadtest.benchmarks.overload_clients import WITHOUT_RETRY_AFTER, Clients, quantiles
from loadtest.benchmarks.overload_service import cores, service, start

STAGE: dict[str, Any] = {
    "stage": "3x",
    "goodput": MIN_GOODPUT,
    "accepted_ms": {"p99": MAX_P99_MS},
    "probes": {"/health/live": {"max": MAX_PROBE_MS, "failed": 0}, "/health/ready": {"max": 1.0, "failed": 0}},
    "counts": {"200": 10, "503": 20, "due": 30},
    "idle_after_seconds": SETTLED_SECONDS,
    "in_flight_afterwards": 0.0,
}


def test_a_stage_at_its_budgets_meets_all() -> None:
    assert all(one["met"] for one in verdicts([STAGE]))


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"goodput": 0.79}, "goodput at 3x"),
        ({"accepted_ms": {"p99": None}}, "accepted P99, ms, at 3x"),
        ({"accepted_ms": {"p99": 2001.0}}, "accepted P99, ms, at 3x"),
        ({"probes": {"/health/ready": {"max": 1001.0, "failed": 0}}}, "slowest probe, ms, at 3x"),
        ({"probes": {"/health/ready": {"max": 1.0, "failed": 1}}}, "failed probes at 3x"),
        ({"counts": {"503": 2, WITHOUT_RETRY_AFTER: 1}}, f"{WITHOUT_RETRY_AFTER} at 3x"),
        ({"counts": {"200": 2, "500": 1}}, "responses other than 200 and 503 at 3x"),
        ({"idle_after_seconds": None}, "idle after the clients left, s, at 3x"),
        ({"in_flight_afterwards": 1.0}, "idle after the clients left, s, at 3x"),
    ],
)
def test_what_a_stage_misses_is_named(changes: dict[str, Any], missed: str) -> None:
    found = verdicts([STAGE, deepcopy(STAGE) | changes])
    assert [one["budget"] for one in found if not one["met"]] == [missed]


def test_goodput_is_relative_to_the_capacities_around_a_stage() -> None:
    rates = [{"in_time_per_second": rate} for rate in (600.0, 1000.0, 500.0)]
    assert goodput(*rates) == 0.8


def test_quantiles_are_in_milliseconds_and_none_without_durations() -> None:
    assert quantiles([one / 1000 for one in range(1, 101)]) == {"p50": 51.0, "p99": 100.0, "max": 100.0}
    assert quantiles([]) == {"p50": None, "p99": None, "max": None}


@pytest.mark.parametrize(("header", "without"), [("Retry-After: 1", 0), ("Retry-After: 0", 1), ("X-Other: 1", 1)])
async def test_the_clients_count_rejections_without_retry_after(header: str, without: int) -> None:
    async def reject(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):  # the clients have left
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(f"HTTP/1.1 503 Unavailable\r\n{header}\r\nContent-Length: 2\r\n\r\nno".encode())
        writer.close()

    server = await asyncio.start_server(reject, "127.0.0.1", 0)
    try:
        clients = Clients(server.sockets[0].getsockname()[1], 1, 20.0)
        figures = await clients.run(0.5)
    finally:
        server.close()
    assert figures["counts"]["503"] > 0
    assert figures["counts"].get(WITHOUT_RETRY_AFTER, 0) == without * figures["counts"]["503"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="there is one core")
def test_programs_that_load_the_service_run_on_another_core(tmp_path: Path) -> None:
    ours, others = cores()
    with service(tmp_path / "service", 1, {}) as running:
        probes = start("overload_probes", ["--port", str(running.port)])
        found = psutil.Process(probes.pid).cpu_affinity()
        probes.kill()
        probes.communicate()
        (worker,) = running.workers()
        assert (worker.cpu_affinity(), found) == (sorted(ours), sorted(others))
    assert os.sched_getaffinity(0) >= ours | others
