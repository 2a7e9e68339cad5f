"""The cache on a real Redis, and without one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import CollectorRegistry

from app.cache import cache as module
from app.cache.cache import Cache, LocalStore
from app.cache.connection import RedisGate
from tests.agency import metrics_in

AWAY = "unix:///nonexistent.sock"
LONG = 60.0


class Caching:
    """A cache as in one worker, with its own counters."""

    def __init__(self, url: str) -> None:
        self.registry = CollectorRegistry()
        self.gate = RedisGate(url)
        self.cache = Cache(self.gate, metrics_in(self.registry))

    @property
    def counted(self) -> tuple[float, float]:
        """Return the counts of hits and misses."""
        names = ("baliblissed_cache_hits_total", "baliblissed_cache_misses_total")
        hits, misses = (self.registry.get_sample_value(name, {"cache": "test"}) or 0.0 for name in names)
        return hits, misses

    async def get(self, load: "Source", key: str = "key", *, ttl: float = LONG, lease: float = LONG) -> object:
        return await self.cache.get_or_load("test", key, load, ttl=ttl, lease=lease)


class Source:
    """A loader for the cache that counts its calls, and can be blocked or made to fail."""

    def __init__(self, value: object = "value") -> None:
        self.value = value
        self.loads = 0
        self.error: Exception | None = None
        self.started = asyncio.Event()
        self.free = asyncio.Event()
        self.free.set()

    async def __call__(self) -> object:
        self.loads += 1
        value = self.value
        self.started.set()
        await self.free.wait()
        if self.error is not None:
            raise self.error
        return value


@contextlib.asynccontextmanager
async def made(url: str) -> AsyncIterator[Caching]:
    caching = Caching(url)
    try:
        yield caching
    finally:
        # A load still running after a failed test would reopen connections.
        await asyncio.gather(
            *(flight for flight in caching.cache._flights.values() if flight.cancel()), return_exceptions=True
        )
        await caching.gate.close()


@pytest.fixture(params=["Redis there", "Redis away"])
async def worker(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Caching]:
    """Yield a cache with Redis, and one without."""
    async with made(redis_url if request.param == "Redis there" else AWAY) as caching:
        yield caching


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)


async def is_renewed(worker: Caching, ttl: float) -> bool:
    """Return True once a value is loaded a second time. Raises TimeoutError if it is not."""
    source = Source()
    async with asyncio.timeout(10):
        while source.loads < 2:
            assert await worker.get(source, ttl=ttl) == "value"
    return True


@pytest.mark.parametrize("value", [None, 0, "", [1, "é"], {"a": {"b": None}}, 1.5, True], ids=repr)
async def test_a_value_is_loaded_once_and_comes_back_as_it_was(worker: Caching, value: object) -> None:
    source = Source(value)
    assert [await worker.get(source) for _ in range(3)] == [value] * 3
    assert (source.loads, worker.counted) == (1, (2, 1))


async def test_keys_and_caches_are_apart(worker: Caching) -> None:
    assert await worker.get(Source("one"), "a") == "one"
    assert await worker.get(Source("two"), "b") == "two"
    assert await worker.cache.get_or_load("other", "a", Source("three"), ttl=LONG) == "three"
    assert await worker.get(Source("four"), "a") == "one"


async def test_fifty_requests_at_once_load_once(worker: Caching) -> None:
    source = Source()
    source.free.clear()
    calls = [asyncio.create_task(worker.get(source)) for _ in range(50)]
    await until(lambda: worker.counted == (0, 50))
    source.free.set()
    assert await asyncio.gather(*calls) == ["value"] * 50
    assert source.loads == 1


async def test_a_load_that_fails_fails_for_all_and_nothing_is_kept(worker: Caching) -> None:
    source = Source()
    source.free.clear()
    source.error = LookupError("told to fail")
    calls = [asyncio.create_task(worker.get(source)) for _ in range(10)]
    await until(lambda: worker.counted == (0, 10))
    source.free.set()
    endings = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(ending) for ending in endings] == ["told to fail"] * 10
    assert source.loads == 1
    source.error = None
    assert await worker.get(source) == "value"


async def test_a_value_that_is_no_json_is_an_error_and_nothing_is_kept(worker: Caching) -> None:
    with pytest.raises(TypeError):
        await worker.get(Source(object()))
    assert await worker.get(Source("fine")) == "fine"


async def test_a_caller_who_goes_away_does_not_end_the_load(worker: Caching) -> None:
    source = Source()
    source.free.clear()
    gone, stays = asyncio.create_task(worker.get(source)), asyncio.create_task(worker.get(source))
    await until(lambda: worker.counted == (0, 2))
    await source.started.wait()
    gone.cancel()
    await asyncio.wait([gone])
    source.free.set()
    assert await stays == "value"
    assert source.loads == 1


async def test_a_load_that_fails_when_everybody_has_gone_troubles_nobody(worker: Caching) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    source = Source()
    source.free.clear()
    source.error = LookupError("nobody hears")
    gone = asyncio.create_task(worker.get(source))
    await source.started.wait()
    gone.cancel()
    await asyncio.wait([gone])
    source.free.set()
    await until(lambda: not worker.cache._flights)
    assert await worker.get(Source("next")) == "next"
    asyncio.get_running_loop().set_exception_handler(None)
    assert complaints == []


async def test_a_load_that_is_cancelled_does_not_stand_in_the_way_of_the_next(worker: Caching) -> None:
    source = Source()
    source.free.clear()
    call = asyncio.create_task(worker.get(source))
    await source.started.wait()
    worker.cache._flights["cache:test:key"].cancel()
    await asyncio.wait([call])
    assert call.cancelled()
    source.free.set()
    assert await worker.get(source) == "value"


async def test_a_deleted_value_is_loaded_anew(worker: Caching) -> None:
    source = Source("old")
    await worker.get(source)
    source.value = "new"
    await worker.cache.delete("test", "key")
    assert await worker.get(source) == "new"


async def test_a_value_read_before_a_delete_is_not_kept_after_it(worker: Caching) -> None:
    source = Source("old")
    source.free.clear()
    early = asyncio.create_task(worker.get(source))
    await source.started.wait()
    source.value = "new"
    await worker.cache.delete("test", "key")
    source.free.set()
    await early
    assert await worker.get(source) == "new"


async def test_a_value_expires(worker: Caching) -> None:
    assert await is_renewed(worker, ttl=0.05)


async def test_two_workers_load_once(redis_url: str) -> None:
    async with made(redis_url) as one, made(redis_url) as other:
        source = Source()
        source.free.clear()
        first = asyncio.create_task(one.get(source))
        await source.started.wait()
        second = asyncio.create_task(other.get(source))
        await until(lambda: other.counted == (0, 1))
        source.free.set()
        assert [await first, await second] == ["value", "value"]
        assert source.loads == 1


async def test_a_waiting_worker_loads_when_the_other_has_failed(redis_url: str) -> None:
    async with made(redis_url) as one, made(redis_url) as other:
        failing, working = Source(), Source("from the other")
        failing.free.clear()
        failing.error = LookupError("told to fail")
        first = asyncio.create_task(one.get(failing))
        await failing.started.wait()
        second = asyncio.create_task(other.get(working))
        await until(lambda: other.counted == (0, 1))
        failing.free.set()
        with pytest.raises(LookupError):
            await first
        async with asyncio.timeout(10):  # much shorter than the lease
            assert await second == "from the other"


@pytest.mark.parametrize(("left", "lease"), [(200, LONG), (None, 0.1)], ids=["it runs out", "it never ends"])
async def test_a_worker_that_died_with_the_lease_is_not_waited_for_in_vain(
    redis_url: str, left: int | None, lease: float
) -> None:
    async with made(redis_url) as worker:
        await worker.gate.client.set("cache:test:key:lease", 1, px=left)
        async with asyncio.timeout(10):
            assert await worker.get(Source(), lease=lease) == "value"


async def test_leases_and_marks_run_out_by_themselves(redis_url: str) -> None:
    async with made(redis_url) as worker:
        client, source = worker.gate.client, Source()
        source.free.clear()
        call = asyncio.create_task(worker.get(source, lease=7.0))
        await source.started.wait()
        assert 0 < await client.pttl("cache:test:key:lease") <= 7_000
        source.free.set()
        await call
        assert 0 < await client.pttl("cache:test:key") <= LONG * 1000
        await worker.cache.delete("test", "key")
        assert 0 < await client.pttl("cache:test:key:changed") <= module.CHANGED_SECONDS * 1000


async def test_a_value_that_another_worker_has_just_loaded_leaves_no_lease(redis_url: str) -> None:
    async with made(redis_url) as worker:
        client, lease = worker.gate.client, worker.cache._lease

        async def lease_late(name: str, token: str, seconds: float) -> bool:
            await client.set(name, b'"from the other"')
            return await lease(name, token, seconds)

        worker.cache._lease = lease_late  # type: ignore[method-assign]
        source = Source()
        assert await worker.get(source) == "from the other"
        assert source.loads == 0
        assert await client.exists("cache:test:key:lease") == 0


async def test_a_worker_whose_load_outlasts_its_lease_leaves_the_next_ones_lease_alone(redis_url: str) -> None:
    async with made(redis_url) as slow, made(redis_url) as next_one:
        client = next_one.gate.client
        late, current = Source("late"), Source("current")
        late.free.clear()
        current.free.clear()
        first = asyncio.create_task(slow.get(late, lease=LONG))
        await late.started.wait()
        await client.delete("cache:test:key:lease")  # as its expiry does
        second = asyncio.create_task(next_one.get(current))
        await current.started.wait()
        late.free.set()
        await first
        assert await client.exists("cache:test:key:lease") == 1
        current.free.set()
        await second


async def test_a_worker_stops_waiting_when_redis_goes_away(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with made(redis_url) as worker:
        await worker.gate.client.set("cache:test:key:lease", 1)
        call = asyncio.create_task(worker.get(Source()))
        await until(lambda: worker.counted == (0, 1))
        # Not `_away_until`: a concurrent call that succeeds would reset it.
        monkeypatch.setattr(RedisGate, "is_away", True)
        async with asyncio.timeout(10):
            assert await call == "value"


async def test_without_redis_a_value_is_kept_for_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LOCAL_TTL_SECONDS", 0.05)
    async with made(AWAY) as worker:
        assert await is_renewed(worker, ttl=3600)


async def test_without_redis_the_number_of_values_is_bounded() -> None:
    async with made(AWAY) as worker:
        for number in range(module.MAX_LOCAL_ENTRIES + 10):
            await worker.get(Source(number), str(number))
        assert len(worker.cache._local) == module.MAX_LOCAL_ENTRIES


def test_the_least_recently_used_value_leaves_first() -> None:
    store = LocalStore(entries=2)
    store.set("a", b"1", LONG)
    store.set("b", b"2", LONG)
    assert store.get("a") == b"1"
    store.set("c", b"3", LONG)
    assert [store.get(key) for key in "abc"] == [b"1", None, b"3"]


def test_a_value_that_has_expired_or_was_deleted_is_dropped() -> None:
    store = LocalStore()
    store.set("a", b"1", 0)
    store.set("b", b"2", LONG)
    store.delete("b")
    assert [store.get(key) for key in "ab"] == [None, None]
    assert len(store) == 0
