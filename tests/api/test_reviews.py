"""Reviews over HTTP."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from app.api.dependencies import encode_cursor
from tests.conftest import Application

PLACE = "/api/v1/destinations/amed"
PATH = f"{PLACE}/reviews"


async def add(client: httpx.AsyncClient, rating: float, text: str = "fine") -> dict[str, Any]:
    answer = await client.post(PATH, json={"rating": rating, "text": text})
    assert answer.status_code == 201, answer.text
    stored: dict[str, Any] = answer.json()
    return stored


async def test_a_review_is_stored_and_listed(client: httpx.AsyncClient) -> None:
    stored = await add(client, 5, "  Clear water.  ")
    assert stored["rating"] == 5
    assert stored["text"] == "Clear water."
    assert (await client.get(PATH)).json() == {"items": [stored], "next_cursor": None}


async def test_a_review_belongs_to_one_place(client: httpx.AsyncClient) -> None:
    await add(client, 5)
    assert (await client.get("/api/v1/destinations/tanah-lot/reviews")).json()["items"] == []


@pytest.mark.parametrize("rating", [1, 5, 5.0])
async def test_the_bounds_of_a_rating_are_allowed(client: httpx.AsyncClient, rating: float) -> None:
    assert (await add(client, rating))["rating"] == rating


@pytest.mark.parametrize("rating", [0, 6, -1, 2**70, 4.5, 6.0, "5", True, None, [5]], ids=repr)
async def test_a_rating_is_a_whole_number_from_one_to_five(client: httpx.AsyncClient, rating: object) -> None:
    answer = await client.post(PATH, json={"rating": rating, "text": "fine"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"] == ["body", "rating"]


@pytest.mark.parametrize(
    "text", ["", " \t\n", "x" * 4001, "a\\u0000b", "\\ud800", None], ids=lambda text: repr(text)[:12]
)
async def test_a_text_that_cannot_be_stored_is_refused(
    client: httpx.AsyncClient, database_url: str, text: str | None
) -> None:
    content = (
        '{"rating": 5}'
        if text is None
        else f'{{"rating": 5, "text": "{text}"}}'.replace("\t", "\\t").replace("\n", "\\n")
    )
    answer = await client.post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"] == ["body", "text"]
    assert (await client.get(PATH)).json()["items"] == []


async def test_a_text_of_the_longest_kind_is_stored_whole(client: httpx.AsyncClient) -> None:
    text = "\N{WATER WAVE}" * 4000
    assert (await add(client, 3, text))["text"] == text


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_place_has_no_reviews(client: httpx.AsyncClient, method: str) -> None:
    content = {"rating": 5, "text": "fine"} if method == "POST" else None
    answer = await client.request(method, "/api/v1/destinations/atlantis/reviews", json=content)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "No destination has this slug."


async def test_a_slug_of_another_form_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/v1/destinations/Amed/reviews", json={"rating": 5, "text": "fine"})
    assert answer.status_code == 422


async def test_the_average_is_right_under_concurrent_reviews(client: httpx.AsyncClient, database_url: str) -> None:
    ratings = [1 + number % 5 if number % 3 else 5 for number in range(40)]
    await asyncio.gather(*(add(client, rating) for rating in ratings))
    place = (await client.get(PLACE)).json()
    assert place["rating_count"] == 40
    assert place["rating_average"] == pytest.approx(sum(ratings) / 40, abs=0.005)
    connection = await asyncpg.connect(database_url)
    stored = await connection.fetchrow("SELECT count(*), sum(rating) FROM reviews")
    await connection.close()
    assert tuple(stored or ()) == (40, sum(ratings))


async def test_the_newest_review_comes_first(client: httpx.AsyncClient) -> None:
    ids = [(await add(client, 4, f"number {number}"))["id"] for number in range(3)]
    listed = (await client.get(PATH)).json()["items"]
    assert [review["id"] for review in listed] == ids[::-1]
    times = [review["created_at"] for review in listed]
    assert times == sorted(times, reverse=True)


async def test_the_pages_hold_every_review_once_while_others_are_written(client: httpx.AsyncClient) -> None:
    ids = [(await add(client, 4))["id"] for _ in range(7)]
    found: list[int] = []
    parameters: dict[str, str] = {"limit": "3"}
    while parameters.get("cursor") != "None":
        page = (await client.get(PATH, params=parameters)).json()
        found += [review["id"] for review in page["items"]]
        parameters["cursor"] = str(page["next_cursor"])
        await add(client, 1, "too late for this walk")
    assert found == ids[::-1]


async def test_a_page_that_ends_with_the_last_review_has_no_next_one(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await add(client, 4)
    assert (await client.get(PATH, params={"limit": 2})).json()["next_cursor"] is None


@pytest.mark.parametrize(
    "cursor",
    [
        "?",
        "AAAAA",
        encode_cursor("1"),
        encode_cursor(1.5),
        encode_cursor(True),
        encode_cursor(1, 2),
        encode_cursor(2**63),
        encode_cursor(2**64 - 1),
        "WzE4NDQ2NzQ0MDczNzA5NTUxNjE2XQ",
    ],
)
async def test_a_cursor_that_no_page_gave_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    await add(client, 5)
    answer = await client.get(PATH, params={"cursor": cursor})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"] == ["query", "cursor"]


@pytest.mark.parametrize("limit", ["0", "101", "x"])
async def test_a_page_has_one_to_a_hundred_reviews(client: httpx.AsyncClient, limit: str) -> None:
    assert (await client.get(PATH, params={"limit": limit})).status_code == 422


@pytest.mark.parametrize("redis", [{}, {"redis_url": "unix:///nonexistent.sock"}], ids=["Redis there", "Redis away"])
async def test_a_cached_place_is_fresh_after_a_review(application: Application, redis: dict[str, str]) -> None:
    async with application(**redis) as client:
        assert (await client.get(PLACE)).json()["rating_count"] == 0
        for count, rating in enumerate([5, 4, 4], 1):
            await add(client, rating)
            assert (await client.get(PLACE)).json()["rating_count"] == count
        assert (await client.get(PLACE)).json()["rating_average"] == 4.33


async def test_another_instance_sees_the_place_fresh_after_a_review(application: Application) -> None:
    async with application() as one, application() as other:
        assert (await other.get(PLACE)).json()["rating_count"] == 0
        await add(one, 2)
        assert (await other.get(PLACE)).json()["rating_average"] == 2.0
