"""Inquiries over HTTP."""

from collections.abc import AsyncIterator, Callable

import asyncpg
import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.dependencies import encode_cursor
from app.main import create_app
from app.settings import Settings
from tests.conftest import ADMIN_KEY, Application

PATH = "/api/v1/inquiries"
STAFF = {"X-API-Key": ADMIN_KEY}
FULL = {
    "name": "Ayu Lestari",
    "email": "ayu@example.com",
    "phone": "+62 361 123456",
    "message": "Three days in Ubud, please.",
    "arrival": "2027-05-01",
    "departure": "2027-05-04",
    "party_size": 2,
}
SHORT = {"name": "Ayu", "email": "ayu@example.com", "message": "Hello."}


@pytest.fixture
async def rows(database_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """Yield a second connection, which sees only what is committed."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def count(rows: "asyncpg.Connection[asyncpg.Record]") -> int:
    return int(await rows.fetchval("SELECT count(*) FROM inquiries"))


async def test_an_inquiry_is_stored_as_it_was_sent(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json=FULL)
    assert answer.status_code == 201
    assert answer.json().keys() == {"id", "created_at"}
    (stored,) = (await client.get(PATH, headers=STAFF)).json()["items"]
    assert stored == {**FULL, **answer.json()}


async def test_what_a_traveller_leaves_out_has_its_default(client: httpx.AsyncClient) -> None:
    await client.post(PATH, json=SHORT)
    (stored,) = (await client.get(PATH, headers=STAFF)).json()["items"]
    assert {name: stored[name] for name in ("phone", "arrival", "departure", "party_size")} == {
        "phone": None,
        "arrival": None,
        "departure": None,
        "party_size": 1,
    }


async def test_201_is_sent_only_after_the_commit(
    make_settings: Callable[..., Settings], rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    app = create_app(make_settings())
    visible: list[int] = []

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        async def look_and_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                visible.append(await count(rows))
            await send(message)

        await app(scope, receive, look_and_send)

    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(watched)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            assert (await client.post(PATH, json=FULL)).status_code == 201
    assert visible == [1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "  "),
        ("name", "x" * 121),
        ("name", "a\x00"),
        ("email", "ayu"),
        ("email", "ayu@"),
        ("email", "a\x00yu@example.com"),
        ("email", f"{'x' * 60}@{'y.' * 100}example.com"),
        ("phone", "call me"),
        ("phone", "12345"),
        ("phone", "+62\x00361 123456"),
        ("message", ""),
        ("message", "x" * 4001),
        ("message", "\x00"),
        ("arrival", "tomorrow"),
        ("arrival", "2027-02-30"),
        ("party_size", 0),
        ("party_size", 501),
        ("party_size", "two"),
    ],
    ids=lambda value: repr(value)[:16],
)
async def test_a_field_of_another_form_is_refused(
    client: httpx.AsyncClient, rows: "asyncpg.Connection[asyncpg.Record]", field: str, value: object
) -> None:
    answer = await client.post(PATH, json={**FULL, field: value})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"] == ["body", field]
    assert await count(rows) == 0


@pytest.mark.parametrize("field", ["name", "email", "message"])
async def test_half_a_character_is_refused(client: httpx.AsyncClient, field: str) -> None:
    content = httpx.Request("POST", "/", json={**SHORT, field: "x\x01@example.com"}).content
    broken = content.replace(b"\\u0001", b"\\ud800")
    assert broken != content
    answer = await client.post(PATH, content=broken, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "quokka" * 30),
        ("email", "quokka.example.com"),
        ("email", "quokka..x@example.com"),
        ("email", "ayu@xn--quokka-ga.com"),
        ("phone", "quokka"),
        ("message", ["quokka"]),
        ("arrival", "quokka"),
        ("departure", "2027-quokka"),
        ("party_size", "quokka"),
    ],
)
async def test_a_refusal_does_not_repeat_private_input(client: httpx.AsyncClient, field: str, value: object) -> None:
    answer = await client.post(PATH, json={**FULL, field: value})
    assert answer.status_code == 422
    assert "quokka" not in answer.text


@pytest.mark.parametrize(
    ("content", "status"),
    [(b'{"name": "quokka', 422), (b"quokka", 422), (b'"quokka"', 422), (b"\xff quokka", 400), (b"[" * 100_000, 400)],
    ids=lambda value: repr(value)[:12],
)
async def test_a_body_that_is_no_inquiry_is_refused_and_not_repeated(
    client: httpx.AsyncClient, content: bytes, status: int
) -> None:
    answer = await client.post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "quokka" not in answer.text


async def test_a_departure_before_the_arrival_is_refused(
    client: httpx.AsyncClient, rows: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    answer = await client.post(PATH, json={**FULL, "departure": "2027-04-30"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["message"].endswith("want a departure on or after the arrival")
    assert await count(rows) == 0
    assert (await client.post(PATH, json={**FULL, "departure": FULL["arrival"]})).status_code == 201


async def test_one_of_the_two_dates_is_enough(client: httpx.AsyncClient) -> None:
    for name in ("arrival", "departure"):
        assert (await client.post(PATH, json={**SHORT, name: "2027-05-01"})).status_code == 201


@pytest.mark.parametrize("key", [None, b"", b"wrong", ADMIN_KEY[:-1].encode(), f"{ADMIN_KEY}x".encode(), b"\xe9"])
async def test_the_list_needs_the_admin_key(client: httpx.AsyncClient, key: bytes | None) -> None:
    await client.post(PATH, json=FULL)
    answer = await client.get(PATH, headers={} if key is None else {b"X-API-Key": key})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "ApiKey"
    assert "Ayu" not in answer.text


@pytest.mark.parametrize("key", ["", ADMIN_KEY, "None"])
async def test_without_an_admin_key_nobody_sees_the_list(application: Application, key: str) -> None:
    async with application(admin_api_key=None) as client:
        assert (await client.get(PATH, headers={"X-API-Key": key})).status_code == 401
        assert (await client.get(PATH)).status_code == 401


@pytest.mark.parametrize("limit", [1, 3, 4])
async def test_the_pages_hold_every_inquiry_once_newest_first(client: httpx.AsyncClient, limit: int) -> None:
    ids = [(await client.post(PATH, json=SHORT)).json()["id"] for _ in range(8)]
    found: list[int] = []
    parameters: dict[str, str] = {"limit": str(limit)}
    while parameters.get("cursor") != "None":
        page = (await client.get(PATH, params=parameters, headers=STAFF)).json()
        found += [inquiry["id"] for inquiry in page["items"]]
        parameters["cursor"] = str(page["next_cursor"])
    assert found == ids[::-1]


@pytest.mark.parametrize("cursor", ["?", encode_cursor("1"), encode_cursor(False), encode_cursor(2**63)])
async def test_a_cursor_that_no_page_gave_is_refused(client: httpx.AsyncClient, cursor: str) -> None:
    answer = await client.get(PATH, params={"cursor": cursor}, headers=STAFF)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"] == ["query", "cursor"]
