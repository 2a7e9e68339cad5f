"""CPU, memory and disk of the host or container.

Only the exporter process calls `collect`, every few seconds: once for the service, not once a worker.
"""

import shutil
from functools import cache
from pathlib import Path

import psutil

from .catalogue import Catalogue

CGROUP = Path("/sys/fs/cgroup")


def memory(cgroup: Path = CGROUP) -> tuple[int, int]:
    """Return used and total memory in bytes: the container's if it has a limit (cgroup v2), else the host's.

    Page cache that the kernel can reclaim does not count as used.
    """
    host = psutil.virtual_memory()
    try:
        limit = int((cgroup / "memory.max").read_text())  # "max" without a limit
        used = int((cgroup / "memory.current").read_text())
        statistics = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
        reclaimable = int(statistics.get("inactive_file", 0))
    except (OSError, ValueError):
        return host.total - host.available, host.total
    return max(0, used - reclaimable), min(limit, host.total)


class HostMetrics:
    """The system_* gauges of a catalogue."""

    def __init__(self, disk: Path = Path("/"), cgroup: Path = CGROUP) -> None:
        self._disk = disk
        self._cgroup = cgroup

    def collect(self, metrics: Catalogue) -> None:
        """Update the gauges. CPU is the mean since the previous call; at the first call, since the import."""
        metrics.system_cpu.set(psutil.cpu_percent() / 100)
        used, limit = memory(self._cgroup)
        metrics.system_memory_used.set(used)
        metrics.system_memory_limit.set(limit)
        disk = shutil.disk_usage(self._disk)
        metrics.system_disk_used.set(disk.used)
        metrics.system_disk_size.set(disk.total)


@cache
def _host() -> HostMetrics:
    return HostMetrics()


def collect(metrics: Catalogue) -> None:
    """Update the host's gauges; called by the exporter."""
    _host().collect(metrics)
