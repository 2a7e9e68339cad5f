"""The assistant over HTTP, with and without an upstream."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import orjson
import pytest
from redis.asyncio import Redis

from app.monitoring.metrics.registry import registry
from loadtest.fake_ai import FakeAI, fake_ai
from tests.conftest import Application

CHAT = "/api/v1/assistant/chat"
ITINERARIES = "/api/v1/assistant/itineraries"
PROBLEM = "application/problem+json"
TWO_DAYS = orjson.dumps({"days": [["ubud-palace", "goa-gajah"], ["tanah-lot"]]}).decode()


@pytest.fixture
async def ai() -> AsyncIterator[FakeAI]:
    """Yield an upstream."""
    async with fake_ai() as running:
        yield running


def counted(name: str, **labels: str) -> float:
    """Return the current value of one of our metrics."""
    return registry().get_sample_value(f"baliblissed_{name}", labels) or 0.0


async def ask(client: httpx.AsyncClient, message: str = "Where is a quiet temple?") -> httpx.Response:
    return await client.post(CHAT, json={"message": message})


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.005)


async def fail(client: httpx.AsyncClient, ai: FakeAI, times: int) -> None:
    """Have the upstream fail so many times."""
    ai.status = 500
    for _ in range(times):
        assert (await ask(client)).status_code == 502


async def test_the_offline_concierge_says_that_it_is_offline(client: httpx.AsyncClient) -> None:
    before = counted("ai_requests_total", operation="chat", outcome="offline")
    answer = (await ask(client, "Can I snorkel at the Liberty wreck?")).json()
    assert (answer["source"], answer["model"]) == ("offline", None)
    assert answer["destinations"][0]["slug"] == "usat-liberty-wreck"
    assert answer["destinations"][0].keys() == {"slug", "name", "regency", "category"}
    assert answer["answer"].startswith(answer["destinations"][0]["name"])
    assert counted("ai_requests_total", operation="chat", outcome="offline") == before + 1


@pytest.mark.parametrize("message", ["Zeppelin?", "the of and", "'' \\ & | ! ( ) :* <->", "?"])
async def test_the_offline_concierge_says_that_it_knows_nothing(client: httpx.AsyncClient, message: str) -> None:
    answer = await ask(client, message)
    assert answer.status_code == 200
    assert answer.json()["destinations"] == []
    assert answer.json()["answer"].startswith("I know no place")


@pytest.mark.parametrize(
    "message", ["a.b/c?d=1&e='2'&temple", "it's | & 'temple' <-> !", "\N{WATER WAVE}" * 1990 + " temple"]
)
async def test_a_message_may_hold_whatever_people_write(client: httpx.AsyncClient, message: str) -> None:
    assert (await ask(client, message)).status_code == 200


@pytest.mark.parametrize("message", ["", " \n", "x" * 2001, "a\x00b"], ids=lambda message: repr(message)[:8])
async def test_a_message_of_another_form_is_refused(client: httpx.AsyncClient, message: str) -> None:
    assert (await ask(client, message)).status_code == 422


async def test_the_offline_planner_says_that_it_is_offline(client: httpx.AsyncClient) -> None:
    answer = (await client.post(ITINERARIES, json={"days": 3, "interests": ["temple"], "budget": 200_000})).json()
    assert (answer["source"], answer["model"]) == ("offline", None)
    assert [day["day"] for day in answer["days"]] == [1, 2, 3]
    assert all(day["stops"] for day in answer["days"])
    assert 0 < answer["total_fee_idr"] <= 200_000


@pytest.mark.parametrize(
    "change",
    [
        {"days": 0},
        {"days": 15},
        {"interests": [""]},
        {"interests": ["x" * 41]},
        {"interests": ["a\x00"]},
        {"interests": ["x"] * 11},
        {"budget": -1},
        {"budget": 2**31},
        {"month": 0},
        {"month": 13},
    ],
    ids=lambda change: repr(change)[:24],
)
async def test_wishes_of_another_form_are_refused(client: httpx.AsyncClient, change: dict[str, object]) -> None:
    answer = await client.post(ITINERARIES, json={"days": 2, **change})
    assert answer.status_code == 422, answer.text


async def test_the_upstream_is_asked_with_the_places_that_fit(application: Application, ai: FakeAI) -> None:
    async with application(ai_base_url=ai.url, ai_api_key="a key", ai_model="some-model") as client:
        answer = (await ask(client, "Where is a wreck to dive?")).json()
    assert (answer["answer"], answer["source"], answer["model"]) == ("Go to the sea.", "upstream", "some-model")
    (request,) = ai.requests
    system, user = request["messages"]
    assert "usat-liberty-wreck" in system["content"]
    assert user == {"role": "user", "content": "Where is a wreck to dive?"}
    assert request["model"] == "some-model"
    assert ai.authorization == ["Bearer a key"]


async def test_the_upstream_chooses_the_places_of_an_itinerary(application: Application, ai: FakeAI) -> None:
    ai.text = TWO_DAYS
    async with application(ai_base_url=ai.url) as client:
        answer = (await client.post(ITINERARIES, json={"days": 2, "interests": ["temple"]})).json()
    assert answer["source"] == "upstream"
    chosen = [[stop["slug"] for stop in day["stops"]] for day in answer["days"]]
    assert chosen == [["ubud-palace", "goa-gajah"], ["tanah-lot"]]
    assert answer["total_fee_idr"] == 125_000
    assert ai.requests[0]["response_format"] == {"type": "json_object"}
    assert "campuhan-ridge-walk" in ai.requests[0]["messages"][0]["content"]


@pytest.mark.parametrize(("path", "operation"), [(CHAT, "chat"), (ITINERARIES, "itinerary")])
async def test_tokens_are_counted_as_the_upstream_reports_them(
    application: Application, ai: FakeAI, path: str, operation: str
) -> None:
    ai.text = TWO_DAYS
    kinds = ("prompt", "completion")
    before = [counted("ai_tokens_used_total", operation=operation, kind=kind) for kind in kinds]
    async with application(ai_base_url=ai.url) as client:
        answer = await client.post(path, json={"message": "Hello.", "days": 2})
    assert answer.status_code == 200
    after = [counted("ai_tokens_used_total", operation=operation, kind=kind) for kind in kinds]
    assert [new - old for new, old in zip(after, before, strict=True)] == [11, 7]


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_an_upstream_that_fails_is_a_bad_gateway(application: Application, ai: FakeAI, status: int) -> None:
    ai.status = status
    async with application(ai_base_url=ai.url) as client:
        answer = await ask(client)
    assert answer.status_code == 502
    assert answer.headers["content-type"] == PROBLEM
    assert "told to fail" not in answer.text


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_a_refusal_is_a_bad_gateway_and_leaves_the_circuit_closed(
    application: Application, ai: FakeAI, status: int
) -> None:
    async with application(ai_base_url=ai.url) as client:
        ai.status = status
        for _ in range(7):
            assert (await ask(client)).status_code == 502
        ai.status = 200
        assert (await ask(client)).status_code == 200
    assert len(ai.requests) == 8


async def test_an_upstream_that_is_slow_is_a_gateway_timeout(application: Application, ai: FakeAI) -> None:
    ai.delay = 0.5
    before = counted("ai_requests_total", operation="chat", outcome="timeout")
    async with application(ai_base_url=ai.url, ai_timeout=0.05) as client:
        answer = await ask(client)
    assert answer.status_code == 504
    assert answer.headers["content-type"] == PROBLEM
    assert counted("ai_requests_total", operation="chat", outcome="timeout") == before + 1


async def test_an_upstream_that_is_away_is_a_bad_gateway(application: Application) -> None:
    async with application(ai_base_url="http://127.0.0.1:1/v1") as client:
        assert (await ask(client)).status_code == 502


@pytest.mark.parametrize("path", [CHAT, ITINERARIES])
@pytest.mark.parametrize("garbage", [b"<html>", b"[]", b"\xff", b""])
async def test_an_answer_that_cannot_be_read_is_a_bad_gateway(
    application: Application, ai: FakeAI, path: str, garbage: bytes
) -> None:
    ai.raw = garbage
    async with application(ai_base_url=ai.url) as client:
        answer = await client.post(path, json={"message": "Hello.", "days": 2})
    assert answer.status_code == 502
    assert answer.headers["content-type"] == PROBLEM


async def test_an_itinerary_that_cannot_be_used_is_not_kept(application: Application, ai: FakeAI) -> None:
    async with application(ai_base_url=ai.url) as client:
        ai.text = '{"days": [["atlantis"], ["tanah-lot"]]}'
        assert (await client.post(ITINERARIES, json={"days": 2})).status_code == 502
        ai.text = TWO_DAYS
        assert (await client.post(ITINERARIES, json={"days": 2})).status_code == 200
    assert len(ai.requests) == 2


async def test_the_circuit_opens_after_five_failures_and_the_upstream_is_left_alone(
    application: Application, ai: FakeAI
) -> None:
    async with application(ai_base_url=ai.url) as client:
        await fail(client, ai, 5)
        ai.status = 200
        answer = await ask(client)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == PROBLEM
    assert 1 <= int(answer.headers["Retry-After"]) <= 15
    assert len(ai.requests) == 5
    assert counted("circuit_breaker_state", breaker="ai_circuit_breaker") == 2


async def test_a_success_between_failures_keeps_the_circuit_closed(application: Application, ai: FakeAI) -> None:
    async with application(ai_base_url=ai.url) as client:
        await fail(client, ai, 4)
        ai.status = 200
        assert (await ask(client)).status_code == 200
        await fail(client, ai, 4)
        ai.status = 200
        assert (await ask(client)).status_code == 200
    assert len(ai.requests) == 10


async def test_failures_that_arrive_together_open_the_circuit(application: Application, ai: FakeAI) -> None:
    ai.status, ai.released = 500, asyncio.Event()
    async with application(ai_base_url=ai.url) as client:
        calls = [asyncio.create_task(ask(client)) for _ in range(8)]
        await until(lambda: len(ai.requests) == 8)
        ai.released.set()
        answers = await asyncio.gather(*calls)
        assert {answer.status_code for answer in answers} == {502}
        ai.status = 200
        assert (await ask(client)).status_code == 503
    assert len(ai.requests) == 8


async def test_two_instances_share_the_state_of_the_circuit(application: Application, ai: FakeAI) -> None:
    async with application(ai_base_url=ai.url) as one, application(ai_base_url=ai.url) as other:
        await fail(one, ai, 3)
        await fail(other, ai, 2)
        assert [(await ask(client)).status_code for client in (one, other)] == [503, 503]
    assert len(ai.requests) == 5


async def test_the_same_wishes_get_the_same_itinerary_in_whatever_order(application: Application, ai: FakeAI) -> None:
    ai.text = TWO_DAYS
    async with application(ai_base_url=ai.url) as client:
        wishes = [["temple", "beach"], ["beach", "temple"], [" Beach", "TEMPLE", "temple"]]
        answers = [await client.post(ITINERARIES, json={"days": 2, "interests": interests}) for interests in wishes]
        assert len({answer.text for answer in answers}) == 1
        assert len(ai.requests) == 1
        for other in ({"month": 5}, {"budget": 500_000}, {"interests": ["beach"]}):
            await client.post(ITINERARIES, json={"days": 2, "interests": wishes[0], **other})
    assert len(ai.requests) == 4


async def test_the_same_wishes_at_the_same_time_ask_the_upstream_once(application: Application, ai: FakeAI) -> None:
    ai.text, ai.delay = TWO_DAYS, 0.1
    async with application(ai_base_url=ai.url) as one, application(ai_base_url=ai.url) as other:
        calls = [client.post(ITINERARIES, json={"days": 2}) for client in (one, other) * 5]
        answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} == {200}
    assert len(ai.requests) == 1


async def test_a_plan_is_waited_for_as_long_as_its_upstream_may_take(
    application: Application, ai: FakeAI, redis_url: str
) -> None:
    ai.text, ai.delay, timeout = TWO_DAYS, 0.2, 30.0
    async with application(ai_base_url=ai.url, ai_timeout=timeout) as client, Redis.from_url(redis_url) as redis:
        call = asyncio.create_task(client.post(ITINERARIES, json={"days": 2}))
        await ai.arrived.wait()
        (lease,) = await redis.keys("cache:itineraries:*:lease")
        left = await redis.pttl(lease)
        assert (await call).status_code == 200
    assert left > timeout * 1000, "another worker would ask a second time"


async def test_a_plan_made_offline_is_not_given_out_as_the_upstream_s(application: Application, ai: FakeAI) -> None:
    ai.text = TWO_DAYS
    async with application() as offline, application(ai_base_url=ai.url) as online:
        answers = [await client.post(ITINERARIES, json={"days": 2}) for client in (offline, online, offline)]
    assert [answer.json()["source"] for answer in answers] == ["offline", "upstream", "offline"]


async def test_a_caller_who_goes_away_does_not_count_as_a_failure(application: Application, ai: FakeAI) -> None:
    def tokens() -> float:
        return counted("ai_tokens_used_total", operation="chat", kind="prompt")

    ai.released, before = asyncio.Event(), tokens()
    async with application(ai_base_url=ai.url) as client:
        calls = [asyncio.create_task(ask(client)) for _ in range(6)]
        await until(lambda: len(ai.requests) == 6)
        for call in calls:
            call.cancel()
        assert all(call.cancelled() for call in (await asyncio.wait(calls))[0])
        assert tokens() == before
        ai.released.set()
        await until(lambda: tokens() == before + 6 * 11)
        assert (await ask(client)).status_code == 200


async def test_the_assistant_works_while_redis_is_away(application: Application, ai: FakeAI) -> None:
    ai.text = TWO_DAYS
    async with application(ai_base_url=ai.url, redis_url="unix:///nonexistent.sock") as client:
        assert (await client.post(ITINERARIES, json={"days": 2})).json()["source"] == "upstream"
        assert (await ask(client)).json()["source"] == "upstream"
        await fail(client, ai, 5)
        assert (await ask(client)).status_code == 503
