"""Named caches in Redis with single flight, and a bounded local store while Redis is away.

Values are JSON. One load per key runs at a time, within a worker by a shared task and between workers by a lease.
"""

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, cast

import orjson
from redis.asyncio import Redis

from app.cache.connection import RedisAway, RedisGate, release
from app.metrics import Metrics

MAX_LOCAL_ENTRIES = 1_024
# Other workers cannot invalidate a local entry, so it lives for seconds whatever its time to live.
MAX_LOCAL_TTL_SECONDS = 5.0
POLL_SECONDS = 0.05
# Longer than a load from the database can last.
CHANGED_SECONDS = 5.0

Load = Callable[[], Awaitable[Any]]


class LocalStore:
    """At most MAX_LOCAL_ENTRIES values with their time to live; the least recently used leaves first."""

    def __init__(self, entries: int = MAX_LOCAL_ENTRIES) -> None:
        self._entries = entries
        self._items: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str) -> bytes | None:
        """Return the live value of `key`, or None."""
        expires, value = self._items.get(key, (0.0, b""))
        if time.monotonic() >= expires:
            self._items.pop(key, None)
            return None
        self._items.move_to_end(key)
        return value

    def set(self, key: str, value: bytes, ttl: float) -> None:
        """Keep `value` for `ttl` seconds."""
        self._items[key] = (time.monotonic() + ttl, value)
        self._items.move_to_end(key)
        while len(self._items) > self._entries:
            self._items.popitem(last=False)

    def delete(self, key: str) -> None:
        """Forget `key`."""
        self._items.pop(key, None)


class Cache:
    """The caches of one worker."""

    def __init__(self, redis: RedisGate, metrics: Metrics) -> None:
        self._redis = redis
        self._metrics = metrics
        self._local = LocalStore()
        self._flights: dict[str, asyncio.Task[bytes]] = {}

    async def get_or_load(self, cache: str, key: str, load: Load, *, ttl: float, lease: float = 5.0) -> Any:
        """Return the value of `key` in `cache`; on a miss, load it with `load()` and keep it for `ttl` seconds.

        `lease` is the longest wait, in seconds, for another worker that loads the same key. An error of `load` is
        raised to every caller that waited for it, and nothing is kept.
        """
        name = f"cache:{cache}:{key}"
        known = await self._read(name)
        if known is not None:
            self._metrics.cache_hits.labels(cache).inc()
            return orjson.loads(known)
        self._metrics.cache_misses.labels(cache).inc()
        flight = self._flights.get(name)
        if flight is None:
            flight = asyncio.create_task(self._load(name, load, ttl, lease))
            self._flights[name] = flight
            flight.add_done_callback(lambda done: self._land(name, done))
        # Cancelling a caller does not cancel the load: others may wait for it. From Python 3.14
        # on, asyncio.shield would report the failure of a load that has no caller left.
        await asyncio.wait([flight])
        return orjson.loads(flight.result())

    async def delete(self, cache: str, key: str) -> None:
        """Forget one value, also one that is being loaded now and may be older than the change."""
        name = f"cache:{cache}:{key}"
        self._local.delete(name)
        self._flights.pop(name, None)
        try:
            await self._redis.call("delete", lambda client: _forget(client, name))
        except RedisAway:
            return  # it expires by itself

    def _land(self, name: str, flight: asyncio.Task[bytes]) -> None:
        if self._flights.get(name) is flight:
            del self._flights[name]
        if not flight.cancelled():
            flight.exception()  # retrieved, in case all waiters were cancelled

    async def _read(self, name: str) -> bytes | None:
        try:
            value: Any = await self._redis.call("get", lambda client: client.get(name))
        except RedisAway:
            return self._local.get(name)
        return cast("bytes | None", value)

    async def _load(self, name: str, load: Load, ttl: float, lease: float) -> bytes:
        token = os.urandom(8).hex()
        leased = await self._lease(name, token, lease)
        # Another worker may have finished its load between our look-up and our lease.
        found = await self._read(name) if leased else await self._wait_for(name, lease)
        try:
            if found is not None:
                return found
            value = orjson.dumps(await load())
            await self._write(name, value, ttl)
        finally:
            if leased:
                await self._release(name, token)
        return value

    async def _lease(self, name: str, token: str, seconds: float) -> bool:
        """Return True if this worker may load the entry; always True while Redis is away."""
        try:
            return bool(
                await self._redis.call(
                    "lease", lambda client: client.set(f"{name}:lease", token, nx=True, px=int(seconds * 1000))
                )
            )
        except RedisAway:
            return True

    async def _wait_for(self, name: str, seconds: float) -> bytes | None:
        """Return the value that another worker is loading; None if it has given up or takes too long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            try:
                value, lease = await self._redis.call("mget", lambda client: client.mget(name, f"{name}:lease"))
            except RedisAway:
                return None
            if value is not None or lease is None:
                return cast("bytes | None", value)
        return None

    async def _write(self, name: str, value: bytes, ttl: float) -> None:
        try:
            await self._redis.call("set", lambda client: _store(client, name, value, int(ttl * 1000)))
        except RedisAway:
            if self._flights.get(name) is asyncio.current_task():  # else the value was deleted while this one loaded
                self._local.set(name, value, min(ttl, MAX_LOCAL_TTL_SECONDS))

    async def _release(self, name: str, token: str) -> None:
        try:
            await self._redis.call("release", lambda client: release(client, f"{name}:lease", token))
        except RedisAway:
            return


async def _forget(client: Redis, name: str) -> None:
    """Delete a value, and for a moment refuse one that was loaded before the change."""
    async with client.pipeline(transaction=True) as pipe:
        pipe.set(f"{name}:changed", 1, px=int(CHANGED_SECONDS * 1000))
        pipe.delete(name)
        await pipe.execute()


async def _store(client: Redis, name: str, value: bytes, milliseconds: int) -> None:
    if not await client.exists(f"{name}:changed"):
        await client.set(name, value, px=milliseconds)
