"""Memory and descriptors of the service's processes over the run."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator

import psutil

from loadtest.chaos.invariants import Trend, growing, trend
from loadtest.chaos.world import World

MAX_MEMORY_GROWTH_BYTES = 8 << 20
MAX_DESCRIPTOR_GROWTH = 4
# A process that has just started fills its caches and its pools.
MIN_SAMPLES = 10
# The exposition has twelve digits of a start.
ROUNDING_SECONDS = 0.02
START_TIME = "process_start_time_seconds{"
Samples = defaultdict[str, list[tuple[float, float]]]


class Resources:
    """Samples by process: the master, the exporter, and the workers by slot."""

    def __init__(self) -> None:
        self.memory: Samples = defaultdict(list)
        self.descriptors: Samples = defaultdict(list)
        """Those that are not connections of clients, or to servers: these come and go with the load."""

    def sample(self, world: World, now: float, exposition: str) -> None:
        """Sample every process."""
        ports = {world.postgres.proxy.port, world.redis.proxy.port, world.collector.port}
        own = {world.service.port, world.service.metrics_port}
        for name, process in _processes(world, exposition):
            with contextlib.suppress(psutil.Error):
                self.memory[name].append((now, float(process.memory_info().rss)))
                connections = sum(
                    1
                    for one in process.net_connections("tcp")
                    if one.raddr and (one.laddr.port in own or one.raddr.port in ports)
                )
                self.descriptors[name].append((now, float(process.num_fds() - connections)))

    def trends(self) -> tuple[dict[str, Trend], dict[str, Trend]]:
        """Return the trends of memory, in bytes, and of descriptors."""
        return (
            {name: trend(found) for name, found in sorted(self.memory.items())},
            {name: trend(found) for name, found in sorted(self.descriptors.items())},
        )

    def growing(self) -> list[str]:
        """Return the processes that grow by more than is allowed over the run."""
        memory, descriptors = self.trends()
        return growing("memory", memory, MAX_MEMORY_GROWTH_BYTES, MIN_SAMPLES) + growing(
            "descriptors", descriptors, MAX_DESCRIPTOR_GROWTH, MIN_SAMPLES
        )


def _processes(world: World, exposition: str) -> Iterator[tuple[str, psutil.Process]]:
    yield "master", world.service.master
    exporter = world.service.exporter()
    if exporter is not None:
        yield "exporter", exporter
    slots = list(_slots(exposition))
    for worker in world.service.workers():
        with contextlib.suppress(psutil.NoSuchProcess):
            slot = next((slot for start, slot in slots if abs(start - worker.create_time()) < ROUNDING_SECONDS), None)
            if slot is not None:
                yield f"worker in slot {slot}", worker


def _slots(exposition: str) -> Iterator[tuple[float, str]]:
    """Yield the start of each slot's newest worker, with the slot."""
    for line in exposition.splitlines():
        if line.startswith(START_TIME):
            labels, _, value = line.rpartition(" ")
            yield float(value), labels.partition('worker="')[2].partition('"')[0]
