"""Turns on a limited number of connections: in the order of arrival, with a place in front for the health check."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from prometheus_client import Gauge


class PoolTimeoutError(TimeoutError):
    """No turn came in time."""


class Turns:
    """Grants up to `number` turns at a time.

    asyncio.Semaphore has no place in front: the check of a busy service would wait behind every request, fail, and take
    the pod out of service because it is busy.
    """

    def __init__(self, number: int, gauge: Gauge | None = None) -> None:
        self._free = number
        self._gauge = gauge
        """Has the number of those that wait."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def turn(self, seconds: float, *, first: bool = False) -> AsyncIterator[None]:
        """Wait for a turn, with `first` before all others. Raise PoolTimeoutError after `seconds`."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(seconds, first=first)
        try:
            yield
        finally:
            self._give()

    async def _wait(self, seconds: float, *, first: bool) -> None:
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(granted)
        else:
            self._waiting.append(granted)
        try:
            with self._gauge.track_inprogress() if self._gauge else contextlib.nullcontext():
                async with asyncio.timeout(seconds):
                    await granted
        except BaseException as error:
            if granted.done() and not granted.cancelled():  # granted at the same moment
                self._give()
            if isinstance(error, TimeoutError):
                raise PoolTimeoutError(*error.args) from error
            raise

    def _give(self) -> None:
        """Pass a turn on to the next that waits; those that wait no longer are cancelled futures."""
        while self._waiting:
            granted = self._waiting.popleft()
            if not granted.done():
                granted.set_result(None)
                return
        self._free += 1
