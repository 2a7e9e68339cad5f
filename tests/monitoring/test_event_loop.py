"""Event loop lag in the histogram."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from prometheus_client import CollectorRegistry, Gauge, Histogram

from app.monitoring.metrics import event_loop
from app.monitoring.metrics.catalogue import LAG_BUCKETS


class Lag(Histogram):
    """A histogram that keeps its observations and can be awaited."""

    observed: list[float]
    again: asyncio.Event

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        super().observe(amount, exemplar)
        self.observed.append(amount)
        self.again.set()

    async def next(self) -> float:
        """Return the next observation."""
        self.again.clear()
        await self.again.wait()
        return self.observed[-1]


@asynccontextmanager
async def watched(interval: float) -> AsyncIterator[tuple[Lag, CollectorRegistry]]:
    """Yield a histogram that observes this loop in the block."""
    own = CollectorRegistry()
    lag = Lag("lag", "Lag.", registry=own, buckets=LAG_BUCKETS)
    lag.observed, lag.again = [], asyncio.Event()
    watching = asyncio.create_task(event_loop.watch(lag, interval=interval))
    try:
        yield lag, own
    finally:
        watching.cancel()
        await asyncio.wait({watching})


async def test_a_blocked_loop_shows_as_a_late_wake_up() -> None:
    async with watched(0.001) as (lag, registry):
        await lag.next()
        time.sleep(0.1)  # noqa: ASYNC251 -- the blocking is what is observed
        assert await lag.next() > 0.05
    assert registry.get_sample_value("lag_count") == len(lag.observed)
    assert registry.get_sample_value("lag_sum") == pytest.approx(sum(lag.observed))


async def test_a_wake_up_is_never_counted_as_early() -> None:
    async with watched(0.0) as (lag, _):
        for _ in range(50):
            await lag.next()
    assert min(lag.observed) >= 0


async def test_the_gauge_shows_the_worst_of_the_last_wake_ups() -> None:
    own = CollectorRegistry()
    lag = Lag("lag", "Lag.", registry=own, buckets=LAG_BUCKETS)
    lag.observed, lag.again = [], asyncio.Event()
    largest = Gauge("largest", "Largest lag.", registry=own)
    watching = asyncio.create_task(event_loop.watch(lag, largest, interval=0.0))
    try:
        await lag.next()
        time.sleep(0.1)  # noqa: ASYNC251 -- the blocking is what is observed
        await lag.next()
        await lag.next()
        assert own.get_sample_value("largest") == max(lag.observed) > 0.05
        for _ in range(event_loop.MAX_RECENT_LAGS):
            await lag.next()
        assert own.get_sample_value("largest") == max(lag.observed[-event_loop.MAX_RECENT_LAGS :])
    finally:
        watching.cancel()
        await asyncio.wait({watching})
