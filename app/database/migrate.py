"""Plain SQL files applied in order, once, however many workers start together; then the catalogue's data.

An advisory lock of the transaction is the gate: workers queue at it, and the second finds the work done.
"""

import asyncio
import datetime as dt
import hashlib
from pathlib import Path
from typing import Any

import orjson

from app.database.pool import MAX_RETRY_DELAY, MIN_RETRY_DELAY, Database, DatabaseUnavailable
from app.monitoring.logging import get_logger

MIGRATIONS = Path(__file__).parent / "migrations"
SEED = Path(__file__).parent / "seed" / "destinations.json"
# An index on a large table takes longer than a request may; so does the wait for another worker that makes it.
MIGRATION_TIMEOUT = 900.0
FAILED_RETRY_DELAY = 30.0
LOCK = 0x42414C49  # "BALI"; any number that no other user of the database takes

log = get_logger("migrations")


class MigrationError(Exception):
    """A migration that was applied has been changed since: the message names the file."""


async def migrate(database: Database, directory: Path = MIGRATIONS, seed: Path = SEED) -> list[str]:
    """Apply what is missing and load the data if it is new; returns the names of what was applied.

    Everything happens in one transaction: a failure leaves the database as it was.
    """
    applied = []
    async with database.transaction("migrate") as connection:
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK, timeout=MIGRATION_TIMEOUT)
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations"
            " (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        known = {row["name"]: row["checksum"] for row in await connection.fetch("SELECT * FROM schema_migrations")}
        for name, checksum, content in _read_all(directory):
            if known.get(name, checksum) != checksum:
                raise MigrationError(f"{name} was changed after it had been applied: write a new migration")
            if name not in known:
                await connection.execute(content.decode(), timeout=MIGRATION_TIMEOUT)
                await _record(connection, name, checksum)
                applied.append(name)
        name, checksum, content = _read([seed])[0]
        if known.get(name) != checksum:
            rows = [_row(item) for item in orjson.loads(content)]
            await connection.executemany(UPSERT, rows, timeout=MIGRATION_TIMEOUT)
            await _record(connection, name, checksum)
            applied.append(name)
    return applied


def _read_all(directory: Path) -> list[tuple[str, str, bytes]]:
    return _read(sorted(directory.glob("*.sql")))


def _read(files: list[Path]) -> list[tuple[str, str, bytes]]:
    contents = [(file.name, file.read_bytes()) for file in files]
    return [(name, hashlib.sha256(content).hexdigest(), content) for name, content in contents]


async def _record(connection: Any, name: str, checksum: str) -> None:
    await connection.execute(
        "INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2)"
        " ON CONFLICT (name) DO UPDATE SET checksum = excluded.checksum, applied_at = now()",
        name,
        checksum,
    )


# Facts are replaced, ratings stay: they belong to the reviews.
COLUMNS = [
    "slug",
    "name",
    "regency",
    "category",
    "description",
    "latitude",
    "longitude",
    "entrance_fee_idr",
    "opens",
    "closes",
    "visit_minutes",
    "best_months",
    "tags",
]
UPSERT = (
    f"INSERT INTO destinations ({', '.join(COLUMNS)})"  # noqa: S608 -- constants above
    f" VALUES ({', '.join(f'${number}' for number in range(1, len(COLUMNS) + 1))})"
    f" ON CONFLICT (slug) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS[1:])}"
)


def _row(item: dict[str, Any]) -> list[Any]:
    for name in ("opens", "closes"):
        item[name] = item[name] and dt.time.fromisoformat(item[name])
    return [item[name] for name in COLUMNS]


async def migrate_when_reachable(database: Database, attempted: asyncio.Event) -> None:
    """Migrate as soon as the database can be reached, however long that takes.

    Set `attempted` when the first attempt has ended, whatever came of it.
    """
    reconnection = MIN_RETRY_DELAY
    while True:
        try:
            applied = await migrate(database)
        except DatabaseUnavailable:
            delay, reconnection = reconnection, min(2 * reconnection, MAX_RETRY_DELAY)
        except Exception:
            # The pod stays unready, so a rolling update stops here; ending the worker would fix nothing.
            log.exception("migration_failed")
            delay = FAILED_RETRY_DELAY
        else:
            if applied:
                log.info("migrated", applied=applied)
            database.migrated = True
            return
        finally:
            attempted.set()
        await asyncio.sleep(delay)
