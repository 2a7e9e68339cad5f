"""Memory of the workers, ordinary clients and probes while hostile clients attack the real service.

    python -m loadtest.benchmarks hostile      build/bench/hostile.json

The service with PostgreSQL and Redis runs on one core; all clients and the probes are on another. Ordinary clients send
100 requests a second over 20 keep-alive connections, and both probes are sent four times a second, in a steady stage
and during each attack of hostile_clients.py. A stage lasts until 5 s after its attack.

At MAX_CONNECTIONS a worker closes connections that have been idle for more than a second. Each ordinary connection is
used five times a second, so none is eligible, and each request that is not answered with 200 counts as failed.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import uvloop

from loadtest.benchmarks import overload_probes
from loadtest.benchmarks.command import BenchmarkError, Depth, Figures, progress, run, table
from loadtest.benchmarks.overload_clients import PATHS, quantiles
from loadtest.benchmarks.overload_service import Service, cores, pinned, service, start
from loadtest.keep_alive import Results, tcp, traffic

WORKERS = 2
CONNECTIONS, RATE, PATH = 20, 100.0, PATHS[0]
# A dripping body ends with 408 after 5 to 6 s instead of 30.
CHANGES = {"BODY_TIMEOUT": "5"}
STEADY = "steady"
WARM_SECONDS, SETTLE_SECONDS = 3.0, 5.0
PROBE_SECONDS, MEMORY_SECONDS = 0.25, 0.1
# The longest time of an attacker's process beyond that of its attack.
EXTRA_SECONDS = 30.0
MIB = 2**20
MAX_PEAK_MIB, MAX_KEPT_MIB, MAX_FAILED, MAX_PROBE_MS = 64.0, 32.0, 0, 1000.0


@dataclass(frozen=True)
class Attack:
    """One attack: the kind in hostile_clients.py, and the amounts. `seconds` is the longest duration."""

    name: str
    kind: str
    connections: int
    seconds: float
    rounds: int = 1

    def arguments(self, port: int) -> list[str]:
        """Return the arguments of the attackers' process."""
        amounts = ["--connections", self.connections, "--rounds", self.rounds, "--seconds", self.seconds]
        return [self.kind, "--port", str(port), *map(str, amounts)]


def attacks(head_connections: int, rounds: int, halves: int, drip_seconds: float, resets: int) -> list[Attack]:
    """Return the attacks in their order. Half heads stay for longer than HEADER_TIMEOUT, 10 s by default."""
    return [
        Attack("heads of 8 MB", "heads", head_connections, 60.0, rounds),
        Attack("half heads", "halves", halves, 15.0),
        Attack("dripping bodies", "drips", 200, drip_seconds),
        Attack("resets", "resets", resets, 60.0),
    ]


STEADY_SECONDS = {Depth.QUICK: 5.0, Depth.DEFAULT: 15.0, Depth.FULL: 60.0}
ATTACKS = {
    Depth.QUICK: attacks(25, 1, 500, 8.0, 3000),
    Depth.DEFAULT: attacks(50, 5, 2000, 15.0, 15_000),
    Depth.FULL: attacks(50, 20, 2000, 60.0, 60_000),
}


def memory(workers: Sequence[psutil.Process]) -> Figures:
    """Return the sum and the largest of the workers' unique set sizes in MiB. A worker that has ended is left out."""
    sizes = []
    for worker in workers:
        with contextlib.suppress(psutil.NoSuchProcess):
            sizes.append(worker.memory_full_info().uss)
    return {"sum": round(sum(sizes) / MIB, 1), "largest": round(max(sizes, default=0) / MIB, 1)}


def _peak(running: Service, ended: threading.Event) -> Figures:
    """Return the largest sum and the largest single size until `ended` is set."""
    workers, found = running.workers(), []
    while not ended.wait(MEMORY_SECONDS):
        found.append(memory(workers))
    return {name: max((one[name] for one in found), default=0.0) for name in ("sum", "largest")}


def _open_connections(running: Service) -> int:
    """Return the number of connections that the workers have."""
    return sum(
        one.laddr.port == running.port and one.status != psutil.CONN_LISTEN
        for worker in running.workers()
        for one in worker.net_connections("tcp")
    )


async def _attack(attack: Attack, port: int) -> Figures:
    """Return what the attackers got."""
    process = start("hostile_clients", attack.arguments(port))
    try:
        output, _ = await asyncio.to_thread(process.communicate, timeout=attack.seconds + EXTRA_SECONDS)
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{attack.name}: the attackers have not ended in time") from None
    finally:
        process.kill()
    if process.returncode:
        raise BenchmarkError(f"{attack.name}: the attackers ended with status {process.returncode}")
    figures: Figures = json.loads(output)
    return figures


def ordinary(results: Results) -> Figures:
    """Return the figures of the ordinary clients."""
    failures = results.failures()
    return {
        "requests": len(results.seconds) + len(results.failed),
        "failed": failures.total(),
        "failures": dict(sorted(failures.items())),
        "connections_closed": results.closed,
        "ms": quantiles(results.seconds),
    }


