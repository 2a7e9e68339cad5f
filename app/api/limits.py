"""Rate limits per client, shared by all workers through Redis; each worker counts for itself while Redis is away."""

import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address, IPv6Network
from typing import Any

from fastapi import Request
from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from app.api.problems import RateLimited
from app.cache.connection import RedisAway, RedisGate
from app.metrics import Metrics
from app.monitoring.addresses import parse_address

# A site usually has a /48, which is 65,536 networks of 64 bits: it may send this many times what a client may.
CLIENTS_A_SITE = 16


class Limiter:
    """Counts requests of clients against named limits such as {"inquiries": "30/minute"}."""

    def __init__(self, redis: RedisGate, metrics: Metrics, rules: dict[str, str]) -> None:
        self._redis = redis
        self._metrics = metrics
        self._rules: dict[str, RateLimitItem] = {name: parse(rule) for name, rule in rules.items()}
        pool: Any = redis.client.connection_pool
        storage = RedisStorage("async+redis://", implementation="redispy", connection_pool=pool)
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def hit(self, name: str, client: str) -> None:
        """Count one request of `client` (its address); raises RateLimited past the limit."""
        await self._ask(SlidingWindowCounterRateLimiter.hit, name, client)

    async def check(self, name: str, client: str) -> None:
        """Raise RateLimited if one more request of `client` would pass the limit; counts nothing."""
        await self._ask(SlidingWindowCounterRateLimiter.test, name, client)

    async def _ask(self, question: Callable[..., Awaitable[bool]], name: str, client: str) -> None:
        rule, site = self._rules[name], _site(client)
        counted = [(rule, client)]
        if site is not None:
            counted.append((type(rule)(rule.amount * CLIENTS_A_SITE, rule.multiples), site))

        async def answer(limiter: SlidingWindowCounterRateLimiter) -> tuple[bool, float]:
            """Return whether the request is within the limit, and the time when the window moves on."""
            for item, key in counted:
                if not await question(limiter, item, name, key):
                    return False, (await limiter.get_window_stats(item, name, key)).reset_time
            return True, 0.0

        try:
            allowed, reset = await self._redis.call("rate_limit", lambda _: answer(self._shared))
        except RedisAway:
            allowed, reset = await answer(self._local)
        if not allowed:
            self._metrics.rate_limited.labels(name).inc()
            raise RateLimited(max(1, round(reset - time.time())))


def limited(name: str) -> Callable[[Request], Awaitable[None]]:
    """Return a dependency that counts the request against limit `name`."""

    async def count(request: Request) -> None:
        await request.app.state.services.limiter.hit(name, client_of(request))

    return count


def client_of(request: Request) -> str:
    """Return the client that a request counts against: its IPv4 address, or the /64 of its IPv6 address.

    One customer usually has a whole /64.
    """
    host = request.client.host if request.client else "local"
    address = parse_address(host)
    if address is None:
        return host
    return str(address) if isinstance(address, IPv4Address) else str(IPv6Network((address, 64), strict=False))


def _site(client: str) -> str | None:
    """Return the /48 of a client that is a /64, None for any other."""
    return str(IPv6Network(client).supernet(new_prefix=48)) if client.endswith("/64") else None
