"""Figures of this process: what prometheus-client's own collectors say of one, which fall silent under several.

The constraint to know: `worker` is a worker's place, which its successor takes over, and not a process id: 0 to N-1,
and up to 2N-1 where a reload has new workers beside the old. A counter of a process id would leave a series behind for
every worker that ever was.
"""

import asyncio
import gc
from dataclasses import dataclass, field

import psutil
import structlog

from ..multiprocess import values
from .catalogue import Catalogue

INTERVAL = 5.0
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("process")


@dataclass
class _Here:
    place: str = "0"


_here = _Here()


def take_place(place: int) -> None:
    """Say, after the fork, which worker this is."""
    _here.place = str(place)


def place() -> str:
    """Which worker this is; "0" where nobody has said so."""
    return _here.place


def _collector(figure: str) -> list[int]:
    """A figure of the garbage collector by generation."""
    return [generation[figure] for generation in gc.get_stats()]


@dataclass
class _Counted:
    """The amounts already added to the counters. Collections before the fork belong to the master."""

    cpu: float = 0.0
    lost: int = 0
    collections: list[int] = field(default_factory=lambda: _collector("collections"))
    collected: list[int] = field(default_factory=lambda: _collector("collected"))


class ProcessFigures:
    """Brings one process's figures up to date. Make it in that process, after the fork."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._process = psutil.Process()
        self._counted = _Counted()

    def collect(self, metrics: Catalogue) -> None:
        """Take the figures now."""
        with self._process.oneshot():
            metrics.process_memory.labels(self._worker).set(self._process.memory_info().rss)
            metrics.process_files.labels(self._worker).set(self._process.num_fds())
            metrics.process_start.labels(self._worker).set(self._process.create_time())
            times = self._process.cpu_times()
        used = times.user + times.system
        metrics.process_cpu.labels(self._worker).inc(max(0.0, used - self._counted.cpu))
        self._counted.cpu = max(used, self._counted.cpu)
        self._collect_garbage(metrics)
        lost = values.process().refused
        if lost > self._counted.lost:
            # A directory that had no room from the start has none for the counter either.
            log.warning("series_lost", worker=self._worker, series=lost - self._counted.lost)
            metrics.series_lost.inc(lost - self._counted.lost)
        self._counted.lost = lost

    def _collect_garbage(self, metrics: Catalogue) -> None:
        for counter, counted, figure in (
            (metrics.gc_collections, self._counted.collections, "collections"),
            (metrics.gc_collected, self._counted.collected, "collected"),
        ):
            for generation, now in enumerate(_collector(figure)):
                counter.labels(self._worker, str(generation)).inc(now - counted[generation])
                counted[generation] = now


async def watch(metrics: Catalogue, interval: float = INTERVAL) -> None:
    """Bring the figures of this worker up to date every `interval` seconds."""
    figures = ProcessFigures(place())
    while True:
        try:
            figures.collect(metrics)
        except (OSError, psutil.Error) as error:  # a /proc that is closed to us costs its figures only
            log.warning("process_figures_missing", error=str(error))
            return
        await asyncio.sleep(interval)
