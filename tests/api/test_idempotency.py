"""Idempotency keys of inquiries over HTTP: one key of one caller is one inquiry for its lifetime."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import asyncpg
import httpx
import pytest

from app.database import idempotency
from app.database.idempotency import DELETE, GRACE, delete_expired
from app.database.pool import Database
from tests.api.test_inquiries import FULL, PATH, SHORT
from tests.conftest import Application

Rows = asyncpg.Connection


@pytest.fixture
async def rows(database_url: str) -> AsyncIterator["Rows[asyncpg.Record]"]:
    """Yield a second connection, which sees only what is committed."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def count(rows: "Rows[asyncpg.Record]") -> int:
    return int(await rows.fetchval("SELECT count(*) FROM inquiries"))


async def send(
    client: httpx.AsyncClient, content: dict[str, Any], key: str, address: str = "198.51.100.7"
) -> httpx.Response:
    return await client.post(PATH, json=content, headers={"Idempotency-Key": key, "X-Forwarded-For": address})


async def test_a_retry_under_the_same_key_stores_one_inquiry(
    client: httpx.AsyncClient, rows: "Rows[asyncpg.Record]"
) -> None:
    first = await client.post(PATH, json=FULL, headers={"Idempotency-Key": "one"})
    retry = await client.post(PATH, json={**FULL, "name": " Ayu Lestari "}, headers={"Idempotency-Key": "one"})
    assert first.status_code == retry.status_code == 201
    assert first.json() == retry.json()
    assert "Idempotency-Replayed" not in first.headers
    assert retry.headers["Idempotency-Replayed"] == "true"
    assert await count(rows) == 1


async def test_concurrent_retries_under_one_key_store_one_inquiry(
    application: Application, rows: "Rows[asyncpg.Record]"
) -> None:
    async with application() as one, application() as other:
        clients = [one, other] * 10
        headers = {"Idempotency-Key": "the-same"}
        answers = await asyncio.gather(*(client.post(PATH, json=FULL, headers=headers) for client in clients))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    assert await count(rows) == 1


async def test_without_a_key_or_under_another_one_the_same_content_is_a_new_inquiry(
    client: httpx.AsyncClient, rows: "Rows[asyncpg.Record]"
) -> None:
    headers: list[dict[str, str]] = [{}, {}, {"Idempotency-Key": "a"}, {"Idempotency-Key": "b"}]
    ids = {(await client.post(PATH, json=SHORT, headers=header)).json()["id"] for header in headers}
    assert len(ids) == await count(rows) == 4


@pytest.mark.parametrize("change", [{"message": "Another."}, {"party_size": 3}, {"phone": None}], ids=str)
async def test_a_key_that_was_used_with_other_content_is_refused_without_that_content(
    client: httpx.AsyncClient, rows: "Rows[asyncpg.Record]", change: dict[str, Any]
) -> None:
    first = await send(client, FULL, "one")
    answer = await send(client, {**FULL, **change}, "one")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.pop("request_id") == answer.headers["X-Request-ID"]
    assert problem == {
        "type": "about:blank",
        "title": HTTPStatus.UNPROCESSABLE_ENTITY.phrase,
        "status": 422,
        "detail": "This Idempotency-Key was used for other content. Send a new key with new content.",
        "instance": PATH,
    }
    assert "Idempotency-Replayed" not in answer.headers
    assert await count(rows) == 1
    assert (await send(client, FULL, "one")).json() == first.json()


async def test_the_same_key_of_another_caller_is_another_key(
    client: httpx.AsyncClient, rows: "Rows[asyncpg.Record]"
) -> None:
    one = await send(client, FULL, "one", "198.51.100.7")
    same, other = await send(client, FULL, "one", "198.51.100.8"), await send(client, SHORT, "one", "2001:db8::1")
    assert [answer.status_code for answer in (one, same, other)] == [201, 201, 201]
    assert len({answer.json()["id"] for answer in (one, same, other)}) == await count(rows) == 3
    assert (await send(client, FULL, "one", "198.51.100.7")).json() == one.json()
    assert (await send(client, SHORT, "one", "2001:db8::2")).json() == other.json()
    assert (await send(client, SHORT, "one", "198.51.100.8")).status_code == 422


async def test_neither_the_key_nor_the_callers_address_is_stored(
    client: httpx.AsyncClient, rows: "Rows[asyncpg.Record]"
) -> None:
    await send(client, SHORT, "one", "198.51.100.7")
    stored = await rows.fetchrow("SELECT key, caller FROM idempotency_keys")
    assert tuple(stored or ()) == tuple(hashlib.sha256(text).hexdigest() for text in (b"one", b"one 198.51.100.7"))


