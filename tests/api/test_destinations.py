"""The catalogue over HTTP."""

from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest
from redis.asyncio import Redis

from app.api.dependencies import encode_cursor
from app.database.migrate import SEED
from tests.conftest import Application

PATH = "/api/v1/destinations"
PROBLEM = "application/problem+json"
CATALOGUE: list[dict[str, Any]] = sorted(orjson.loads(SEED.read_bytes()), key=lambda place: place["slug"])


def slugs(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["slug"] for item in answer.json()["items"]]


async def walk(client: httpx.AsyncClient, limit: int, **filters: str) -> list[str]:
    """Return the slugs of every page, following next_cursor."""
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get(PATH, params={**filters, **cursor, "limit": limit})
        page = slugs(answer)
        assert 0 < len(page) <= limit
        found += page
        following = answer.json()["next_cursor"]
        if following is None:
            return found
        cursor = {"cursor": following}


async def test_the_catalogue_is_listed_by_slug(client: httpx.AsyncClient) -> None:
    answer = await client.get("/api/v1/destinations", params={"limit": 5})
    assert answer.status_code == 200
    slugs = [item["slug"] for item in answer.json()["items"]]
    assert slugs == sorted(slugs)
    assert len(slugs) == 5


async def test_a_page_has_twenty_items_unless_told_otherwise(client: httpx.AsyncClient) -> None:
    assert slugs(await client.get(PATH)) == [place["slug"] for place in CATALOGUE[:20]]


@pytest.mark.parametrize("slug", ["uluwatu-temple", "kuta-beach"])
async def test_a_place_is_answered_as_the_catalogue_holds_it(client: httpx.AsyncClient, slug: str) -> None:
    (stored,) = [place for place in CATALOGUE if place["slug"] == slug]
    answer = await client.get(f"{PATH}/{slug}")
    assert answer.json() == {**stored, "rating_average": None, "rating_count": 0}


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        ("uluwatu", "uluwatu-temple"),
        ("ULUWATU", "uluwatu-temple"),
        ("macaques", "uluwatu-temple"),
        ("macaque", "uluwatu-temple"),
        ("sunsets karangasem", "amed"),
        ("moated royal", "taman-ayun-temple"),
        ('"royal temple"', "taman-ayun-temple"),
    ],
)
async def test_a_search_finds_words_in_any_of_their_forms(client: httpx.AsyncClient, words: str, slug: str) -> None:
    found = slugs(await client.get(PATH, params={"q": words, "limit": 100}))
    assert slug in found
    assert len(found) < len(CATALOGUE)


async def test_a_search_puts_the_best_match_first(client: httpx.AsyncClient) -> None:
    found = slugs(await client.get(PATH, params={"q": "batur"}))
    assert set(found[:2]) == {"mount-batur", "lake-batur"}
    assert len(found) > 2


async def test_a_search_leaves_out_what_a_minus_names(client: httpx.AsyncClient) -> None:
    every = slugs(await client.get(PATH, params={"q": "temple", "limit": 100}))
    some = slugs(await client.get(PATH, params={"q": "temple -unesco", "limit": 100}))
    assert "tirta-empul" in every
    assert "tirta-empul" not in some
    assert set(some) < set(every)


@pytest.mark.parametrize("words", ["zeppelin", "the", "   ", "& | ! ( ) :* '", "\\"])
async def test_a_search_without_a_match_is_an_empty_page(client: httpx.AsyncClient, words: str) -> None:
    answer = await client.get(PATH, params={"q": words})
    assert answer.status_code == 200
    assert answer.json() == {"items": [], "next_cursor": None}


FILTERS: dict[str, tuple[dict[str, str], Callable[[dict[str, Any]], bool]]] = {
    "regency": ({"regency": "Gianyar"}, lambda place: place["regency"] == "Gianyar"),
    "regency in another case": ({"regency": "bANGLI"}, lambda place: place["regency"] == "Bangli"),
    "category": ({"category": "temple"}, lambda place: place["category"] == "temple"),
    "tag": ({"tag": "snorkelling"}, lambda place: "snorkelling" in place["tags"]),
    "free": ({"max_fee": "0"}, lambda place: not place["entrance_fee_idr"]),
    "fee": ({"max_fee": "25000"}, lambda place: (place["entrance_fee_idr"] or 0) <= 25_000),
    "month": ({"month": "1"}, lambda place: 1 in place["best_months"]),
    "two": (
        {"category": "beach", "tag": "surf"},
        lambda place: place["category"] == "beach" and "surf" in place["tags"],
    ),
    "all": (
        {"q": "temple", "regency": "Gianyar", "category": "temple", "tag": "history", "max_fee": "60000", "month": "6"},
        lambda place: place["slug"] == "goa-gajah",
    ),
    "nothing": ({"category": "no such category"}, lambda _: False),
}


