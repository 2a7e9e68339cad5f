"""The Redis client of a worker, behind a gate that stops asking for a moment once Redis has not answered.

Without the gate every request would pay the time-out while Redis is away.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from app.monitoring.logging import get_logger

Answer = TypeVar("Answer")
TIMEOUT_SECONDS = 0.25
PROBE_TIMEOUT_SECONDS = 1.0
PAUSE_SECONDS = 1.0

log = get_logger("redis")


class RedisAway(Exception):  # noqa: N818 -- reads as what happened
    """Redis did not answer in time, or has just not answered; the caller has a way without it."""


class RedisGate:
    """A Redis client on `url`; `call` is the way to it."""

    def __init__(self, url: str) -> None:
        # One retry, at once: it is for pooled connections that a restart of Redis has closed.
        self.client: Redis = Redis.from_url(
            url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS, retry=Retry(NoBackoff(), 1)
        )
        # The probe is more patient than a request: it asks whether Redis is there, not whether it is quick.
        self._probe: Redis = Redis.from_url(
            url,
            socket_timeout=PROBE_TIMEOUT_SECONDS,
            socket_connect_timeout=PROBE_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1),
        )
        self._away_until = 0.0

    @property
    def is_away(self) -> bool:
        """True while Redis is not asked because it has just failed to answer."""
        return time.monotonic() < self._away_until

    async def call(self, operation: Callable[[Redis], Awaitable[Answer]]) -> Answer:
        """Return the result of `operation(client)`; raise RedisAway in place of the client's errors."""
        if self.is_away:
            raise RedisAway("not asked")
        if self._away_until:
            self._away_until = time.monotonic() + PAUSE_SECONDS  # this call finds out, the others go on without
        try:
            answer = await _uncancelled(operation(self.client))
        except ResponseError as error:
            # Redis is there and refuses this command: out of memory, or a key of another type.
            log.warning("redis_refused", error=str(error))
            raise RedisAway("refused") from error
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            log.warning("redis_away", error=type(error).__name__, pause_seconds=PAUSE_SECONDS)
            raise RedisAway(type(error).__name__) from error
        self._away_until = 0.0
        return answer

    async def ping(self) -> None:
        """Ask Redis whether it is there, gate or not. Success opens the gate."""
        await self._probe.ping()
        self._away_until = 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        await self._probe.aclose()


async def _uncancelled(call: Awaitable[Answer]) -> Answer:
    """Return or raise the outcome of `call`, but raise CancelledError if the task was cancelled meanwhile.

    redis-py can take a cancellation that reaches it while it connects for a failure of the connection, and go on.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        return await call
    finally:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError


# A lease that has run out may be another's by now.
_RELEASE = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


async def release(client: Redis, key: str, token: str) -> None:
    """Delete a lease if it still holds `token`."""
    await cast("Any", client.eval(_RELEASE, 1, key, token))