@pytest.mark.parametrize("content", [FULL, SHORT], ids=["same content", "other content"])
async def test_a_key_can_be_used_again_once_it_has_expired(
    application: Application, rows: "Rows[asyncpg.Record]", content: dict[str, Any]
) -> None:
    async with application(idempotency_key_lifetime=3600) as client:
        first = await send(client, FULL, "one")
        await rows.execute("UPDATE idempotency_keys SET created_at = created_at - interval '59 minutes'")
        assert (await send(client, FULL, "one")).headers["Idempotency-Replayed"] == "true"
        await rows.execute("UPDATE idempotency_keys SET created_at = created_at - interval '1 minute'")
        again = await send(client, content, "one")
        assert again.status_code == 201
        assert again.json()["id"] != first.json()["id"]
        assert (await send(client, content, "one")).json() == again.json()
    assert await count(rows) == 2
    assert await rows.fetchval("SELECT count(*) FROM idempotency_keys") == 1


async def test_concurrent_uses_of_an_expired_key_store_one_inquiry(
    application: Application, rows: "Rows[asyncpg.Record]"
) -> None:
    async with application() as client:
        await send(client, FULL, "one")
        await rows.execute("UPDATE idempotency_keys SET created_at = created_at - interval '2 days'")
        answers = await asyncio.gather(*(send(client, FULL, "one") for _ in range(10)))
    assert len({answer.text for answer in answers}) == 1
    assert await count(rows) == 2


@pytest.mark.parametrize("key", [b"", b"two words", b"x" * 129, "é".encode(), b"a\tb"], ids=lambda key: repr(key)[:12])
async def test_a_key_of_another_form_is_refused(
    client: httpx.AsyncClient, rows: "Rows[asyncpg.Record]", key: bytes
) -> None:
    answer = await client.post(PATH, json=SHORT, headers={b"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["where"] == ["header", "idempotency-key"]
    assert await count(rows) == 0


async def test_only_expired_keys_are_deleted(database: Database, rows: "Rows[asyncpg.Record]") -> None:
    lifetime = timedelta(days=1)
    ages = [lifetime + GRACE + timedelta(minutes=number) for number in range(1, 8)] + [lifetime, timedelta(0)]
    await rows.executemany(
        "INSERT INTO idempotency_keys VALUES ($1, 'c', 'd', 1, now() - $2::interval)",
        [(str(age), age) for age in ages],
    )
    assert await delete_expired(database, lifetime, batch=3) == 7
    kept = await rows.fetch("SELECT key FROM idempotency_keys ORDER BY created_at")
    assert [row["key"] for row in kept] == [str(age) for age in ages[-2:]]


async def test_expired_keys_are_deleted_while_the_service_runs(
    application: Application, rows: "Rows[asyncpg.Record]", monkeypatch: pytest.MonkeyPatch
) -> None:
    done = asyncio.Event()

    async def delete(*arguments: Any) -> None:
        await delete_expired(*arguments)
        done.set()

    monkeypatch.setattr(idempotency, "delete_expired", delete)
    monkeypatch.setattr(idempotency, "DELETION_INTERVAL", 0.02)
    await rows.execute(
        "INSERT INTO idempotency_keys SELECT n, 'c', 'd', n, now() - n * interval '23 hours'"
        " FROM generate_series(0, 9) AS n"
    )
    async with application(idempotency_key_lifetime=86_400):
        await asyncio.wait_for(done.wait(), 30)
    assert await rows.fetchval("SELECT count(*) FROM idempotency_keys") == 2


async def test_the_deletion_does_not_read_the_table(rows: "Rows[asyncpg.Record]") -> None:
    await rows.execute(
        "INSERT INTO idempotency_keys SELECT n, 'c', 'd', n, now() - n * interval '1 minute'"
        " FROM generate_series(1, 20000) AS n"
    )
    await rows.execute("ANALYZE idempotency_keys")
    plan = await rows.fetch(f"EXPLAIN {DELETE}", timedelta(days=1) + GRACE, 1000)
    text = "\n".join(row[0] for row in plan)
    assert "idempotency_keys_created_at" in text
    assert "Seq Scan" not in text


async def test_the_version_before_can_still_write_during_an_update(rows: "Rows[asyncpg.Record]") -> None:
    statement = (
        "INSERT INTO inquiries (name, email, message, party_size, idempotency_key, request_digest)"
        " VALUES ('Ayu', 'ayu@example.com', 'Hello.', 1, 'one', 'd')"
        " ON CONFLICT (idempotency_key) DO NOTHING RETURNING id"
    )
    assert [await rows.fetchval(statement), await rows.fetchval(statement)] == [1, None]
