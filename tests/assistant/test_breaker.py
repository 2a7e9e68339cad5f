"""The circuit breaker on a real Redis, and without one."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge

from app.assistant.breaker import NAME, CircuitBreaker, CircuitOpen
from app.cache.connection import RedisGate
from app.embedded import EmbeddedServers

AWAY = "unix:///nonexistent.sock"
LONG, SHORT = 60.0, 0.05


class Refused(Exception):  # noqa: N818 -- stands for UpstreamRejected
    """An excluded error: the breaker does not count it as a failure."""


class Breaking:
    """A circuit breaker as in one worker, with its own gauge."""

    def __init__(self, url: str, *, cool_down: float = LONG, threshold: int = 3) -> None:
        self.registry = CollectorRegistry()
        gauge = Gauge("state", "State.", ("breaker",), registry=self.registry)
        self.gate = RedisGate(url)
        self.breaker = CircuitBreaker(
            self.gate, gauge, exclude=(Refused,), threshold=threshold, cool_down=cool_down, probe_timeout=LONG
        )

    @property
    def shown(self) -> float | None:
        """Return the value of the gauge."""
        return self.registry.get_sample_value("state", {"breaker": NAME})

    async def succeed(self) -> None:
        async with self.breaker.guard():
            pass

    async def fail(self, error: type[BaseException] = ValueError, times: int = 1) -> None:
        for _ in range(times):
            with pytest.raises(error):
                async with self.breaker.guard():
                    raise error

    async def is_open(self) -> bool:
        """Return True if the breaker rejects a request. Otherwise the request counts as a success."""
        try:
            await self.succeed()
        except CircuitOpen:
            return True
        return False

    async def cooled(self) -> None:
        """Wait until a cool-down of SHORT is over, without sending a probe."""
        opened_at = (await self.breaker._factory.get_breaker(NAME)).context.opened_at
        assert opened_at is not None
        while time.time() <= opened_at + SHORT:  # noqa: ASYNC110 -- a clock has no event
            await asyncio.sleep(0.005)


@pytest.fixture(params=["Redis there", "Redis away"])
def url(request: pytest.FixtureRequest, redis_url: str) -> str:
    """Return the URL of Redis, or one where no server listens."""
    return redis_url if request.param == "Redis there" else AWAY


@contextlib.asynccontextmanager
async def made(url: str, **options: float) -> AsyncIterator[Breaking]:
    threshold = int(options.pop("threshold", 3))
    breaking = Breaking(url, threshold=threshold, **options)
    try:
        yield breaking
    finally:
        await breaking.gate.close()


async def test_a_circuit_starts_closed(url: str) -> None:
    async with made(url) as worker:
        assert await worker.breaker.state() == "closed"
        assert worker.shown == 0
        assert not await worker.is_open()


async def test_a_circuit_opens_at_the_threshold_and_runs_nothing(url: str) -> None:
    async with made(url) as worker:
        await worker.fail(times=2)
        assert await worker.breaker.state() == "closed"
        await worker.fail()
        assert await worker.breaker.state() == "opened"
        assert worker.shown == 2
        with pytest.raises(CircuitOpen, match="the circuit is open for another") as refusal:
            async with worker.breaker.guard():
                pytest.fail("the block ran")
        assert 1 <= refusal.value.retry_after <= LONG


async def test_failures_count_in_a_row_only(url: str) -> None:
    async with made(url) as worker:
        for _ in range(3):
            await worker.fail(times=2)
            await worker.succeed()
        assert await worker.breaker.state() == "closed"


async def test_excluded_errors_do_not_count(url: str) -> None:
    async with made(url) as worker:
        await worker.fail(Refused, times=10)
        assert await worker.breaker.state() == "closed"


async def test_failures_that_end_together_open_the_circuit(url: str) -> None:
    async with made(url) as worker:
        gate = asyncio.Barrier(10)

        async def fail_together() -> None:
            async with worker.breaker.guard():
                await gate.wait()
                raise ValueError

        endings = await asyncio.gather(*(fail_together() for _ in range(10)), return_exceptions=True)
        assert [type(ending) for ending in endings] == [ValueError] * 10
        assert await worker.breaker.state() == "opened"


async def test_a_probe_that_succeeds_closes_the_circuit(url: str) -> None:
    async with made(url, cool_down=SHORT) as worker:
        await worker.fail(times=3)
        await worker.cooled()
        async with worker.breaker.guard():
            assert await worker.breaker.state() == "half-opened"
            assert worker.shown == 1
        assert await worker.breaker.state() == "closed"
        assert worker.shown == 0
        await worker.fail(times=2)
        assert await worker.breaker.state() == "closed"


async def test_a_probe_that_fails_opens_the_circuit_again(url: str) -> None:
    async with made(url, cool_down=SHORT) as worker:
        await worker.fail(times=3)
        await worker.cooled()
        await worker.fail()
        assert await worker.breaker.state() == "opened"
        await worker.cooled()
        assert not await worker.is_open()


async def test_a_probe_with_an_excluded_error_closes_the_circuit(url: str) -> None:
    async with made(url, cool_down=SHORT) as worker:
        await worker.fail(times=3)
        await worker.cooled()
        await worker.fail(Refused)
        assert await worker.breaker.state() == "closed"


async def test_a_probe_that_is_cancelled_does_not_block_the_next_one(url: str) -> None:
    async with made(url, cool_down=SHORT) as worker:
        await worker.fail(times=3)
        await worker.cooled()
        await worker.fail(asyncio.CancelledError)
        await worker.cooled()
        assert not await worker.is_open()


async def test_a_probe_that_died_with_its_worker_does_not_block_the_next_one(redis_url: str) -> None:
    async with made(redis_url) as worker:
        await worker.gate.client.hset(f"breaker:{NAME}", "state", "half-opened")
        assert not await worker.is_open()
        assert await worker.breaker.state() == "closed"


async def test_a_lease_of_a_probe_runs_out_and_is_its_holder_s_alone(redis_url: str) -> None:
    key = f"breaker:{NAME}:probe"
    async with made(redis_url, cool_down=SHORT) as worker:
        client = worker.gate.client
        await worker.fail(times=3)
        await worker.cooled()
        async with worker.breaker.guard():
            assert 0 < await client.pttl(key) <= LONG * 1000, "a worker that dies would hold it for ever"
            await client.set(key, "another's")  # this probe has expired, and another worker has taken the next
        assert await client.get(key) == b"another's"


async def test_a_request_that_saw_the_circuit_before_another_s_probe_failed_is_turned_away(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with made(redis_url, cool_down=SHORT) as late, made(redis_url, cool_down=LONG) as other:
        await late.fail(times=3)
        await late.cooled()
        take_probe = late.breaker._repository.take_probe

        async def take_probe_late(name: str, token: str, seconds: float) -> bool:
            # The other worker's probe fails after the state was read and before the probe is taken.
            monkeypatch.setattr(late.breaker, "_cool_down", LONG)
            await other.breaker._repository.update_state(NAME, "opened", time.time())
            return await take_probe(name, token, seconds)

        monkeypatch.setattr(late.breaker._repository, "take_probe", take_probe_late)
        assert await late.is_open()
        assert await other.is_open()


async def test_workers_share_the_failures_and_the_state(redis_url: str) -> None:
    async with made(redis_url) as one, made(redis_url) as other:
        await one.fail(times=2)
        await other.fail()
        assert await one.is_open()
        assert await other.is_open()
        assert one.shown == other.shown == 2


async def test_one_request_of_all_workers_probes(redis_url: str) -> None:
    async with made(redis_url, cool_down=SHORT) as one, made(redis_url, cool_down=SHORT) as other:
        await one.fail(times=3)
        await one.cooled()
        async with one.breaker.guard():
            refused = await asyncio.gather(*(worker.is_open() for worker in (one, other) * 5))
            assert refused == [True] * 10
        assert await other.breaker.state() == "closed"
        assert not await other.is_open()


async def test_requests_that_arrive_together_probe_once(redis_url: str) -> None:
    async with made(redis_url, cool_down=SHORT) as worker:
        await worker.fail(times=3)
        await worker.cooled()
        done, probes = asyncio.Event(), 0

        async def probe() -> bool:
            nonlocal probes
            try:
                async with worker.breaker.guard():
                    probes += 1
                    await done.wait()
            except CircuitOpen:
                return False
            return True

        calls = [asyncio.create_task(probe()) for _ in range(20)]
        while sum(call.done() for call in calls) < 19:
            await asyncio.wait([call for call in calls if not call.done()], return_when=asyncio.FIRST_COMPLETED)
        done.set()
        assert sorted(await asyncio.gather(*calls)) == [False] * 19 + [True]
        assert probes == 1


async def test_a_release_with_another_cool_down_takes_the_stored_state_over(redis_url: str) -> None:
    async with made(redis_url, cool_down=LONG) as before, made(redis_url, cool_down=SHORT) as after:
        await before.fail(times=3)
        await after.cooled()
        await after.is_open()
        assert await after.breaker.state() in {"opened", "closed"}


async def test_the_gauge_follows_what_another_worker_does(redis_url: str) -> None:
    async with made(redis_url) as one, made(redis_url) as other:
        watching = asyncio.create_task(other.breaker.watch(0.01))
        await one.fail(times=3)
        async with asyncio.timeout(10):
            while other.shown != 2:  # noqa: ASYNC110 -- another worker has no event
                await asyncio.sleep(0.01)
        watching.cancel()
        await asyncio.wait([watching])


async def test_a_state_that_redis_has_lost_in_part_is_closed(redis_url: str) -> None:
    async with made(redis_url) as worker:
        await worker.fail(times=3)
        await worker.gate.client.delete(f"breaker:{NAME}")
        await worker.gate.client.hincrby(f"breaker:{NAME}", "failures", 1)
        assert await worker.breaker.state() == "closed"
        await worker.fail()
        assert not await worker.is_open()


async def test_a_worker_remembers_the_state_when_redis_goes_away(scratch: Path) -> None:
    servers = EmbeddedServers(scratch / "breaker", postgres=False)
    try:
        async with made(servers.wait_until_ready()["REDIS_URL"]) as worker:
            await worker.fail(times=3)
            servers.stop()
            assert await worker.breaker.state() == "opened"
            assert await worker.is_open()
            assert worker.gate.is_away
    finally:
        servers.stop()
