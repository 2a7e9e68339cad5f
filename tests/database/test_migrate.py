"""Migrations on a real PostgreSQL, by many workers at once."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from structlog.testing import capture_logs

from app.database import migrate as module
from app.database import pool
from app.database.destinations import add_review, detail
from app.database.migrate import MIGRATIONS, SEED, MigrationError, migrate, migrate_when_reachable
from app.database.pool import Database
from app.embedded import EmbeddedServers
from app.throttle import Throttle

NAMES = [*sorted(file.name for file in MIGRATIONS.glob("*.sql")), SEED.name]


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Database]:
    """Yield a pool on a database with nothing in it."""
    database = Database(empty_database_url)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a copy of the migrations and the data that a test may change."""
    shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    shutil.copy(SEED, tmp_path / SEED.name)
    return tmp_path


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.01)


async def apply(database: Database, files: Path) -> list[str]:
    return await migrate(database, files / "migrations", files / SEED.name)


async def fetch(database: Database, query: str) -> list[tuple[Any, ...]]:
    async with database.connection() as connection:
        return [tuple(row) for row in await connection.fetch(query)]


async def tables(database: Database) -> list[tuple[Any, ...]]:
    return await fetch(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")


def change_seed(files: Path, slug: str, **facts: object) -> None:
    path = files / SEED.name
    places = [{**place, **facts} if place["slug"] == slug else place for place in orjson.loads(path.read_bytes())]
    path.write_bytes(orjson.dumps(places))


async def test_an_empty_database_gets_everything_in_order(empty: Database) -> None:
    assert await migrate(empty) == NAMES
    assert await migrate(empty) == []
    stored = await fetch(empty, "SELECT slug FROM destinations ORDER BY slug")
    assert [slug for (slug,) in stored] == sorted(place["slug"] for place in orjson.loads(SEED.read_bytes()))


async def test_workers_that_start_together_apply_each_file_once(empty_database_url: str) -> None:
    workers = [Database(empty_database_url, size=2) for _ in range(8)]
    for worker in workers:
        await worker.open()
    applied = await asyncio.gather(*(migrate(worker) for worker in workers))
    assert sorted(applied, key=len) == [[]] * 7 + [NAMES]
    rows = await fetch(workers[0], "SELECT count(*), count(DISTINCT slug) FROM destinations")
    assert rows == [(len(orjson.loads(SEED.read_bytes())),) * 2]
    assert await fetch(workers[0], "SELECT count(*) FROM schema_migrations") == [(len(NAMES),)]
    for worker in workers:
        await worker.close()


async def test_a_new_file_is_applied_to_what_is_there(empty: Database, files: Path) -> None:
    await apply(empty, files)
    (files / "migrations" / "9999_new.sql").write_text("CREATE TABLE one (id int); CREATE TABLE two (id int);")
    assert await apply(empty, files) == ["9999_new.sql"]
    assert {("one",), ("two",)} < set(await tables(empty))


async def test_a_file_that_was_changed_after_it_had_been_applied_stops_everything(empty: Database, files: Path) -> None:
    await apply(empty, files)
    before = await fetch(empty, "SELECT * FROM schema_migrations ORDER BY name"), await tables(empty)
    with (files / "migrations" / NAMES[1]).open("a") as file:
        file.write("\n-- a remark\n")
    (files / "migrations" / "0001_a.sql").write_text("CREATE TABLE early (id int)")
    change_seed(files, "amed", name="Changed")
    with pytest.raises(MigrationError, match=f"{NAMES[1]} was changed after it had been applied"):
        await apply(empty, files)
    assert (await fetch(empty, "SELECT * FROM schema_migrations ORDER BY name"), await tables(empty)) == before
    assert (await detail(empty, "amed") or {})["name"] != "Changed"


async def test_sql_that_fails_leaves_nothing(empty: Database, files: Path) -> None:
    (files / "migrations" / "9999_wrong.sql").write_text("CREATE TABLE half (id int); SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await apply(empty, files)
    assert await tables(empty) == []
    (files / "migrations" / "9999_wrong.sql").write_text("CREATE TABLE half (id int);")
    assert await apply(empty, files) == [*NAMES[:-1], "9999_wrong.sql", SEED.name]


async def test_data_that_does_not_fit_leaves_nothing(empty: Database, files: Path) -> None:
    change_seed(files, "amed", latitude=100.0)
    with pytest.raises(asyncpg.CheckViolationError):
        await apply(empty, files)
    assert await tables(empty) == []


async def test_new_data_replaces_facts_and_keeps_ratings(empty: Database, files: Path) -> None:
    await apply(empty, files)
    await add_review(empty, "amed", 4, "fine")
    change_seed(files, "amed", name="New name", opens="09:00", closes="17:00")
    assert await apply(empty, files) == [SEED.name]
    place = await detail(empty, "amed") or {}
    assert (place["name"], place["opens"], place["closes"]) == ("New name", "09:00", "17:00")
    assert (place["rating_average"], place["rating_count"]) == (4.0, 1)
    assert await apply(empty, files) == []


async def test_a_migration_may_take_longer_than_a_request_may(
    empty_database_url: str, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "COMMAND_TIMEOUT", 1.0)
    (files / "migrations" / "9999_slow.sql").write_text("SELECT pg_sleep(1.5)")
    database = Database(empty_database_url)
    await database.open()
    assert "9999_slow.sql" in await apply(database, files)
    await database.close()


async def test_another_worker_s_migration_may_take_longer_than_a_request_may(
    empty: Database, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "COMMAND_TIMEOUT", 1.0)
    waiting = Database(empty_database_url)
    await waiting.open()
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"
    async with empty.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", module.LOCK)
        second = asyncio.create_task(migrate(waiting))
        async with asyncio.timeout(10):
            while not await connection.fetchval(waits, module.LOCK):  # noqa: ASYNC110 -- a lock has no event
                await asyncio.sleep(0.01)
        await connection.execute("SELECT pg_sleep(1.5)", timeout=30)
    assert await asyncio.wait_for(second, 30) == NAMES
    await waiting.close()


async def test_a_database_that_is_away_is_asked_again_after_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    delays: list[float] = []

    async def note(seconds: float) -> None:
        delays.append(seconds)
        if len(delays) == 12:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", note)
    with pytest.raises(asyncio.CancelledError):
        await migrate_when_reachable(Database("postgresql:///never-opened"), asyncio.Event())
    assert delays == sorted(delays)
    assert delays[0] == pool.MIN_RETRY_DELAY
    assert delays[-1] == pool.MAX_RETRY_DELAY


async def test_a_database_that_is_away_is_waited_for(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RETRY_DELAY", 0.1)
    servers = EmbeddedServers(scratch / "migrate", redis=False)
    url = servers.wait_until_ready()["DATABASE_URL"]
    servers.stop()
    database = Database(url)
    database._warnings = Throttle(pool.log, interval=0)
    await database.open()
    with capture_logs() as lines:
        waiting = asyncio.create_task(migrate_when_reachable(database, asyncio.Event()))
        await until(lambda: sum(line["event"] == "database_unavailable" for line in lines) >= 3)
        assert not waiting.done()
        servers = EmbeddedServers(scratch / "migrate", redis=False)
        try:
            servers.wait_until_ready()
            await asyncio.wait_for(waiting, 30)
            assert await fetch(database, "SELECT count(*) FROM schema_migrations") == [(len(NAMES),)]
        finally:
            await database.close()
            servers.stop()
    assert [line["applied"] for line in lines if line["event"] == "migrated"] == [NAMES]


async def test_what_is_migrated_already_is_not_reported(empty: Database) -> None:
    await migrate(empty)
    with capture_logs() as lines:
        await migrate_when_reachable(empty, asyncio.Event())
    assert lines == []
    assert empty.migrated


async def test_a_migration_that_fails_is_logged_and_tried_again(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FAILED_RETRY_DELAY", 0.01)
    async with empty.connection() as connection:
        await connection.execute("CREATE TABLE destinations (id int)")
    with capture_logs() as lines:
        trying = asyncio.create_task(migrate_when_reachable(empty, asyncio.Event()))
        await until(lambda: len(lines) >= 2)
        assert {(line["event"], line["log_level"]) for line in lines} == {("migration_failed", "error")}
        assert await tables(empty) == [("destinations",)]
        assert not empty.migrated
        async with empty.connection() as connection:
            await connection.execute("DROP TABLE destinations")
        await asyncio.wait_for(trying, 30)
    assert lines[-1]["applied"] == NAMES
    assert empty.migrated
