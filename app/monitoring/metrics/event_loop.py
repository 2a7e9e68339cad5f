"""How late the event loop runs: the first figure to look at when every request is slow."""

import asyncio
from collections import deque

from prometheus_client import Gauge, Histogram

INTERVAL = 0.5
# The gauge shows the largest lag of so many wake-ups: at a scrape every 15 s a single one would be missed.
REMEMBERED = 30


async def watch(lag: Histogram, largest: Gauge | None = None, interval: float = INTERVAL) -> None:
    """Sleep `interval` seconds at a time, and observe in `lag` by how many seconds the wake-up was late.

    `largest` shows the worst of the last 30.
    """
    loop = asyncio.get_running_loop()
    recent: deque[float] = deque(maxlen=REMEMBERED)
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        recent.append(max(0.0, loop.time() - due))
        lag.observe(recent[-1])
        if largest is not None:
            largest.set(max(recent))
