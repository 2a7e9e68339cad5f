"""SQL of inquiries."""

from typing import Any

from app.database.pool import Connection, Database

Row = dict[str, Any]
_FIELDS = ("name", "email", "phone", "message", "arrival", "departure", "party_size")
_COLUMNS = ", ".join(_FIELDS)


class KeyReused(Exception):  # noqa: N818 -- reads as what happened
    """The idempotency key belongs to an earlier request with another content."""


async def add(database: Database, inquiry: Row, key: str | None, digest: str) -> tuple[Row, bool]:
    """Store an inquiry; returns it as stored, after the commit, and whether this call stored it.

    With a `key` that an earlier call with the same `digest` used, returns what that call stored. Raises KeyReused
    where the digest differs.
    """

    async def insert(connection: Connection) -> tuple[Row, bool]:
        # A concurrent insert of the same key makes this one wait for its commit, and then do nothing.
        row = await connection.fetchrow(
            f"INSERT INTO inquiries ({_COLUMNS}, idempotency_key, request_digest)"  # noqa: S608
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (idempotency_key) DO NOTHING"
            f" RETURNING id, {_COLUMNS}, created_at",
            *(inquiry[name] for name in _FIELDS),
            key,
            digest,
        )
        if row is not None:
            return dict(row), True
        row = await connection.fetchrow(
            f"SELECT id, {_COLUMNS}, created_at, request_digest FROM inquiries WHERE idempotency_key = $1",  # noqa: S608
            key,
        )
        return dict(row or {}), False

    stored, is_new = await database.transact(insert)
    if not is_new and stored.pop("request_digest", None) != digest:
        raise KeyReused
    return stored, is_new


async def page(database: Database, before: int | None, limit: int) -> list[Row]:
    """Return up to `limit` inquiries, newest first, older than inquiry `before`."""
    statement = (
        f"SELECT id, {_COLUMNS}, created_at FROM inquiries"  # noqa: S608
        " WHERE ($1::bigint IS NULL OR id < $1) ORDER BY id DESC LIMIT $2"
    )
    rows = await database.read(lambda connection: connection.fetch(statement, before, limit))
    return [dict(row) for row in rows]
