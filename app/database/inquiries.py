"""SQL of inquiries."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.database.pool import Connection, Database

Row = dict[str, Any]
_FIELDS = ("name", "email", "phone", "message", "arrival", "departure", "party_size")
_COLUMNS = ", ".join(_FIELDS)
_INSERT = f"INSERT INTO inquiries ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id, created_at"  # noqa: S608
# One statement, so that a key and its inquiry are stored together. A concurrent insert of the same key makes this one
# wait for its commit, and then do nothing. An expired key is as good as none.
_INSERT_WITH_KEY = f"""
WITH claimed AS (
    INSERT INTO idempotency_keys AS known (key, caller, request_digest, inquiry_id)
    VALUES ($8, $9, $10, nextval(pg_get_serial_sequence('inquiries', 'id')))
    ON CONFLICT (key, caller) DO UPDATE SET
        request_digest = excluded.request_digest,
        inquiry_id = excluded.inquiry_id,
        created_at = excluded.created_at
    WHERE known.created_at <= now() - $11::interval
    RETURNING inquiry_id
)
INSERT INTO inquiries (id, {_COLUMNS}) OVERRIDING SYSTEM VALUE
SELECT inquiry_id, $1, $2, $3, $4, $5::date, $6::date, $7::integer FROM claimed
RETURNING id, created_at
"""  # noqa: S608
# Both were made in one transaction, so the key's time is the inquiry's.
_FIRST_ANSWER = (
    "SELECT inquiry_id AS id, created_at, request_digest FROM idempotency_keys WHERE key = $1 AND caller = $2"
)


class KeyReused(Exception):  # noqa: N818 -- reads as what happened
    """The caller has used the idempotency key for other content."""


@dataclass(frozen=True)
class Key:
    """An idempotency key: whose it is, the request it stands for, and how long it does."""

    key: str
    """The key in a form that may be stored, such as a digest."""
    caller: str
    """The caller in a form that may be stored, such as a digest. The same key of another caller is another key."""
    digest: str
    """The digest of the request's content."""
    lifetime: timedelta


async def add(database: Database, inquiry: Row, key: Key | None) -> tuple[Row, bool]:
    """Store an inquiry; return its id and created_at, after the commit, and whether this call stored it.

    With a `key` that the caller has used for the same content within its lifetime, return what that call stored. Raise
    KeyReused if the content was another.
    """

    fields = [inquiry[name] for name in _FIELDS]

    async def insert(connection: Connection) -> tuple[Row, bool]:
        if key is None:
            return dict(await connection.fetchrow(_INSERT, *fields) or {}), True
        row = await connection.fetchrow(_INSERT_WITH_KEY, *fields, key.key, key.caller, key.digest, key.lifetime)
        if row is not None:
            return dict(row), True
        return dict(await connection.fetchrow(_FIRST_ANSWER, key.key, key.caller) or {}), False

    stored, is_new = await database.transact("add_inquiry", insert)
    if key is not None and not is_new and stored.pop("request_digest", None) != key.digest:
        raise KeyReused
    return stored, is_new


async def page(database: Database, before: int | None, limit: int) -> list[Row]:
    """Return up to `limit` inquiries, newest first, older than inquiry `before`."""
    statement = (
        f"SELECT id, {_COLUMNS}, created_at FROM inquiries"  # noqa: S608
        " WHERE ($1::bigint IS NULL OR id < $1) ORDER BY id DESC LIMIT $2"
    )
    rows = await database.read("list_inquiries", lambda connection: connection.fetch(statement, before, limit))
    return [dict(row) for row in rows]
