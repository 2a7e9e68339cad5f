"""The concierge on a real database, cache and upstream."""

import asyncio
import gc
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
import pytest
from prometheus_client import CollectorRegistry

from app.assistant.breaker import CircuitBreaker, CircuitOpen
from app.assistant.concierge import Concierge, _finish
from app.assistant.planner import Wishes
from app.assistant.upstream import Completion, Upstream, UpstreamError, UpstreamRejected, UpstreamTimeout
from app.cache.cache import Cache
from app.cache.connection import RedisGate
from app.database.pool import Database, DatabaseUnavailable
from loadtest.fake_ai import FakeAI, fake_ai
from tests.agency import metrics_in

TWO_DAYS = Wishes(2, ("temple",), 500_000, 6)


@dataclass
class Desk:
    """A concierge, its upstream and its own registry."""

    concierge: Concierge
    ai: FakeAI
    registry: CollectorRegistry

    def counted(self, operation: str, outcome: str) -> float:
        labels = {"operation": operation, "outcome": outcome}
        return self.registry.get_sample_value("baliblissed_ai_requests_total", labels) or 0.0

    def timed(self, operation: str) -> float:
        name = "baliblissed_ai_request_duration_seconds_count"
        return self.registry.get_sample_value(name, {"operation": operation}) or 0.0


@pytest.fixture(params=["upstream"])
async def desk(request: pytest.FixtureRequest, database: Database, redis_url: str) -> AsyncIterator[Desk]:
    """Yield a concierge with an upstream, or without one if the parameter is "offline"."""
    registry = CollectorRegistry()
    metrics = metrics_in(registry)
    gate = RedisGate(redis_url)
    breaker = CircuitBreaker(gate, metrics.circuit_breaker_state, exclude=(UpstreamRejected,))
    async with fake_ai() as ai:
        upstream = Upstream(ai.url, model="some-model", key=None, timeout=0.3)
        concierge = Concierge(
            database=database,
            cache=Cache(gate, metrics),
            metrics=metrics,
            breaker=breaker,
            upstream=None if request.param == "offline" else upstream,
        )
        yield Desk(concierge, ai, registry)
        await upstream.close()
    await gate.close()


offline = pytest.mark.parametrize("desk", ["offline"], indirect=True)


def days(*slugs: list[str]) -> str:
    return orjson.dumps({"days": slugs}).decode()


@offline
async def test_offline_answers_name_the_best_place_and_the_others(desk: Desk) -> None:
    answer = await desk.concierge.chat("a temple by the sea at sunset")
    best, *others = answer["destinations"]
    assert len(others) == 4
    assert answer["answer"].startswith(f"{best['name']} in {best['regency']}: ")
    assert all(place["name"] in answer["answer"].partition("You may also like ")[2] for place in others)
    assert desk.ai.requests == []


@offline
async def test_an_offline_answer_of_one_place_has_no_others(desk: Desk) -> None:
    answer = await desk.concierge.chat("amphitheatre kecak")
    assert len(answer["destinations"]) == 1
    assert "You may also like" not in answer["answer"]


@offline
async def test_offline_requests_are_counted_and_timed(desk: Desk) -> None:
    await desk.concierge.chat("temple")
    await desk.concierge.itinerary(TWO_DAYS)
    assert [desk.counted(operation, "offline") for operation in ("chat", "itinerary")] == [1, 1]
    assert [desk.timed(operation) for operation in ("chat", "itinerary")] == [1, 1]


@offline
async def test_an_offline_itinerary_fits_the_wishes(desk: Desk) -> None:
    answer = await desk.concierge.itinerary(TWO_DAYS)
    assert answer["source"] == "offline"
    assert len(answer["days"]) == 2
    assert answer["total_fee_idr"] <= 500_000


@offline
async def test_the_catalogue_is_read_from_the_database_once(desk: Desk, database: Database) -> None:
    first = await desk.concierge.catalogue()
    assert len(first) >= 60
    await database.close()
    assert await desk.concierge.catalogue() == first


