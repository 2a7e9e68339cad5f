"""SQL of destinations and reviews."""

from dataclasses import dataclass
from typing import Any

from app.database.pool import Connection, Database
from app.metrics import Query

Row = dict[str, Any]

_FIELDS = (
    "slug, name, regency, category, description, latitude, longitude, entrance_fee_idr,"
    " to_char(opens, 'HH24:MI') AS opens, to_char(closes, 'HH24:MI') AS closes, visit_minutes, best_months, tags,"
    " rating_count, round(rating_sum::numeric / nullif(rating_count, 0), 2)::float8 AS rating_average"
)


@dataclass(frozen=True)
class Filter:
    """Conditions on a destination; None matches everything. Fees are in IDR, months from 1 to 12."""

    search: str | None = None
    regency: str | None = None
    category: str | None = None
    tag: str | None = None
    max_fee: int | None = None
    month: int | None = None
    min_rating: float | None = None


@dataclass(frozen=True)
class Position:
    """The last row of a page: the next page starts after this rank (0 without a search) and slug."""

    rank: float
    slug: str


_CONDITIONS = {
    "search": "search @@ query",
    "regency": "lower(regency) = lower({})",
    "category": "category = {}",
    "tag": "{} = ANY (tags)",
    "max_fee": "coalesce(entrance_fee_idr, 0) <= {}",
    "month": "{}::smallint = ANY (best_months)",
    "min_rating": "rating_sum >= {}::float8 * nullif(rating_count, 0)",
}


async def page(database: Database, wanted: Filter, after: Position | None, limit: int) -> list[Row]:
    """Return up to `limit` destinations behind `after`, best match first if there is a search, else by slug.

    Each row has the fields of a destination and `rank`.
    """
    arguments: list[Any] = [wanted.search or ""]
    conditions = []
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            if name != "search":
                arguments.append(value)
            conditions.append(condition.format(f"${len(arguments)}"))
    if after is not None:
        arguments += [after.rank, after.slug]
        rank, slug = f"${len(arguments) - 1}::float8", f"${len(arguments)}"
        conditions.append(f"(rank < {rank} OR (rank = {rank} AND slug > {slug}))")
    arguments.append(limit)
    # Only the constants above and parameter numbers are formatted into the statement.
    statement = (
        f"SELECT {_FIELDS}, rank FROM destinations,"  # noqa: S608
        " websearch_to_tsquery('english', $1) AS query,"
        " LATERAL (SELECT ts_rank(search, query)::float8 AS rank) AS ranked"
        f" WHERE {' AND '.join(conditions) or 'true'}"
        f" ORDER BY rank DESC, slug LIMIT ${len(arguments)}"
    )
    return await _rows(database, "list_destinations", statement, *arguments)


async def detail(database: Database, slug: str) -> Row | None:
    """Return one destination, or None."""
    statement = f"SELECT {_FIELDS} FROM destinations WHERE slug = $1"  # noqa: S608
    rows = await _rows(database, "get_destination", statement, slug)
    return rows[0] if rows else None


async def add_review(database: Database, slug: str, rating: int, text: str) -> Row | None:
    """Store a review and bring the destination's figures up to date, in one transaction. None: no such place."""

    async def add(connection: Connection) -> Row | None:
        # The update takes the row's lock, so concurrent reviews of one place add up one after the other.
        destination = await connection.fetchval(
            "UPDATE destinations SET rating_sum = rating_sum + $2, rating_count = rating_count + 1"
            " WHERE slug = $1 RETURNING id",
            slug,
            rating,
        )
        if destination is None:
            return None
        row = await connection.fetchrow(
            "INSERT INTO reviews (destination_id, rating, text) VALUES ($1, $2, $3)"
            " RETURNING id, rating, text, created_at",
            destination,
            rating,
            text,
        )
        return dict(row) if row else None

    return await database.transact("add_review", add)


async def reviews(database: Database, slug: str, before: int | None, limit: int) -> list[Row] | None:
    """Return up to `limit` reviews of a place, newest first, older than review `before`. None: no such place."""

    async def find(connection: Connection) -> list[Row] | None:
        destination = await connection.fetchval("SELECT id FROM destinations WHERE slug = $1", slug)
        if destination is None:
            return None
        rows = await connection.fetch(
            "SELECT id, rating, text, created_at FROM reviews"
            " WHERE destination_id = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
            destination,
            before,
            limit,
        )
        return [dict(row) for row in rows]

    return await database.read("list_reviews", find)


async def everything(database: Database) -> list[Row]:
    """Return the whole catalogue by slug: some seventy rows, for the planner."""
    return await _rows(database, "load_catalogue", f"SELECT {_FIELDS} FROM destinations ORDER BY slug")  # noqa: S608


async def suggest(database: Database, message: str, limit: int) -> list[Row]:
    """Return up to `limit` destinations that share any word with `message`, best match first."""
    statement = (
        f"SELECT {_FIELDS} FROM destinations,"  # noqa: S608
        # A question holds words that no place has: any of its words may match, where a search wants all of them.
        " CAST(replace(plainto_tsquery('english', $1)::text, '&', '|') AS tsquery) AS query"
        " WHERE search @@ query ORDER BY ts_rank(search, query) DESC, slug LIMIT $2"
    )
    return await _rows(database, "suggest_destinations", statement, message, limit)


async def _rows(database: Database, operation: Query, statement: str, *arguments: Any) -> list[Row]:
    """Return the rows of a statement that only reads."""
    rows = await database.read(operation, lambda connection: connection.fetch(statement, *arguments))
    return [dict(row) for row in rows]
