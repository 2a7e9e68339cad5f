"""How late the event loop runs: the first figure to look at when every request is slow."""

import asyncio

from prometheus_client import Histogram

INTERVAL = 0.5


async def watch(lag: Histogram, interval: float = INTERVAL) -> None:
    """Sleep `interval` seconds at a time, and observe in `lag` by how many seconds the wake-up was late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        lag.observe(max(0.0, loop.time() - due))
