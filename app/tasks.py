"""Background tasks of a worker."""

import asyncio
from collections.abc import Iterable

CANCEL_INTERVAL = 0.1


async def end_tasks(tasks: "Iterable[asyncio.Task[None]]") -> None:
    """Cancel `tasks` until they have ended: a library may swallow a cancellation as its time-out."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_INTERVAL)
