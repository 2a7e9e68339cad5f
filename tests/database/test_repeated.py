"""Requests that the server undid: schemas that change, serialization failures and deadlocks."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import httpx
import pytest

from app.database import pool as module
from app.database.pool import Database, DatabaseUnavailable
from tests.conftest import Application
from tests.database.test_away import beside

DETAIL = "/api/v1/destinations/tanah-lot"
REVIEWS = f"{DETAIL}/reviews"
REVIEW = {"rating": 5, "text": "Good."}


Client: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for answers as long as a busy machine takes."""
    for name in ("ACQUIRE_TIMEOUT", "COMMAND_TIMEOUT", "CONNECT_TIMEOUT", "REPEAT_WITHIN"):
        monkeypatch.setattr(module, name, 60.0)


@pytest.fixture
async def others(database_url: str) -> AsyncIterator[list[Client]]:
    """Yield connections of two other clients to the test's database."""
    connections = [await asyncpg.connect(database_url) for _ in range(2)]
    yield connections
    for connection in connections:
        connection.terminate()


async def waits_for_lock(watcher: Client, whose: str = "application_name = 'baliblissed'") -> None:
    """Wait until a session of the test's database waits for a lock, the service's unless another is given."""
    query = f"SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() AND {whose}"
    async with asyncio.timeout(30):
        while await watcher.execute(query) == "SELECT 0":
            pass


ALTERATIONS = [
    f"ALTER TABLE {column} TYPE {kind}"
    for kinds in (("bigint", "integer"), ("integer", "smallint"))
    for column, kind in zip(("destinations ALTER visit_minutes", "reviews ALTER rating"), kinds, strict=True)
]


async def test_alterations_under_traffic_fail_no_request(application: Application, database_url: str) -> None:
    async with application() as client:

        async def review() -> int:
            return (await client.post(REVIEWS, json=REVIEW)).status_code

        async def look() -> int:
            return (await client.get("/api/v1/destinations")).status_code

        for alteration in ALTERATIONS:
            traffic = asyncio.gather(*((review, look)[number % 2]() for number in range(40)))
            await beside(database_url, alteration)
            assert {*await traffic} == {200, 201}
            # Writes first: after an error of a statement outside of a transaction the driver forgets all statements.
            assert {*await asyncio.gather(*(review() for _ in range(10)))} == {201}
        figures = (await client.get(DETAIL)).json()
    assert figures["rating_count"] == 30 * len(ALTERATIONS)


# Set-up, query of one argument "a", alteration and what the query returns afterwards.
SCHEMAS = {
    "enumeration_made_anew": (
        "CREATE TYPE kind AS ENUM ('a', 'b'); CREATE TABLE place (of kind); INSERT INTO place VALUES ('a')",
        "SELECT of FROM place WHERE of = $1",
        "CREATE TYPE new AS ENUM ('a', 'c'); ALTER TABLE place ALTER of TYPE new USING of::text::new; DROP TYPE kind",
        "a",
    ),
    "composite_with_another_field": (
        "CREATE TYPE spot AS (x int, y int); CREATE TABLE place (at spot); INSERT INTO place VALUES ((1, 2))",
        "SELECT at FROM place WHERE $1 = 'a'",
        "ALTER TYPE spot DROP ATTRIBUTE y; ALTER TYPE spot ADD ATTRIBUTE y text",
        (1, None),
    ),
    "domain_made_anew": (
        "CREATE DOMAIN kind AS text; CREATE TABLE place (of text); INSERT INTO place VALUES ('a')",
        "SELECT of FROM place WHERE of = $1::kind",
        "DROP DOMAIN kind; CREATE DOMAIN kind AS text",
        "a",
    ),
    "parameter_of_another_type": (
        "CREATE TYPE kind AS ENUM ('a'); CREATE TABLE place (of text); INSERT INTO place VALUES ('a')",
        "SELECT of FROM place WHERE of = $1",
        "ALTER TABLE place ALTER of TYPE kind USING of::kind",
        "a",
    ),
    "result_of_another_type": (
        "CREATE TABLE place (of text); INSERT INTO place VALUES ('a')",
        "SELECT of FROM place WHERE of = $1",
        "ALTER TABLE place ALTER of TYPE varchar(9)",
        "a",
    ),
}


@pytest.mark.parametrize("way", ["read", "transact"])
@pytest.mark.parametrize("name", SCHEMAS)
async def test_what_is_known_of_an_older_schema_is_forgotten(
    database: Database, database_url: str, name: str, way: str
) -> None:
    set_up, query, alteration, right = SCHEMAS[name]

    async def everywhere() -> list[object]:
        run = getattr(database, way)
        return list(await asyncio.gather(*(run("ping", lambda one: one.fetchval(query, "a")) for _ in range(4))))

    await beside(database_url, set_up)
    await everywhere()  # each connection keeps the statement
    await beside(database_url, alteration)
    assert await everywhere() == [right] * 4


