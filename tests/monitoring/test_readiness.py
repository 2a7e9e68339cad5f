"""Readiness as metrics: kept without probes, from each run of the checks, and left by a worker that retires."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from app.monitoring import Observability, health
from app.monitoring.health import Check, CheckFailed, Details, Readiness
from app.monitoring.metrics.catalogue import Catalogue, build_catalogue
from app.monitoring.metrics.registry import BoundedRegistry, registry

HOUR = 3600.0


class Dependency:
    """A dependency that is up or away, and counts how often it is asked."""

    def __init__(self) -> None:
        self.up, self.asked = True, 0
        self.changed = asyncio.Event()

    async def __call__(self) -> Details:
        self.asked += 1
        self.changed.set()
        if not self.up:
            raise CheckFailed("it is away")
        return {}

    async def asked_again(self, times: int = 1) -> None:
        """Wait until it has been asked `times` times more, and what was asked before has been exposed."""
        for _ in range(times):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 30)


def exposed(metrics: Catalogue) -> dict[str, float]:
    """Return the value of each dependency, and that of `ready` as "ready"."""
    families = [family for gauge in (metrics.ready, metrics.dependency_up) for family in gauge.collect()]
    samples = [sample for family in families for sample in family.samples]
    return {sample.labels.get("dependency", "ready"): sample.value for sample in samples}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 -- what is waited for is in a gauge
            await asyncio.sleep(0)


def metrics() -> Catalogue:
    return build_catalogue(BoundedRegistry())


@asynccontextmanager
async def kept(readiness: Readiness, own: Catalogue) -> AsyncIterator[None]:
    """Keep the metrics meanwhile, as a worker does."""
    task = asyncio.create_task(readiness.keep(own))
    await asyncio.sleep(0)
    yield
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None


async def test_metrics_follow_the_checks_without_a_probe() -> None:
    database, own = Dependency(), metrics()
    assert exposed(own) == {}, "nothing is known before the first run"
    async with kept(Readiness([Check("database", database, 10.0)], "1", max_age=0.0), own):
        for up in (True, False, True):
            database.up = up
            await database.asked_again(times=2)
            assert exposed(own) == {"ready": up, "database": up}


async def test_checks_that_are_not_required_leave_the_service_ready_and_local_ones_are_no_dependency() -> None:
    away, own = Dependency(), metrics()
    away.up = False
    checks = [
        Check("database", Dependency(), 10.0),
        Check("redis", away, 10.0, required=False),
        Check("disk", away, 10.0, required=False, dependency=False),
    ]
    readiness = Readiness(checks, "1")
    async with kept(readiness, own):
        fit, body = await readiness.probe()
    assert (fit, body["status"], body["checks"]["redis"]["status"]) == (True, "degraded", "warn")
    assert exposed(own) == {"ready": 1, "database": 1, "redis": 0}


async def test_a_probe_spares_the_worker_its_own_run() -> None:
    database, own = Dependency(), metrics()
    readiness = Readiness([Check("database", database, 10.0)], "1", max_age=HOUR)
    await readiness.probe()
    async with kept(readiness, own):
        assert (database.asked, exposed(own)) == (1, {})
        database.up = False
        await readiness.probe()
        assert (database.asked, exposed(own)) == (2, {"ready": 0, "database": 0})


async def test_a_probe_that_cuts_a_check_short_leaves_its_metric_and_does_not_spare_the_run() -> None:
    database, redis, own = Dependency(), Dependency(), metrics()
    gate = asyncio.Event()

    async def slow() -> Details:
        await gate.wait()
        return await redis()

    database.up = redis.up = False
    checks = [Check("database", database, 10.0), Check("redis", slow, 10.0, required=False)]
    readiness = Readiness(checks, "1", max_age=HOUR)
    _, body = await readiness.probe()
    assert body["checks"]["redis"]["status"] == "unknown"
    async with kept(readiness, own):
        await readiness.probe()
        assert exposed(own) == {"ready": 0, "database": 0}, "nothing is known of redis"
        gate.set()
        await until(lambda: "redis" in exposed(own))
    assert exposed(own) == {"ready": 0, "database": 0, "redis": 0}
    assert database.asked == 3, "two probes, and the worker's run, which waits for each check"


async def test_a_worker_that_retires_lowers_nothing_and_asks_no_more() -> None:
    database, own = Dependency(), metrics()
    database.up = False
    readiness = Readiness([Check("database", database, 10.0)], "1", max_age=0.0)
    async with kept(readiness, own):
        await database.asked_again(times=2)
        health.set_retiring()
        assert exposed(own) == {"ready": 1, "database": 1}
        asked = database.asked
        for _ in range(20):
            await asyncio.sleep(0)
        assert database.asked == asked
        fit, _ = await readiness.probe()
        assert (fit, exposed(own)) == (False, {"ready": 1, "database": 1})
        await asyncio.sleep(0)


async def test_what_checks_find_while_the_application_closes_does_not_count() -> None:
    database, own = Dependency(), metrics()
    readiness = Readiness([Check("database", database, 10.0)], "1")
    async with kept(readiness, own):
        await database.asked_again()
        await readiness.probe()
    database.up = False
    await readiness.probe()
    assert exposed(own) == {"ready": 1, "database": 1}


async def test_a_run_that_breaks_is_not_ready_and_the_next_one_is_made() -> None:
    database, own = Dependency(), metrics()
    broken = True

    async def run() -> Details:
        await database()
        wrong: Any = None
        return wrong if broken else {}

    with capture_logs() as lines:
        async with kept(Readiness([Check("database", run, 10.0)], "1", max_age=0.0), own):
            # A run that breaks is repeated only after `max_age`, here at once.
            await database.asked_again(times=2)
            assert exposed(own) == {"ready": 0}
            broken = False
            await database.asked_again(times=3)
            assert exposed(own) == {"ready": 1, "database": 1}
    assert lines[0]["event"] == "readiness_not_renewed"


def test_two_checks_of_one_name_are_refused() -> None:
    check = Check("database", Dependency(), 1.0)
    with pytest.raises(ValueError, match=r"checks=\['database', 'database'\]: want names that differ"):
        Readiness([check, check], "1")


def test_a_worker_renews_after_ten_seconds() -> None:
    assert Readiness([], "1")._max_age == 10.0


async def test_an_instrumented_application_keeps_them_between_its_start_and_its_end() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        events.append("open")
        yield
        events.append("close")

    asked = asyncio.Event()

    async def run() -> Details:
        events.append("asked")
        asked.set()
        return {}

    app = FastAPI(lifespan=lifespan)
    Observability.current().instrument(app, readiness=Readiness([Check("tide-tables", run, 10.0)], "1", max_age=0.0))
    name = f"{registry().namespace}_dependency_up"
    async with app.router.lifespan_context(app):
        await asyncio.wait_for(asked.wait(), 30)
        await until(lambda: registry().get_sample_value(name, {"dependency": "tide-tables"}) == 1)
    assert (events[0], events[-1], set(events[1:-1])) == ("open", "close", {"asked"})


async def test_a_check_that_runs_at_the_end_has_ended_before_the_application_closes() -> None:
    begun = asyncio.Event()
    events: list[str] = []

    async def run() -> Details:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)  # a connection is closed
            events.append("ended")
        return {}

    async with kept(Readiness([Check("database", run, 10.0)], "1"), metrics()):
        await begun.wait()
    assert events == ["ended"]
