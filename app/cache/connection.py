"""The Redis client of a worker, behind a gate that stops asking for a moment once Redis has not answered.

Without the gate every request would pay the time-out while Redis is away.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast, get_args

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.metrics import Calls, RedisCommand, RedisFailure, RedisMetrics
from app.metrics import metrics as agency_metrics
from app.monitoring.logging import get_logger
from app.throttle import Throttle

Answer = TypeVar("Answer")
TIMEOUT_SECONDS = 0.25
PROBE_TIMEOUT_SECONDS = 1.0
PAUSE_SECONDS = 1.0
# Errors of one command, wherever it is sent. Any other refusal may be of this server only.
OF_THE_COMMAND = "WRONGTYPE", "ERR", "NoScriptError", "NoPermissionError"
PROBE_KEY, PROBE_TTL_SECONDS = "cache:probe", 60

log = get_logger("redis")


class RedisAway(Exception):  # noqa: N818 -- reads as what happened
    """Redis did not answer in time, or has just not answered; the caller has a way without it."""


class RedisGate:
    """A Redis client on `url`; `call` is the way to it. Calls are recorded in `metrics`, by default this process's."""

    def __init__(self, url: str, metrics: RedisMetrics | None = None) -> None:
        metrics = metrics or agency_metrics().redis
        self._calls: Calls[RedisCommand, RedisFailure] = Calls(
            metrics.command_duration, metrics.errors, get_args(RedisCommand), get_args(RedisFailure)
        )
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
        self._renewed = -math.inf
        self._warnings = Throttle(log)

    @property
    def is_away(self) -> bool:
        """True while Redis is not asked because it has just failed to answer."""
        return time.monotonic() < self._away_until

    async def call(self, command: RedisCommand, operation: Callable[[Redis], Awaitable[Answer]]) -> Answer:
        """Return the result of `operation(client)`; raise RedisAway in place of the client's errors.

        The call is recorded as `command`, with its duration unless it was not asked or the caller was cancelled.
        After an error that another server might not give, such as READONLY or MOVED, the next call opens a connection.
        """
        if self.is_away:
            self._calls.failed(command, "not_asked")
            raise RedisAway("not asked")
        if self._away_until:
            self._away_until = time.monotonic() + PAUSE_SECONDS  # this call finds out, the others go on without
        try:
            answer = await self._recorded(command, operation(self.client))
        except ResponseError as error:
            # Redis is there and refuses this command: out of memory, a replica, or a key of another type.
            self._away_until = 0.0
            self._warnings.warning("redis_refused", _reason(error), message=str(error))
            # Within a script the code of an error is behind that of the script.
            if _reason(error) not in OF_THE_COMMAND or "READONLY" in str(error):
                await self._renew()
            raise RedisAway("refused") from error
        except (RedisError, OSError, TimeoutError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            self._warnings.warning("redis_away", type(error).__name__, pause_seconds=PAUSE_SECONDS)
            await self._renew()
            raise RedisAway(type(error).__name__) from error
        self._away_until = 0.0
        return answer

    async def _recorded(self, command: RedisCommand, work: Awaitable[Answer]) -> Answer:
        """Return or raise the outcome of `work`, and record it."""
        started = time.perf_counter()
        try:
            answer = await _uncancelled(work)
        except (RedisError, OSError) as error:
            self._calls.failed(command, _failure(error))
            self._calls.ended(command, time.perf_counter() - started)
            raise
        self._calls.ended(command, time.perf_counter() - started)
        return answer

    async def _renew(self) -> None:
        """Close idle connections, and others when they are released: new ones look the server's name up again.

        At most once in PAUSE_SECONDS: a replica that stays a replica refuses each command.
        """
        if time.monotonic() - self._renewed < PAUSE_SECONDS:
            return
        self._renewed = time.monotonic()
        await _renew(self.client)

    async def ping(self) -> None:
        """Have Redis store a value, gate or not. Success opens the gate; raise the client's error if it fails.

        A replica, a server without free memory and one that is loading its data answer PING, too.
        """
        try:
            await self._recorded("ping", self._store())
        except ResponseError:
            # The probe may have been connected to what is not the primary any more.
            await _renew(self._probe)
            await self._recorded("ping", self._store())
        self._away_until = 0.0

    async def _store(self) -> None:
        await self._probe.set(PROBE_KEY, 1, ex=PROBE_TTL_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()
        await self._probe.aclose()


def _failure(error: RedisError | OSError) -> RedisFailure:
    """Return the kind of an error for the metrics."""
    # A connection that answers nothing at its start is a ConnectionError, made from the time-out.
    if isinstance(error, RedisTimeoutError | TimeoutError) or isinstance(error.__cause__, RedisTimeoutError):
        return "timeout"
    if isinstance(error, ResponseError):
        return "refused"
    return "connection" if isinstance(error, RedisConnectionError | OSError) else "other"


def _reason(error: ResponseError) -> str:
    """Return the kind of a refusal: the class of redis-py for it, or the error code that Redis sent."""
    kind = type(error)
    return str(error).partition(" ")[0] if kind is ResponseError else kind.__name__


async def _renew(client: Redis) -> None:
    """Close the idle connections of a client, and the others as they are released."""
    pool: Any = client.connection_pool
    await pool.update_active_connections_for_reconnect()
    # The pool's own `disconnect` waits for each end, and a request could take a connection meanwhile.
    for connection in tuple(pool._available_connections):  # noqa: SLF001
        await connection.disconnect(nowait=True)


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