async def test_the_upstream_gets_the_wishes_and_the_whole_catalogue(desk: Desk) -> None:
    desk.ai.text = days(["tanah-lot"], ["amed"])
    answer = await desk.concierge.itinerary(TWO_DAYS)
    assert (answer["source"], answer["model"]) == ("upstream", "some-model")
    system, user = desk.ai.requests[0]["messages"]
    assert all(place["slug"] in system["content"] for place in await desk.concierge.catalogue())
    assert orjson.loads(user["content"]) == {"days": 2, "interests": ["temple"], "budget": 500_000, "month": 6}


async def test_a_choice_that_does_not_fit_into_the_day_is_left_out(desk: Desk) -> None:
    desk.ai.text = days(["mount-agung", "mount-batur"], [])
    answer = await desk.concierge.itinerary(TWO_DAYS)
    assert [[stop["slug"] for stop in day["stops"]] for day in answer["days"]] == [["mount-agung"], []]


UNUSABLE = {
    "no JSON": "Day one: the sea.",
    "a list": "[]",
    "no days": "{}",
    "days a number": '{"days": 2}',
    "days null": '{"days": null}',
    "a day a number": '{"days": [1, 2]}',
    "too few days": days(["amed"]),
    "too many days": days(["amed"], ["tanah-lot"], []),
    "nothing chosen": days([], []),
    "twice in a day": days(["amed", "amed"], []),
    "twice": days(["amed"], ["amed"]),
    "unknown": days(["amed"], ["atlantis"]),
    "too deep": "[" * 5_000,
}


@pytest.mark.parametrize("text", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_an_itinerary_that_cannot_be_used_is_a_failure(desk: Desk, text: str) -> None:
    desk.ai.text = text
    with pytest.raises(UpstreamError, match="itinerary"):
        await desk.concierge.itinerary(TWO_DAYS)
    assert desk.counted("itinerary", "error") == 1


async def test_itineraries_that_cannot_be_used_open_the_circuit(desk: Desk) -> None:
    desk.ai.text = "Day one: the sea."
    for _ in range(5):
        with pytest.raises(UpstreamError):
            await desk.concierge.itinerary(TWO_DAYS)
    with pytest.raises(CircuitOpen):
        await desk.concierge.chat("temple")
    assert desk.counted("chat", "circuit_open") == 1
    assert len(desk.ai.requests) == 5


async def test_each_outcome_is_counted_under_its_name(desk: Desk) -> None:
    await desk.concierge.chat("temple")
    desk.ai.status = 400
    with pytest.raises(UpstreamRejected):
        await desk.concierge.chat("temple")
    desk.ai.status = 500
    with pytest.raises(UpstreamError):
        await desk.concierge.chat("temple")
    desk.ai.delay = 0.6
    with pytest.raises(UpstreamTimeout):
        await desk.concierge.chat("temple")
    outcomes = ("success", "rejected", "error", "timeout", "offline", "circuit_open")
    assert [desk.counted("chat", outcome) for outcome in outcomes] == [1, 1, 1, 1, 0, 0]
    assert desk.timed("chat") == 4


async def test_a_database_that_is_away_is_not_the_upstreams_failure(desk: Desk, database: Database) -> None:
    await database.close()
    for _ in range(6):
        with pytest.raises(DatabaseUnavailable):
            await desk.concierge.chat("temple")
    assert await desk.concierge.breaker.state() == "closed"
    assert desk.counted("chat", "error") == 6


async def test_a_failure_after_the_caller_has_gone_is_not_reported_by_asyncio() -> None:
    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    started, free, failed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> Completion:
        started.set()
        await free.wait()
        failed.set()
        raise UpstreamError("too late")

    caller = asyncio.create_task(_finish(work()))
    await started.wait()
    caller.cancel()
    await asyncio.wait([caller])
    assert caller.cancelled()
    free.set()
    await failed.wait()
    await asyncio.sleep(0)  # the callbacks of the work that has ended
    gc.collect()  # asyncio reports unretrieved exceptions when the task is collected
    loop.set_exception_handler(None)
    assert reported == []