async def _stage(running: Service, attack: Attack | None, seconds: float) -> Figures:
    """Return the figures of an attack if there is one, of `seconds` after it, and of SETTLE_SECONDS more."""
    name = attack.name if attack else STEADY
    progress(f"hostile: {name}")
    loop, ended = asyncio.get_running_loop(), threading.Event()
    workers, cpu = running.workers(), running.cpu()
    before = memory(workers)
    probes = loop.run_in_executor(None, overload_probes.run, running.port, ended, PROBE_SECONDS)
    peak = loop.run_in_executor(None, _peak, running, ended)
    try:
        async with traffic(tcp(running.port), PATH, connections=CONNECTIONS, rate=RATE) as results:
            attackers = await _attack(attack, running.port) if attack else None
            await asyncio.sleep(seconds)
            await asyncio.sleep(SETTLE_SECONDS)
            after, connections = memory(running.workers()), _open_connections(running)
            cpu = running.cpu() - cpu
    finally:
        ended.set()
    return {
        "stage": name,
        "memory_mib": {"before": before, "peak": await peak, "after": after},
        "ended_workers": len(set(workers) - set(running.workers())),
        "cpu_seconds": round(cpu, 1),
        "connections_afterwards": connections,
        "attackers": attackers,
        "ordinary": ordinary(results),
        "probes": await probes,
    }


async def _stages(running: Service, depth: Depth) -> list[Figures]:
    async with traffic(tcp(running.port), PATH, connections=CONNECTIONS, rate=RATE):
        await asyncio.sleep(WARM_SECONDS)
    stages = [await _stage(running, None, STEADY_SECONDS[depth])]
    return stages + [await _stage(running, attack, 0.0) for attack in ATTACKS[depth]]


def budgets(stages: Sequence[Figures]) -> list[Figures]:
    """Compare the attacks with the budgets; memory counts from the end of the steady stage."""
    steady, *attacked = stages
    base = steady["memory_mib"]["after"]["sum"]
    found = []
    for stage in attacked:
        sizes, probes = stage["memory_mib"], stage["probes"].values()
        found += [
            _verdict(stage, "memory of the workers at the peak, MiB more", MAX_PEAK_MIB, sizes["peak"]["sum"] - base),
            _verdict(stage, "memory 5 s after, MiB more", MAX_KEPT_MIB, sizes["after"]["sum"] - base),
            _verdict(stage, "workers that ended", 0, stage["ended_workers"]),
            _verdict(stage, "failed requests of ordinary clients", MAX_FAILED, stage["ordinary"]["failed"]),
            _verdict(stage, "slowest probe, ms", MAX_PROBE_MS, max(one["max"] for one in probes)),
            _verdict(stage, "failed probes", MAX_FAILED, sum(one["failed"] for one in probes)),
        ]
    return found


def _verdict(stage: Figures, budget: str, at_most: float, found: float) -> Figures:
    return {
        "budget": f"{stage['stage']}: {budget}",
        "at_most": at_most,
        "found": round(found, 1),
        "met": found <= at_most,
    }


def measure(depth: Depth) -> Figures:
    """Attack one service in stages."""
    _, others = cores()
    with (
        tempfile.TemporaryDirectory(prefix="hostile-") as path,
        service(Path(path) / "service", WORKERS, CHANGES) as running,
        pinned(others),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        stages = runner.run(_stages(running, depth))
        used = {
            "service, PostgreSQL and Redis": sorted(running.workers()[0].cpu_affinity()),
            "ordinary clients and probes": sorted(os.sched_getaffinity(0)),
            "attackers": stages[-1]["attackers"]["cores"],
        }
    return {
        "workers": WORKERS,
        "connections": CONNECTIONS,
        "rate": RATE,
        "changes": CHANGES,
        "cores": used,
        "stages": stages,
        "budgets": budgets(stages),
    }


def text(figures: Figures) -> str:
    """Format the tables."""
    used = [["workers' memory, MiB", "before", "peak", "5 s after", "largest worker", "connections after"]]
    served = [["", "requests", "failed", "P50, ms", "P99", "max", "live max", "ready max"]]
    got = []
    for stage in figures["stages"]:
        sizes, clients = stage["memory_mib"], stage["ordinary"]
        sums = [f"{sizes[when]['sum']:.1f}" for when in ("before", "peak", "after")]
        used.append([stage["stage"], *sums, f"{sizes['peak']['largest']:.1f}", f"{stage['connections_afterwards']:,}"])
        times = [f"{clients['ms'][name] or 0:.0f}" for name in ("p50", "p99", "max")]
        probes = [f"{one['max']:.0f}" + "!" * bool(one["failed"]) for one in stage["probes"].values()]
        served.append([stage["stage"], f"{clients['requests']:,}", _counts(clients["failures"]), *times, *probes])
        if stage["attackers"]:
            attackers = stage["attackers"]
            got.append(f"{stage['stage']}, {attackers['seconds']:.1f} s: {_counts(attackers['counts'])}")
    verdicts = [
        [one["budget"], f"at most {one['at_most']:g}", f"{one['found']:g}", "met" if one["met"] else "MISSED"]
        for one in figures["budgets"]
    ]
    head = f"{figures['rate']:g} requests/s over {figures['connections']} connections, {figures['workers']} workers"
    note = "An exclamation mark: probes failed."
    return "\n".join(
        [head, table(used), "", table(served), note, "", "Attackers", *got, "", "Budgets", table(verdicts)]
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items()) or "0"


def main(depth: Depth) -> int:
    """Run the benchmark; return the exit status."""
    return run("hostile", measure, text, depth)
