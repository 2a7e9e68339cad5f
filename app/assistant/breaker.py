"""The circuit breaker around the AI upstream; its state is shared by all workers through Redis.

The states and their transitions are purgatory's. What is added: a repository that goes on in this worker's memory
while Redis is away, and a lease, so that one request probes a half-open circuit and not all that arrive together.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from opentelemetry.instrumentation.utils import suppress_instrumentation
from prometheus_client import Gauge
from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import Context
from purgatory.service._async.repository import AsyncAbstractRepository
from purgatory.service._async.unit_of_work import AsyncAbstractUnitOfWork

from app.cache.connection import RedisAway, RedisGate, release

NAME = "ai_circuit_breaker"
FAILURE_THRESHOLD = 5
COOL_DOWN_SECONDS = 15.0
STATE_VALUES = {"closed": 0, "half-opened": 1, "opened": 2}


class CircuitOpen(Exception):  # noqa: N818 -- reads as what happened
    """The upstream is not asked for now. `retry_after` is in seconds."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(f"the circuit is open for another {retry_after:.0f} s")


class SharedRepository(AsyncAbstractRepository):
    """Breaker states in one Redis hash each, mirrored in memory. Thresholds and times are this process's own."""

    def __init__(self, redis: RedisGate, gauge: Gauge, threshold: int, cool_down: float) -> None:
        self.messages = []
        self._redis = redis
        self._gauge = gauge
        self._threshold = threshold
        self._cool_down = cool_down
        self._mirror: dict[str, dict[str, str]] = {}

    async def get(self, name: str) -> Context:
        """Return the breaker's shared state; this worker's last known state while Redis is away."""
        key = _key(name)
        try:
            found = await self._redis.call("hgetall", lambda client: cast("Any", client.hgetall(key)))
            self._mirror[name] = {field.decode(): value.decode() for field, value in found.items()}
        except RedisAway:
            self._mirror.setdefault(name, {})
        fields = self._mirror[name]
        state = fields.get("state", "closed")
        self._gauge.labels(name).set(STATE_VALUES[state])
        return Context(
            name=name,
            threshold=self._threshold,
            ttl=self._cool_down,
            state=cast("Any", state),
            failure_count=int(fields.get("failures", 0)),
            opened_at=float(fields["opened_at"]) if fields.get("opened_at") else None,
        )

    async def register(self, context: Context) -> None:
        """Do nothing: a breaker that is not stored is closed."""

    async def update_state(self, name: str, state: str, opened_at: float | None) -> None:
        """Store a transition."""
        await self._write(name, {"state": state, "opened_at": opened_at or ""})
        self._gauge.labels(name).set(STATE_VALUES[state])

    async def inc_failures(self, name: str, failure_count: int) -> None:
        """Count a failure for all workers, and open the circuit once failures across all workers reach the threshold.

        purgatory compares the threshold with the count at the start of the request: failures that overlap would
        each be the first.
        """
        mirror = self._mirror.setdefault(name, {})
        mirror["failures"] = str(max(failure_count, int(mirror.get("failures", 0)) + 1))
        try:
            failures = await self._redis.call(
                "hincrby", lambda client: cast("Any", client.hincrby(_key(name), "failures", 1))
            )
        except RedisAway:
            failures = int(mirror["failures"])
        if failures >= self._threshold and mirror.get("state", "closed") == "closed":
            await self.update_state(name, "opened", time.time())

    async def reset_failure(self, name: str) -> None:
        """Start to count again."""
        await self._write(name, {"failures": 0})

    async def take_probe(self, name: str, token: str, seconds: float) -> bool:
        """Claim the probe of a half-open circuit. One caller over all workers gets it."""
        key = f"{_key(name)}:probe"
        try:
            return bool(
                await self._redis.call("lease", lambda client: client.set(key, token, nx=True, px=int(seconds * 1000)))
            )
        except RedisAway:
            return True

    async def end_probe(self, name: str, token: str) -> None:
        """Let the next one probe."""
        key = f"{_key(name)}:probe"
        try:
            await self._redis.call("release", lambda client: release(client, key, token))
        except RedisAway:
            return

    async def _write(self, name: str, fields: Mapping[str, object]) -> None:
        texts = {field: str(value) for field, value in fields.items()}
        self._mirror.setdefault(name, {}).update(texts)
        try:
            await self._redis.call(
                "hset", lambda client: cast("Any", client.hset(_key(name), mapping=cast("Any", texts)))
            )
        except RedisAway:
            return


def _key(name: str) -> str:
    return f"breaker:{name}"


class _UnitOfWork(AsyncAbstractUnitOfWork):
    """Every write is its own commit."""

    def __init__(self, contexts: SharedRepository) -> None:
        self.contexts: SharedRepository = contexts

    async def commit(self) -> None:
        """Do nothing: each change is written at once."""

    async def rollback(self) -> None:
        """Do nothing: each change is written at once."""


class CircuitBreaker:
    """`ai_circuit_breaker`: opens after five failures without a success between them, probes after fifteen seconds."""

    def __init__(
        self,
        redis: RedisGate,
        gauge: Gauge,
        *,
        exclude: tuple[type[Exception], ...] = (),
        threshold: int = FAILURE_THRESHOLD,
        cool_down: float = COOL_DOWN_SECONDS,
        probe_timeout: float = 30.0,
    ) -> None:
        self._repository = SharedRepository(redis, gauge, threshold, cool_down)
        self._cool_down = cool_down
        self._probe_timeout = probe_timeout
        self._factory = AsyncCircuitBreakerFactory(
            default_threshold=threshold,
            default_ttl=cool_down,
            exclude=list(exclude),
            uow=_UnitOfWork(self._repository),
        )

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Run the block if the circuit allows it, and count how it ends; raises CircuitOpen where it does not."""
        breaker = await self._factory.get_breaker(NAME)
        if breaker.context.state == "closed":
            async with breaker:
                yield
            return
        self._refuse_while_cooling(breaker.context)
        token = os.urandom(8).hex()
        if not await self._repository.take_probe(NAME, token, self._probe_timeout):
            raise CircuitOpen(1.0)
        try:
            # Another's probe may have ended between our look at the state and our turn.
            breaker = await self._factory.get_breaker(NAME)
            self._refuse_while_cooling(breaker.context)
            if breaker.context.state == "opened":
                await self._repository.update_state(NAME, "half-opened", None)
            async with breaker:
                yield
        finally:
            await self._repository.end_probe(NAME, token)

    def _refuse_while_cooling(self, context: Context) -> None:
        remaining = (context.opened_at or 0.0) + self._cool_down - time.time()
        if context.state == "opened" and remaining >= 0:
            raise CircuitOpen(max(1.0, remaining))

    async def state(self) -> str:
        """Return the state that all workers share: closed, half-opened or opened."""
        return (await self._factory.get_breaker(NAME)).context.state

    async def watch(self, interval: float = 5.0) -> None:
        """Keep this worker's gauge at the shared state, which any worker may change."""
        with suppress_instrumentation():  # each span would be a trace without a request
            while True:
                await self.state()
                await asyncio.sleep(interval)