@pytest.mark.parametrize(
    ("query", "error", "attempts"),
    [
        ("SELECT nothing FROM reviews WHERE id = $1", asyncpg.UndefinedColumnError, 1),
        ("SELECT 1 / ($1::int - 1)", asyncpg.DivisionByZeroError, 1),
        # It could be the type of a parameter in an older schema, so it has to come again.
        ("SELECT nothing($1::int)", asyncpg.UndefinedFunctionError, 2),
    ],
)
async def test_an_error_of_the_code_stays_an_error(
    database: Database, query: str, error: type[Exception], attempts: int
) -> None:
    async def ask(connection: module.Connection) -> object:
        calls.append(1)
        return await connection.fetchval(query, 1)

    for run in (database.read, database.transact):
        calls: list[int] = []
        with pytest.raises(error):
            await run("ping", ask)
        assert len(calls) == attempts


async def test_a_serialization_failure_is_repeated(application: Application, others: list[Client]) -> None:
    one, watcher = others
    await set_for_database(one, "default_transaction_isolation = 'repeatable read'")
    async with application() as client:
        async with one.transaction():
            await one.execute("UPDATE destinations SET rating_sum = 1, rating_count = 1 WHERE slug = 'tanah-lot'")
            posted = asyncio.create_task(client.post(REVIEWS, json=REVIEW))
            await waits_for_lock(watcher)
        assert (await posted).status_code == 201
        assert (await client.get(DETAIL)).json()["rating_count"] == 2
        assert len((await client.get(REVIEWS)).json()["items"]) == 1


async def test_the_victim_of_a_deadlock_is_repeated(application: Application, others: list[Client]) -> None:
    one, gate = others
    # The service finds the deadlock, the other client would wait for ever.
    await one.execute("SET deadlock_timeout = '1h'")
    await set_for_database(one, "deadlock_timeout = '10ms'")
    await one.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM"
        " pg_advisory_lock_shared(TG_ARGV[0]::int), pg_advisory_unlock_shared(TG_ARGV[0]::int); RETURN NULL; END';"
        "CREATE TRIGGER early BEFORE UPDATE ON destinations EXECUTE FUNCTION wait(1);"
        "CREATE TRIGGER late AFTER UPDATE ON destinations EXECUTE FUNCTION wait(2)"
    )
    await gate.execute("SELECT pg_advisory_lock(2)")
    async with application() as client:
        async with one.transaction():
            await one.execute("LOCK TABLE reviews")
            posted = asyncio.create_task(client.post(REVIEWS, json=REVIEW))
            await waits_for_lock(gate)  # it holds the row
            crossing = asyncio.create_task(one.execute("SELECT FROM destinations FOR UPDATE"))
            await waits_for_lock(gate, f"pid = {one.get_server_pid()}")
            await gate.execute("SELECT pg_advisory_lock(1), pg_advisory_unlock(2)")
            await crossing  # which it gets when the service's transaction is rolled back
            await gate.execute("SELECT pg_advisory_unlock(1)")
        assert (await posted).status_code == 201
        assert (await client.get(DETAIL)).json()["rating_count"] == 1


async def set_for_database(client: Client, setting: str) -> None:
    """Make a setting for later sessions of the test's database."""
    name = await client.fetchval("SELECT current_database()")
    await client.execute(f"ALTER DATABASE {name} SET {setting}")


async def count_attempts(database_url: str, code: str) -> None:
    """Have each new review fail with an SQLSTATE, and count them."""
    await beside(
        database_url,
        "CREATE SEQUENCE attempts",
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" PERFORM nextval('attempts'); RAISE EXCEPTION USING ERRCODE = '{code}'; END $$",
        "CREATE TRIGGER fail BEFORE INSERT ON reviews FOR EACH ROW EXECUTE FUNCTION fail()",
    )


async def attempted(database_url: str) -> object:
    connection = await asyncpg.connect(database_url)
    count = await connection.fetchval("SELECT last_value FROM attempts")
    await connection.close()
    return count


async def post(client: httpx.AsyncClient) -> tuple[int, str | None, int]:
    answer = await client.post(REVIEWS, json=REVIEW)
    return answer.status_code, answer.headers.get("retry-after"), (await client.get(DETAIL)).json()["rating_count"]


@pytest.mark.parametrize(
    ("code", "attempts"),
    [
        ("40001", 2),
        ("40P01", 2),
        ("25006", 2),
        ("26000", 2),
        ("40003", 1),  # the server does not know if it was done
        ("57014", 1),
        ("53300", 1),
    ],
)
async def test_a_second_failure_is_503_with_retry_after(
    application: Application, database_url: str, code: str, attempts: int
) -> None:
    await count_attempts(database_url, code)
    async with application() as client:
        assert await post(client) == (503, "2", 0)
    assert await attempted(database_url) == attempts


async def test_a_repetition_does_not_start_late(
    application: Application, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REPEAT_WITHIN", -1.0)
    await count_attempts(database_url, "40001")
    async with application() as client:
        assert await post(client) == (503, "2", 0)
    assert await attempted(database_url) == 1


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("no idea", asyncpg.InternalServerError),
        ("cache lookup failed for type 1", DatabaseUnavailable),
        ("could not open relation with OID 1", DatabaseUnavailable),
        ("tuple concurrently updated", DatabaseUnavailable),
    ],
)
async def test_an_internal_error_is_an_error_unless_the_catalogue_has_changed(
    database: Database, message: str, error: type[Exception]
) -> None:
    statement = f"DO $$ BEGIN RAISE EXCEPTION '{message}' USING ERRCODE = 'XX000'; END $$"
    with pytest.raises(error):
        await database.read("ping", lambda connection: connection.execute(statement))