@pytest.mark.parametrize(("parameters", "fits"), FILTERS.values(), ids=FILTERS.keys())
async def test_a_filter_keeps_exactly_what_fits(
    client: httpx.AsyncClient, parameters: dict[str, str], fits: Callable[[dict[str, Any]], bool]
) -> None:
    answer = await client.get(PATH, params={**parameters, "limit": "100"})
    assert sorted(slugs(answer)) == [place["slug"] for place in CATALOGUE if fits(place)]


async def test_min_rating_compares_with_the_average(client: httpx.AsyncClient) -> None:
    for slug, ratings in {"amed": (4, 5), "tanah-lot": (4, 4), "ubud-palace": (5,)}.items():
        for rating in ratings:
            await client.post(f"{PATH}/{slug}/reviews", json={"rating": rating, "text": "as it was"})
    assert slugs(await client.get(PATH, params={"min_rating": 4.5})) == ["amed", "ubud-palace"]
    assert slugs(await client.get(PATH, params={"min_rating": 1})) == ["amed", "tanah-lot", "ubud-palace"]


@pytest.mark.parametrize("filters", [{}, {"q": "temple"}, {"q": "view or beach", "month": "7"}], ids=str)
@pytest.mark.parametrize("limit", [1, 7])
async def test_the_pages_hold_every_item_once(client: httpx.AsyncClient, limit: int, filters: dict[str, str]) -> None:
    at_once = slugs(await client.get(PATH, params={**filters, "limit": 100}))
    assert len(at_once) > 7
    assert await walk(client, limit, **filters) == at_once


async def test_the_whole_catalogue_fits_one_page_of_a_hundred(client: httpx.AsyncClient) -> None:
    assert await walk(client, 100) == [place["slug"] for place in CATALOGUE]


async def test_a_page_that_ends_with_the_last_item_has_no_next_one(client: httpx.AsyncClient) -> None:
    answer = await client.get(PATH, params={"limit": len(CATALOGUE)})
    assert len(slugs(answer)) == len(CATALOGUE)
    assert answer.json()["next_cursor"] is None


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "A",
        "bm90IGpzb24",
        "\N{SNOWMAN}",
        encode_cursor(),
        encode_cursor(0.5),
        encode_cursor(0, "amed"),
        encode_cursor(True, "amed"),
        encode_cursor(0.5, None),
        encode_cursor(0.5, ["amed"]),
        encode_cursor(0.5, "amed", 1),
        encode_cursor(0.5, "a\x00b"),
        encode_cursor(2**64 - 1, "amed"),
        "x" * 401,
    ],
)
async def test_a_cursor_that_no_page_gave_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    answer = await client.get(PATH, params={"cursor": cursor})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["errors"][0]["where"] == ["query", "cursor"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limit", "0"),
        ("limit", "101"),
        ("limit", "many"),
        ("month", "0"),
        ("month", "13"),
        ("max_fee", "-1"),
        ("max_fee", str(2**31)),
        ("min_rating", "0.9"),
        ("min_rating", "5.1"),
        ("min_rating", "nan"),
        ("min_rating", "inf"),
        ("q", ""),
        ("q", "x" * 201),
        ("regency", "x" * 41),
        ("category", "x" * 41),
        ("tag", "x" * 41),
        ("q", "a\x00b"),
        ("regency", "\x00"),
        ("category", "a\x00"),
        ("tag", "\x00b"),
    ],
)
async def test_a_parameter_outside_its_bounds_is_refused(client: httpx.AsyncClient, name: str, value: str) -> None:
    answer = await client.get(PATH, params={name: value})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["errors"][0]["where"] == ["query", name]


@pytest.mark.parametrize("query", ["max_fee=2147483647", "limit=1", "limit=100", "month=12", "min_rating=5", "q=x"])
async def test_the_bounds_themselves_are_allowed(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"{PATH}?{query}")).status_code == 200


@pytest.mark.parametrize("slug", ["Amed", "a_b", "x" * 81, "amed%0A", "%00", "a.b", "%C3%A9"])
async def test_a_slug_of_another_form_is_refused(client: httpx.AsyncClient, slug: str) -> None:
    answer = await client.get(f"{PATH}/{slug}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["where"] == ["path", "slug"]


async def test_an_unknown_place_is_not_found(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        answer = await client.get(f"{PATH}/atlantis")
        assert answer.status_code == 404
        assert answer.json()["detail"] == "No destination has this slug."


async def test_a_place_is_kept_for_a_minute(client: httpx.AsyncClient, redis_url: str) -> None:
    await client.get("/api/v1/destinations/amed")
    async with Redis.from_url(redis_url) as redis:
        assert 0 < await redis.pttl("cache:destinations:amed") <= 60_000


async def test_a_place_is_answered_while_redis_is_away(application: Application) -> None:
    async with application(redis_url="unix:///nonexistent.sock") as client:
        for _ in range(2):
            assert (await client.get(f"{PATH}/amed")).json()["name"] == "Amed (Jemeluk Bay)"
