"""The writes of a run, as the database holds them."""

import hashlib
from collections.abc import Sequence

from loadtest.chaos.invariants import Stored
from loadtest.chaos.ledger import Write
from loadtest.chaos.world import World

STATEMENTS = {
    "inquiries": "SELECT id, message AS text, key FROM inquiries LEFT JOIN idempotency_keys ON inquiry_id = id"
    " WHERE id = ANY($1)",
    "reviews": "SELECT id, text, NULL AS key FROM reviews WHERE id = ANY($1)",
}


async def stored(world: World, writes: Sequence[Write]) -> Stored:
    """Return the rows of `writes`, past the service and the proxy."""
    found: dict[tuple[str, int], tuple[str, str | None]] = {}
    keys = {hashlib.sha256(write.key.encode()).hexdigest(): write.key for write in writes if write.key}
    connection = await world.postgres.connect()
    try:
        for table, statement in STATEMENTS.items():
            ids = [write.id for write in writes if write.table == table]
            for row in await connection.fetch(statement, ids):
                found[table, row["id"]] = (row["text"], keys.get(row["key"], row["key"]))
    finally:
        await connection.close()
    return found


async def wrong_ratings(world: World) -> list[str]:
    """Return the destinations whose number or sum of ratings is not that of their reviews."""
    connection = await world.postgres.connect()
    try:
        rows = await connection.fetch(
            "SELECT slug, rating_count, rating_sum, count(reviews.id) AS reviews, coalesce(sum(rating), 0) AS sum"
            " FROM destinations LEFT JOIN reviews ON destination_id = destinations.id GROUP BY destinations.id"
            " HAVING rating_count <> count(reviews.id) OR rating_sum <> coalesce(sum(rating), 0)"
        )
    finally:
        await connection.close()
    return [
        f"{row['slug']} has {row['rating_count']} ratings of {row['rating_sum']}, its {row['reviews']} reviews give"
        f" {row['sum']}"
        for row in rows
    ]
