"""Event loop lag: the first metric to check if every request is slow."""

import asyncio
from collections import deque

from prometheus_client import Gauge, Histogram

INTERVAL_SECONDS = 0.5
# Wake-ups that the gauge takes its maximum over: a scrape every 15 s would miss most single ones.
MAX_RECENT_LAGS = 30


async def watch(lag: Histogram, largest: Gauge | None = None, interval: float = INTERVAL_SECONDS) -> None:
    """Observe in `lag` how many seconds late each sleep of `interval` seconds ends, for ever.

    `largest` is set to the maximum of the last 30.
    """
    loop = asyncio.get_running_loop()
    recent: deque[float] = deque(maxlen=MAX_RECENT_LAGS)
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        recent.append(max(0.0, loop.time() - due))
        lag.observe(recent[-1])
        if largest is not None:
            largest.set(max(recent))
