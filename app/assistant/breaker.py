"""The circuit breaker around the AI upstream; its state is shared by all workers through Redis.

The states and their transitions are purgatory's. What is added: a repository that goes on in this worker's memory
while Redis is away, and a lease, so that one request probes a half-open circuit and not all that arrive together.
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from prometheus_client import Gauge
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import Context
from purgatory.service._async.repository import AsyncAbstractRepository
from purgatory.service._async.unit_of_work import AsyncAbstractUnitOfWork

from app.cache.connection import RedisAway, RedisGate

NAME = "ai_circuit_breaker"
THRESHOLD = 5
COOL_DOWN = 15.0
FIELDS = frozenset({"threshold", "ttl", "state", "failures", "opened_at"})
STATE_VALUES = {"closed": 0, "half-opened": 1, "opened": 2}


class CircuitOpen(Exception):  # noqa: N818 -- reads as what happened
    """The upstream is not asked for now. `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(f"the circuit is open for another {retry_after:.0f} s")


class SharedRepository(AsyncAbstractRepository):
    """Breaker states in one Redis hash each, mirrored in memory."""

    def __init__(self, redis: RedisGate, gauge: Gauge) -> None:
        self.messages = []
        self._redis = redis
        self._gauge = gauge
        self._mirror: dict[str, dict[str, str]] = {}

    async def get(self, name: str) -> Context | None:
        """The breaker as all workers know it; as this one knows it while Redis is away."""
        key = _key(name)
        try:
            found = await self._redis.call(lambda client: cast("Any", client.hgetall(key)))
            fields = {field.decode(): value.decode() for field, value in found.items()}
        except RedisAway:
            fields = self._mirror.get(name, {})
        if not fields.keys() >= FIELDS:  # never registered, or evicted in part
            return None
        self._mirror[name] = fields
        self._show(name, fields["state"])
        return Context(
            name=name,
            threshold=int(fields["threshold"]),
            ttl=float(fields["ttl"]),
            state=cast("Any", fields["state"]),
            failure_count=int(fields["failures"]),
            opened_at=float(fields["opened_at"]) if fields["opened_at"] else None,
        )

    async def register(self, context: Context) -> None:
        """Make a breaker known; workers that start together write the same."""
        fields = {"threshold": context.threshold, "ttl": context.ttl, "state": context.state, "failures": 0}
        await self._write(context.name, {**fields, "opened_at": ""})

    async def update_state(self, name: str, state: str, opened_at: float | None) -> None:
        """Store a transition."""
        await self._write(name, {"state": state, "opened_at": opened_at or ""})

    async def inc_failures(self, name: str, failure_count: int) -> None:
        """Count a failure for everybody."""
        self._mirror.setdefault(name, {})["failures"] = str(failure_count)
        try:
            await self._redis.call(lambda client: cast("Any", client.hincrby(_key(name), "failures", 1)))
        except RedisAway:
            return

    async def reset_failure(self, name: str) -> None:
        """Start to count again."""
        await self._write(name, {"failures": 0})

    async def take_probe(self, name: str, seconds: float) -> bool:
        """Whether the caller may probe a half-open circuit: one does at a time, in all workers."""
        try:
            return bool(
                await self._redis.call(
                    lambda client: client.set(f"{_key(name)}:probe", 1, nx=True, px=int(seconds * 1000))
                )
            )
        except RedisAway:
            return True

    async def end_probe(self, name: str) -> None:
        """Let the next one probe."""
        try:
            await self._redis.call(lambda client: client.delete(f"{_key(name)}:probe"))
        except RedisAway:
            return

    async def _write(self, name: str, fields: Mapping[str, object]) -> None:
        texts = {field: str(value) for field, value in fields.items()}
        self._mirror.setdefault(name, {}).update(texts)
        self._show(name, self._mirror[name]["state"])
        try:
            await self._redis.call(lambda client: cast("Any", client.hset(_key(name), mapping=cast("Any", texts))))
        except RedisAway:
            return

    def _show(self, name: str, state: str) -> None:
        self._gauge.labels(name).set(STATE_VALUES[state])


def _key(name: str) -> str:
    return f"breaker:{name}"


class _UnitOfWork(AsyncAbstractUnitOfWork):
    """Every write is its own commit."""

    def __init__(self, contexts: SharedRepository) -> None:
        self.contexts: SharedRepository = contexts

    async def commit(self) -> None:
        """Nothing is held back."""

    async def rollback(self) -> None:
        """Nothing is held back."""


class CircuitBreaker:
    """`ai_circuit_breaker`: opens after five failures in a row, and probes again after fifteen seconds."""

    def __init__(
        self,
        redis: RedisGate,
        gauge: Gauge,
        *,
        harmless: tuple[type[Exception], ...] = (),
        threshold: int = THRESHOLD,
        cool_down: float = COOL_DOWN,
        probe_timeout: float = 30.0,
    ) -> None:
        self._repository = SharedRepository(redis, gauge)
        self._cool_down = cool_down
        self._probe_timeout = probe_timeout
        self._factory = AsyncCircuitBreakerFactory(
            default_threshold=threshold,
            default_ttl=cool_down,
            exclude=list(harmless),
            uow=_UnitOfWork(self._repository),
        )

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Run the block if the circuit allows it, and count how it ends; raises CircuitOpen where it does not."""
        breaker = await self._factory.get_breaker(NAME)
        state, opened_at = breaker.context.state, breaker.context.opened_at or 0.0
        if state == "closed":
            async with breaker:
                yield
            return
        remaining = opened_at + self._cool_down - time.time()
        if state == "opened" and remaining >= 0:
            raise CircuitOpen(max(1.0, remaining))
        if not await self._repository.take_probe(NAME, self._probe_timeout):
            raise CircuitOpen(1.0)
        try:
            await self._repository.update_state(NAME, "half-opened", None)
            async with breaker:
                yield
        finally:
            await self._repository.end_probe(NAME)

    async def state(self) -> str:
        """closed, half-opened or opened, as all workers see it."""
        return (await self._factory.get_breaker(NAME)).context.state
