"""Metrics of this process, in place of prometheus-client's collectors, which export nothing in multiprocess mode.

Constraint: the `worker` label is the worker's slot, not its process id. Slots are 0 to N-1, and up to 2N-1 while a
reload runs new workers beside the old; a successor reuses its predecessor's slot. A process id as the label would add
a series for every worker ever started.
"""

import asyncio
import gc
from dataclasses import dataclass, field

import psutil
import structlog

from ..multiprocess import values
from .catalogue import Catalogue
from .registry import MAX_NAME_LENGTH

INTERVAL_SECONDS = 5.0
REASONS = {
    "invalid_key": "no reader can expose such a series",
    "key_too_long": "name, labels and help of a series are too long to be stored",
    "infinite": "an amount that is not finite would stay in the sum, so it was ignored",
    "not_a_number": "an amount that is NaN would stay in the sum, so it was ignored",
    "name_in_use": "another registry of this process has a metric of this name and another type",
}
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("process")


@dataclass
class _State:
    slot: str = "0"


_state = _State()


def set_worker_slot(slot: int) -> None:
    """Set the slot of this worker. Call it after the fork."""
    _state.slot = str(slot)


def worker_slot() -> str:
    """Return the slot of this worker, "0" if none was set."""
    return _state.slot


def _gc_statistic(name: str) -> list[int]:
    """Return a statistic of the garbage collector by generation."""
    return [generation[name] for generation in gc.get_stats()]


@dataclass
class _Counted:
    """The amounts already added to the counters. Collections before the fork belong to the master."""

    cpu: float = 0.0
    lost: int = 0
    denied: dict[tuple[str, str], int] = field(default_factory=dict)
    collections: list[int] = field(default_factory=lambda: _gc_statistic("collections"))
    collected: list[int] = field(default_factory=lambda: _gc_statistic("collected"))


class ProcessMetrics:
    """The metrics of one process. Create it in that process, after the fork."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._process = psutil.Process()
        self._counted = _Counted()

    def collect(self, metrics: Catalogue) -> None:
        """Update the metrics."""
        with self._process.oneshot():
            metrics.process_memory.labels(self._worker).set(self._process.memory_info().rss)
            metrics.process_files.labels(self._worker).set(self._process.num_fds())
            metrics.process_start.labels(self._worker).set(self._process.create_time())
            times = self._process.cpu_times()
        used = times.user + times.system
        metrics.process_cpu.labels(self._worker).inc(max(0.0, used - self._counted.cpu))
        self._counted.cpu = max(used, self._counted.cpu)
        self._collect_garbage(metrics)
        self._collect_refusals(metrics)

    def _collect_refusals(self, metrics: Catalogue) -> None:
        for (metric, reason), count in values.process().denied().items():
            before = self._counted.denied.get((metric, reason), 0)
            if not before:
                log.warning(
                    "metric_write_refused", metric=metric[:MAX_NAME_LENGTH], reason=reason, what=REASONS[reason]
                )
            if count > before:
                metrics.writes_refused.labels(metric, reason).inc(count - before)
            self._counted.denied[metric, reason] = count
        lost = values.process().refused
        if lost > self._counted.lost:
            # Log as well: a directory that was full from the start has no room for the counter either.
            log.warning("series_lost", slot=self._worker, series=lost - self._counted.lost)
            metrics.series_lost.inc(lost - self._counted.lost)
        self._counted.lost = lost

    def _collect_garbage(self, metrics: Catalogue) -> None:
        for counter, counted, statistic in (
            (metrics.gc_collections, self._counted.collections, "collections"),
            (metrics.gc_collected, self._counted.collected, "collected"),
        ):
            for generation, now in enumerate(_gc_statistic(statistic)):
                counter.labels(self._worker, str(generation)).inc(now - counted[generation])
                counted[generation] = now


async def watch(metrics: Catalogue, interval: float = INTERVAL_SECONDS) -> None:
    """Update the metrics of this worker every `interval` seconds. Return if /proc cannot be read."""
    figures = ProcessMetrics(worker_slot())
    while True:
        try:
            figures.collect(metrics)
        except (OSError, psutil.Error) as error:  # without /proc only these metrics are missing
            log.warning("process_figures_missing", error=str(error))
            return
        await asyncio.sleep(interval)
