"""The hostile benchmark: its arithmetic, what attackers count, and the smallest run. Nothing here looks at a time."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.settings import ROOT
from loadtest.benchmarks import hostile, hostile_clients
from loadtest.benchmarks.command import Figures
from loadtest.benchmarks.overload_service import cores
from loadtest.keep_alive import Results

SMALLEST = """
import sys
from pathlib import Path
from loadtest.benchmarks import command, hostile
from loadtest.benchmarks.hostile import Attack
command.RESULTS = Path(sys.argv[1])
depth = command.Depth.QUICK
hostile.CHANGES = {"BODY_TIMEOUT": "1"}
hostile.STEADY_SECONDS = {depth: 0.5}
hostile.ATTACKS = {
    depth: [
        Attack("heads of 8 MB", "heads", 2, 10.0),
        Attack("half heads", "halves", 3, 0.5),
        Attack("dripping bodies", "drips", 2, 3.5),
        Attack("resets", "resets", 20, 10.0),
    ]
}
hostile.WARM_SECONDS = hostile.SETTLE_SECONDS = 0.2
sys.exit(hostile.main(depth))
"""


def stage(name: str, peak: float, after: float, *, ended: int = 0, failed: int = 0, slowest: float = 9.0) -> Figures:
    probe = {"probes": 3, "failed": 0, "p50": 1.0, "p99": 1.0, "max": 1.0}
    return {
        "stage": name,
        "memory_mib": {when: {"sum": sum_, "largest": sum_ / 2} for when, sum_ in (("peak", peak), ("after", after))},
        "ended_workers": ended,
        "ordinary": {"failed": failed},
        "probes": {"/health/live": probe, "/health/ready": {**probe, "failed": failed, "max": slowest}},
    }


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """Yield the port of a server that reads once, answers and ends each connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def outcomes(kind: str, port: int, seconds: float = 20.0) -> Counter[str]:
    return await hostile_clients.attacked(kind, hostile_clients.Attack(port, 3, 1, seconds))


def test_budgets_count_memory_from_the_end_of_the_steady_stage() -> None:
    found = hostile.budgets([stage("steady", 80.0, 70.0), stage("met", 134.0, 102.0), stage("missed", 134.1, 102.1)])
    assert [(one["budget"].partition(":")[0], one["found"], one["met"]) for one in found if "MiB" in one["budget"]] == [
        ("met", 64.0, True),
        ("met", 32.0, True),
        ("missed", 64.1, False),
        ("missed", 32.1, False),
    ]


def test_a_failed_request_a_slow_or_failed_probe_and_an_ended_worker_miss_their_budgets() -> None:
    steady = stage("steady", 1.0, 1.0, ended=1, failed=1, slowest=9999.0)
    missed = stage("missed", 1.0, 1.0, ended=1, failed=2, slowest=1000.1)
    found = hostile.budgets([steady, stage("met", 1.0, 1.0, slowest=1000.0), missed])
    assert [(one["found"], one["met"]) for one in found if "MiB" not in one["budget"]] == [
        (0, True),
        (0, True),
        (1000.0, True),
        (0, True),
        (1, False),
        (2, False),
        (1000.1, False),
        (2, False),
    ]


def test_every_request_that_is_not_answered_with_200_has_failed() -> None:
    found = hostile.ordinary(Results([0.001, 0.002], {200: 1, 503: 1}, ["ConnectionResetError(104, 'x')"], closed=1))
    assert (found["requests"], found["failed"]) == (3, 2)
    assert found["failures"] == {"reset": 1, "status 503": 1}
    assert (found["ms"]["max"], found["connections_closed"]) == (2.0, 1)


@pytest.mark.parametrize("kind", ["heads", "halves"])
async def test_attackers_count_the_status_of_a_response(kind: str) -> None:
    async with answering(b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n") as port:
        assert await outcomes(kind, port) == {"431": 3}


async def test_attackers_count_ends_without_a_response() -> None:
    async with answering(b"") as port:
        assert await outcomes("halves", port) == {"closed": 3}
    assert await outcomes("halves", port) == {"not connected": 3}


async def test_attackers_count_connections_that_stay_open() -> None:
    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert await outcomes("halves", port, 0.2) == {"open": 3}
        assert await outcomes("drips", port, 0.2) == {"open": 3}


def test_the_smallest_run_attacks_in_every_way_and_serves_ordinary_clients(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SMALLEST, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "hostile.json").read_text())
    stages = {one["stage"]: one for one in found["stages"]}
    assert list(stages) == ["steady", "heads of 8 MB", "half heads", "dripping bodies", "resets"]
    assert all(one["ordinary"]["requests"] > 0 for one in stages.values())
    assert all(one["memory_mib"]["peak"]["sum"] > one["memory_mib"]["peak"]["largest"] > 0 for one in stages.values())
    assert all(probes["probes"] > 0 for one in stages.values() for probes in one["probes"].values())
    assert stages["heads of 8 MB"]["attackers"]["counts"] == {"431": 2}
    assert stages["half heads"]["attackers"]["counts"] == {"open": 3}
    assert "408" in stages["dripping bodies"]["attackers"]["counts"]
    assert stages["resets"]["attackers"]["counts"] == {"reset by the attacker": 20}
    ours, others = cores()
    assert list(found["cores"].values()) == [sorted(ours), sorted(others), sorted(others)]
    assert "dripping bodies: failed requests of ordinary clients" in done.stdout
