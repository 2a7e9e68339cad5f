"""Everything that a run starts: PostgreSQL, Redis, a collector, small disks, the service, and the traffic."""

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtest.benchmarks.sink import sink
from loadtest.chaos.backends import Postgres, Valkey
from loadtest.chaos.clock import Clock, ClockError
from loadtest.chaos.disks import Disk, DiskError, small_disk
from loadtest.chaos.ledger import Ledger
from loadtest.chaos.proxy import Proxy, Streams
from loadtest.chaos.service import Service
from loadtest.chaos.traffic import Mix, Traffic, steady

METRICS_DISK, DATABASE_DISK, CLOCK = "metrics disk", "database disk", "clock"
METRICS_MEGABYTES, DATABASE_MEGABYTES = 8, 512
MEMORY = Path("/dev/shm")  # noqa: S108
MIN_FREE_BYTES = 2 << 30
UNLIMITED = "1000000/minute"


@dataclass(frozen=True)
class Options:
    """The parameters of a run. It starts no action after `seconds`."""

    seconds: float = 900.0
    seed: int = 1
    workers: int = 3
    connections: int = 24
    rate: float = 120.0
    max_requests: int = 1500
    worker_timeout: int = 20
    graceful_timeout: int = 12


@dataclass
class World:
    """The parts of a run."""

    options: Options
    chance: random.Random
    postgres: Postgres
    redis: Valkey
    collector: Proxy
    service: Service
    traffic: Traffic
    disks: dict[str, Disk] = field(default_factory=dict)
    clock: Clock | None = None
    unavailable: dict[str, str] = field(default_factory=dict)
    """What cannot be had here, with the reason."""

    @property
    def ledger(self) -> Ledger:
        """The clients' record."""
        return self.traffic.ledger

    def some(self, least: float, most: float) -> float:
        """Return a random number of seconds."""
        return self.chance.uniform(least, most)


@asynccontextmanager
async def world(directory: Path, options: Options) -> AsyncIterator[World]:
    """Start everything, yield it under traffic once the service is ready, and end it."""
    async with AsyncExitStack() as running:
        scratch = Path(tempfile.mkdtemp(prefix="chaos-", dir=_scratch()))
        running.callback(shutil.rmtree, scratch, ignore_errors=True)
        disks, clock, unavailable = _parts(running, scratch)
        postgres, redis = Postgres(scratch / "database" / "server"), Valkey(scratch / "redis")
        for backend in (postgres, redis):
            running.push_async_callback(backend.stop)
            await backend.start()
            running.push_async_callback(backend.proxy.stop)
            await backend.proxy.start()
        collector = await _collector(running)
        environment = _environment(options, scratch / "metrics", postgres, redis, collector)
        if clock is not None:
            environment |= clock.environment
        service = Service(directory.name, directory / "service.log", environment)
        running.push_async_callback(service.end)
        traffic = Traffic(service.port, Mix(directory.name, options.seed), Ledger())
        chance = random.Random(options.seed)  # noqa: S311 -- no secret
        yield World(options, chance, postgres, redis, collector, service, traffic, disks, clock, unavailable)


def under_traffic(parts: World) -> AbstractAsyncContextManager[None]:
    """Send the steady traffic meanwhile."""
    return steady(parts.traffic, connections=parts.options.connections, rate=parts.options.rate)


def _scratch() -> Path | None:
    """Return a directory in memory if there is space, so that a run neither waits for the disk nor fills it."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MIN_FREE_BYTES
    return MEMORY if roomy else None


def _parts(running: AsyncExitStack, scratch: Path) -> tuple[dict[str, Disk], Clock | None, dict[str, str]]:
    disks, clock, unavailable = {}, None, {}
    for name, path, megabytes in (
        (METRICS_DISK, scratch / "metrics", METRICS_MEGABYTES),
        (DATABASE_DISK, scratch / "database", DATABASE_MEGABYTES),
    ):
        try:
            disks[name] = running.enter_context(small_disk(path, megabytes))
        except DiskError as error:
            unavailable[name] = str(error)
    try:
        clock = Clock(scratch)
    except ClockError as error:
        unavailable[CLOCK] = str(error)
    return disks, clock, unavailable


async def _collector(running: AsyncExitStack) -> Proxy:
    started = sink()
    address = await asyncio.to_thread(started.__enter__)
    running.push_async_exit(lambda *error: asyncio.to_thread(started.__exit__, *error))
    port = int(address.rpartition(":")[2])

    async def connect() -> Streams:
        return await asyncio.open_connection("127.0.0.1", port)

    collector = Proxy(connect)
    running.push_async_callback(collector.stop)
    await collector.start()
    return collector


def _environment(
    options: Options, metrics: Path, postgres: Postgres, redis: Valkey, collector: Proxy
) -> dict[str, str]:
    return {
        "ENVIRONMENT": "production",
        "WEB_CONCURRENCY": str(options.workers),
        "MAX_REQUESTS": str(options.max_requests),
        "MAX_REQUESTS_JITTER": str(options.max_requests // 4),
        "WORKER_TIMEOUT": str(options.worker_timeout),
        "GRACEFUL_TIMEOUT": str(options.graceful_timeout),
        "RATE_LIMIT_WRITES": UNLIMITED,
        "DATABASE_URL": postgres.url,
        "REDIS_URL": redis.url,
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
    }
