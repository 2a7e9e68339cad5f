"""A pooler in transaction mode: a real PgBouncer, which gives each transaction any of its few sessions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from app.database import pool as module
from app.database import sessions
from app.database.pool import Database, DatabaseUnavailable
from app.database.sessions import session_of
from tests.conftest import Application
from tests.database.pgbouncer import pgbouncer
from tests.database.test_away import beside, opened

CATALOGUE = "/api/v1/destinations"
SESSIONS = 3
QUERIES = [
    *("?tag=sunset", "?regency=Gianyar", "?month=7&limit=5", "?max_fee=50000", "?q=temple", "?q=beach&tag=sunset"),
    *("/tanah-lot", "/tanah-lot/reviews", "?category=temple&limit=3", "?min_rating=4", "", "?q=rice&month=3"),
]
PATHS = [CATALOGUE + query for query in QUERIES]


@pytest.fixture
def pooler_url(tmp_path: Path, database_url: str) -> Iterator[str]:
    """Yield the URL of the test's database behind PgBouncer."""
    with pgbouncer(tmp_path, database_url, SESSIONS) as url:
        yield url


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for connections as long as a busy machine takes."""
    for name in ("ACQUIRE_TIMEOUT", "COMMAND_TIMEOUT", "CONNECT_TIMEOUT", "REPEAT_WITHIN"):
        monkeypatch.setattr(module, name, 60.0)


@asynccontextmanager
async def clients(application: Application, url: str) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Yield a client of each of two applications on the database: their connections share the pooler's sessions."""
    async with (
        application(database_url=url, database_pool_size=20) as one,
        application(database_url=url, database_pool_size=20) as other,
    ):
        yield [one, other]


async def get_all(sides: list[httpx.AsyncClient], paths: list[str]) -> list[tuple[int, bytes]]:
    """Return status and content of a GET of each path, 40 at a time and on all sides in turn."""
    room = asyncio.Semaphore(40)

    async def get(number: int, path: str) -> tuple[int, bytes]:
        async with room:
            answer = await sides[number % len(sides)].get(path)
            return answer.status_code, answer.content

    return await asyncio.gather(*(get(number, path) for number, path in enumerate(paths)))


def count_ids_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection count its statements from 1, as connections of different processes do."""
    plain = asyncpg.Connection._get_unique_id  # type: ignore[attr-defined]

    def unique_id(connection: object, prefix: str) -> str:
        count = counts[connection] = counts.get(connection, 0) + 1
        asyncpg.connection._uid = count - 1  # type: ignore[attr-defined]
        return str(plain(connection, prefix))

    counts: dict[object, int] = {}
    monkeypatch.setattr(asyncpg.Connection, "_get_unique_id", unique_id)


def hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the pooler not recognised, as one that passes the server's process ids on."""

    async def never(_session: sessions.Session) -> bool:
        return False

    monkeypatch.setattr(sessions.Session, "is_shared", never)


@pytest.mark.parametrize("hidden", [False, True], ids=["recognised", "hidden"])
async def test_every_answer_is_that_without_a_pooler(
    application: Application, pooler_url: str, monkeypatch: pytest.MonkeyPatch, *, hidden: bool
) -> None:
    count_ids_alike(monkeypatch)
    if hidden:
        hide(monkeypatch)
    async with application() as direct:
        right = await get_all([direct], PATHS)
    assert {status for status, _ in right} == {200}
    async with clients(application, pooler_url) as sides:
        got = await get_all(sides, PATHS * 20)
    assert len(got) == 240
    assert got == right * 20


async def test_writes_through_a_pooler_are_stored_once(application: Application, pooler_url: str) -> None:
    inquiry = {"name": "A traveller", "email": "a@example.com", "message": "Two rooms?"}
    async with clients(application, pooler_url) as sides:

        async def post(number: int) -> tuple[int, int]:
            headers = {"Idempotency-Key": f"key {number // 2}".replace(" ", "-")}
            answer = await sides[number % 2].post("/api/v1/inquiries", json=inquiry, headers=headers)
            return answer.status_code, answer.json()["id"]

        answers = await asyncio.gather(*(post(number) for number in range(40)))
    assert {status for status, _ in answers} == {201}
    assert len({key for _, key in answers}) == 20


async def test_a_pooler_is_told_from_a_server(database_url: str, pooler_url: str) -> None:
    for url, shared in ((database_url, False), (pooler_url, True)):
        async with opened(url) as database, database.connection() as connection:
            assert session_of(connection).shared is shared
            await connection.fetchval("SELECT $1::int", 1)
            names = await connection.fetch("SELECT name FROM pg_prepared_statements")
            # Named statements save a round trip, so they are kept where they can be.
            assert bool(names) is not shared


async def test_nothing_of_a_request_stays_in_a_shared_session(pooler_url: str) -> None:
    other = await asyncpg.connect(pooler_url, statement_cache_size=0)
    await other.execute("SELECT set_config('jit', 'on', false), pg_advisory_lock(1)")
    async with opened(pooler_url) as database:
        assert await database.read("ping", lambda connection: connection.fetchval("SELECT ARRAY[$1::smallint]", 1)) == [
            1
        ]
    # All in the one session that is in use.
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = 1"
    assert await other.fetchval(held) == 1
    assert await other.fetchval("SHOW jit") == "on"
    await other.close()


async def test_a_column_does_not_change_its_type_between_description_and_execution(
    database_url: str, pooler_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def describe(*arguments: Any, **options: Any) -> object:
        described = await plain(*arguments, **options)
        with contextlib.suppress(asyncpg.LockNotAvailableError):
            await beside(database_url, "SET lock_timeout = '10ms'; ALTER TABLE place ALTER size TYPE real")
        return described

    plain = asyncpg.Connection._get_statement  # type: ignore[attr-defined]
    monkeypatch.setattr(sessions.Session, "_get_statement", describe, raising=False)
    await beside(database_url, "CREATE TABLE place AS SELECT 7 AS size")
    async with opened(pooler_url) as database:
        # The type of an array is looked up after the description. The bits of 7.0 are the integer 1088421888.
        query = "SELECT size, ARRAY[size] FROM place WHERE size > $1"
        rows = await database.read("ping", lambda one: one.fetch(query, 0))
    assert [tuple(row) for row in rows] == [(7, [7])]


async def test_names_of_statements_are_not_used_twice(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    count_ids_alike(monkeypatch)
    names: list[str] = []
    async with database.connection() as one, database.connection() as other:
        for connection in (one, other):
            await connection.fetchval("SELECT $1::int", 1)
            names += [row["name"] for row in await connection.fetch("SELECT name FROM pg_prepared_statements")]
    assert len(names) == len(set(names)) >= 2


async def test_a_lost_statement_ends_the_use_of_names(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(connection: module.Connection) -> object:
        calls.append(1)
        value = await connection.fetchval("SELECT $1::int", 1)
        if not session_of(connection).shared:
            await connection.execute("DEALLOCATE ALL")
        return value + await connection.fetchval("SELECT $1::int", 1)

    calls: list[int] = []
    assert await database.transact("add_review", lose) == 2
    assert len(calls) == 2
    async with database.connection() as connection:
        assert session_of(connection).shared


async def test_a_lost_statement_outside_of_a_request_means_away(database: Database) -> None:
    async def lose() -> None:
        async with database.connection() as connection:
            await connection.execute("EXECUTE nothing")

    with pytest.raises(DatabaseUnavailable, match="InvalidSQLStatementNameError"):
        await lose()
