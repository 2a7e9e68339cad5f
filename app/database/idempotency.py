"""Idempotency keys of inquiries: the deletion of those that have expired. app/database/inquiries.py writes them."""

import asyncio
import random
from datetime import timedelta

from app.database.pool import Database, DatabaseUnavailable
from app.monitoring.logging import get_logger

DELETION_INTERVAL = 600.0
BATCH = 1000
# A request that has just found a key unexpired still reads it in its next statement.
GRACE = timedelta(hours=1)
# From the beginning of the index on created_at. Workers that delete at the same time skip each other's rows.
DELETE = (
    "DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY("
    " SELECT ctid FROM idempotency_keys WHERE created_at < now() - $1::interval"
    " ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))"
)

log = get_logger("idempotency")


async def delete_expired_keys(database: Database, lifetime: int) -> None:
    """Delete the keys that are older than `lifetime` seconds, every ten minutes, until cancelled."""
    while True:
        # Spread, so that workers that were started together do not delete together.
        await asyncio.sleep(DELETION_INTERVAL * random.uniform(0.5, 1.5))  # noqa: S311 -- not for secrets
        try:
            await delete_expired(database, timedelta(seconds=lifetime))
        except DatabaseUnavailable:  # logged by the pool
            continue
        except Exception:
            log.exception("deletion_of_keys_failed")


async def delete_expired(database: Database, lifetime: timedelta, batch: int = BATCH) -> int:
    """Delete the keys that expired before GRACE, `batch` rows a statement. Return their number."""
    deleted = 0
    while True:
        async with database.connection(operation="delete_idempotency_keys") as connection:
            status = await connection.execute(DELETE, lifetime + GRACE, batch)
        rows = int(status.removeprefix("DELETE "))
        deleted += rows
        if rows < batch:
            return deleted
