"""Rate limits over HTTP."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest

from app.api.limits import CLIENTS_A_SITE
from app.main import create_app
from app.monitoring.metrics.registry import registry
from app.settings import Settings
from tests.conftest import ADMIN_KEY, Application

REVIEWS = "/api/v1/destinations/amed/reviews"
INQUIRIES = "/api/v1/inquiries"
CHAT = "/api/v1/assistant/chat"
BODIES: dict[str, dict[str, object]] = {
    REVIEWS: {"rating": 5, "text": "fine"},
    INQUIRIES: {"name": "Ayu", "email": "ayu@example.com", "message": "Hello."},
    CHAT: {"message": "Where is a temple?"},
}
AWAY = "unix:///nonexistent.sock"


def refused(name: str) -> float:
    """Return the number of requests that the limit has refused so far."""
    return registry().get_sample_value("baliblissed_rate_limited_requests_total", {"limit": name}) or 0.0


async def send(client: httpx.AsyncClient, path: str, times: int = 1, **headers: str) -> list[int]:
    """Send `times` requests and return their statuses."""
    forwarded = {name.replace("_", "-"): value for name, value in headers.items()}
    return [(await client.post(path, json=BODIES[path], headers=forwarded)).status_code for _ in range(times)]


@pytest.mark.parametrize("redis", [{}, {"redis_url": AWAY}], ids=["Redis there", "Redis away"])
@pytest.mark.parametrize(("path", "name"), [(REVIEWS, "reviews"), (INQUIRIES, "inquiries"), (CHAT, "assistant")])
async def test_requests_past_the_limit_are_refused_and_counted(
    application: Application, path: str, name: str, redis: dict[str, str]
) -> None:
    before = refused(name)
    async with application(rate_limit_writes="3/day", rate_limit_ai="3/day", **redis) as client:
        assert 429 not in await send(client, path, 3)
        answer = await client.post(path, json=BODIES[path])
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 86_400
    assert refused(name) == before + 1


@pytest.mark.parametrize("redis", [{}, {"redis_url": AWAY}], ids=["Redis there", "Redis away"])
async def test_wrong_keys_past_the_limit_are_refused_and_counted(
    application: Application, redis: dict[str, str]
) -> None:
    before = refused("keys")
    async with application(rate_limit_keys="10/day", **redis) as client:
        answers = [await client.get(INQUIRIES, headers={"X-API-Key": f"wrong {number}"}) for number in range(200)]
        right = await client.get(INQUIRIES, headers={"X-API-Key": ADMIN_KEY})
        absent = await client.get(INQUIRIES)
    assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 190
    assert answers[-1].headers["content-type"] == "application/problem+json"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 86_400
    assert refused("keys") == before + 191
    # The right key is not told apart from the wrong ones.
    for answer in (right, answers[-1]):
        assert {**answer.json(), "request_id": ""} == {**answers[10].json(), "request_id": ""}
    assert absent.status_code == 401


@pytest.mark.parametrize("redis", [{}, {"redis_url": AWAY}], ids=["Redis there", "Redis away"])
async def test_a_right_key_among_concurrent_guesses_is_one_of_the_first_or_refused(
    application: Application, redis: dict[str, str]
) -> None:
    keys = [f"wrong {number}" for number in range(30)] + [ADMIN_KEY]
    async with application(rate_limit_keys="5/day", **redis) as client:
        answers = await asyncio.gather(*(client.get(INQUIRIES, headers={"X-API-Key": key}) for key in keys))
        later = await client.get(INQUIRIES, headers={"X-API-Key": ADMIN_KEY})
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(401) == 5
    assert set(statuses[:-1]) == {401, 429}
    assert later.status_code == 429


async def test_right_keys_are_not_limited(application: Application) -> None:
    async with application(rate_limit_keys="2/day") as client:
        statuses = [(await client.get(INQUIRIES, headers={"X-API-Key": ADMIN_KEY})).status_code for _ in range(5)]
        statuses += [(await client.get(INQUIRIES)).status_code for _ in range(5)]
        statuses += [(await client.get(INQUIRIES, headers={"X-API-Key": ADMIN_KEY})).status_code]
    assert statuses == [200] * 5 + [401] * 5 + [200]


async def test_another_clients_wrong_keys_do_not_refuse_the_right_one(application: Application) -> None:
    async with application(rate_limit_keys="1/day") as client:
        for _ in range(3):
            await client.get(INQUIRIES, headers={"X-API-Key": "wrong", "X-Forwarded-For": "198.51.100.7"})
        right = {"X-API-Key": ADMIN_KEY, "X-Forwarded-For": "198.51.100.8"}
        assert (await client.get(INQUIRIES, headers=right)).status_code == 200
        right["X-Forwarded-For"] = "198.51.100.7"
        assert (await client.get(INQUIRIES, headers=right)).status_code == 429


@pytest.mark.parametrize("redis", [{}, {"redis_url": AWAY}], ids=["Redis there", "Redis away"])
async def test_a_refused_client_is_told_when_the_window_has_moved_on(
    application: Application, redis: dict[str, str]
) -> None:
    # Without Redis a window ends at a multiple of its length. This one is too long to end during the test.
    async with application(rate_limit_writes="1/90 year", **redis) as client:
        assert await send(client, REVIEWS) == [201]
        answer = await client.post(REVIEWS, json=BODIES[REVIEWS])
    assert int(answer.headers["Retry-After"]) > 86_400


async def test_invalid_requests_count_too(application: Application) -> None:
    async with application(rate_limit_writes="2/day") as client:
        statuses = [(await client.post(INQUIRIES, json={})).status_code for _ in range(3)]
    assert statuses == [422, 422, 429]


async def test_reading_is_not_limited(application: Application) -> None:
    async with application(rate_limit_writes="1/day") as client:
        await send(client, REVIEWS, 2)
        assert (await client.get(REVIEWS)).status_code == 200


async def test_each_limit_counts_for_itself(application: Application) -> None:
    async with application(rate_limit_writes="1/day", rate_limit_ai="1/day") as client:
        assert [await send(client, path, 2) for path in BODIES] == [[201, 429], [201, 429], [200, 429]]


async def test_each_setting_is_its_own_limit(application: Application) -> None:
    async with application(rate_limit_writes="1/day", rate_limit_ai="2/day") as client:
        assert await send(client, CHAT, 3) == [200, 200, 429]
        assert await send(client, REVIEWS, 2) == [201, 429]


async def test_each_client_address_is_counted_for_itself(application: Application) -> None:
    async with application(peer=("198.51.100.7", 1), rate_limit_writes="2/day") as one:
        assert await send(one, REVIEWS, 3) == [201, 201, 429]
    async with application(peer=("198.51.100.8", 1), rate_limit_writes="2/day") as other:
        assert await send(other, REVIEWS, 3) == [201, 201, 429]


async def test_the_addresses_of_one_ipv6_network_are_counted_together(application: Application) -> None:
    async with application(rate_limit_writes="1/day") as client:
        assert await send(client, REVIEWS, X_Forwarded_For="2001:db8:1:2::1") == [201]
        assert await send(client, REVIEWS, X_Forwarded_For="2001:db8:1:2:ffff::9") == [429]
        assert await send(client, REVIEWS, X_Forwarded_For="2001:db8:1:3::1") == [201]


async def test_ipv4_clients_of_an_ipv6_socket_are_counted_apart(application: Application) -> None:
    async with application(rate_limit_writes="1/day") as client:
        assert await send(client, REVIEWS, 2, X_Forwarded_For="::ffff:198.51.100.7") == [201, 429]
        assert await send(client, REVIEWS, 1, X_Forwarded_For="::ffff:198.51.100.8") == [201]
        assert await send(client, REVIEWS, 1, X_Forwarded_For="198.51.100.7") == [429]


async def test_a_trusted_proxys_word_on_the_address_is_believed(application: Application) -> None:
    async with application(rate_limit_writes="1/day") as client:
        assert await send(client, REVIEWS, 2, X_Forwarded_For="198.51.100.7") == [201, 429]
        assert await send(client, REVIEWS, 2, X_Forwarded_For="198.51.100.8") == [201, 429]


async def test_a_strangers_word_on_the_address_is_not_believed(application: Application) -> None:
    async with application(peer=("203.0.113.9", 1), rate_limit_writes="1/day") as client:
        assert await send(client, REVIEWS, 1, X_Forwarded_For="198.51.100.7") == [201]
        assert await send(client, REVIEWS, 1, X_Forwarded_For="198.51.100.8") == [429]


async def test_clients_of_a_unix_socket_are_counted_together(make_settings: Callable[..., Settings]) -> None:
    app = create_app(make_settings(rate_limit_writes="1/day"))
    transport = httpx.ASGITransport(app, client=cast("Any", None))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://testserver") as client,
    ):
        assert await send(client, REVIEWS, 2) == [201, 429]


async def test_instances_share_the_count_through_redis(application: Application) -> None:
    async with application(rate_limit_writes="2/day") as one, application(rate_limit_writes="2/day") as other:
        assert [*await send(one, REVIEWS), *await send(other, REVIEWS), *await send(one, REVIEWS)] == [201, 201, 429]


async def test_each_instance_counts_for_itself_while_redis_is_away(application: Application) -> None:
    async with (
        application(rate_limit_writes="1/day", redis_url=AWAY) as one,
        application(rate_limit_writes="1/day", redis_url=AWAY) as other,
    ):
        assert await send(one, REVIEWS, 2) == [201, 429]
        assert await send(other, REVIEWS, 2) == [201, 429]


async def test_a_site_has_a_ceiling_over_its_networks(application: Application) -> None:
    async with application(rate_limit_writes="1/day") as client:
        networks = [f"2001:db8:77:{number:x}::1" for number in range(CLIENTS_A_SITE + 1)]
        answers = [(await send(client, REVIEWS, X_Forwarded_For=address))[0] for address in networks]
        assert answers == [201] * CLIENTS_A_SITE + [429]
        assert await send(client, REVIEWS, X_Forwarded_For="2001:db8:78:1::1") == [201]


@pytest.mark.parametrize("peer", ["::ffff:127.0.0.1", "::ffff:7f00:1"])
async def test_a_dual_stack_socket_knows_its_proxy_and_its_clients(application: Application, peer: str) -> None:
    async with application(peer=(peer, 1), rate_limit_writes="1/day") as client:
        assert await send(client, REVIEWS, 2, X_Forwarded_For="198.51.100.21") == [201, 429]
        assert await send(client, REVIEWS, 1, X_Forwarded_For="[::ffff:198.51.100.21]:4711") == [429]
        assert await send(client, REVIEWS, 1, X_Forwarded_For="198.51.100.22") == [201]
        assert (await client.get("/metrics")).status_code == 200
