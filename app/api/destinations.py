"""/api/v1/destinations: the catalogue."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from app.api.dependencies import NO_SUCH_PLACE, Cursor, Limit, ServicesDep, Slug, decode_cursor, next_cursor
from app.api.openapi import errors
from app.api.values import NumberDigits, Storable, WholeDigits, WithoutNull
from app.database import destinations
from app.database.destinations import Filter, Position

DETAIL_TTL_SECONDS = 60.0
CACHE = "destinations"
Left = WithoutNull()
Fee = Annotated[int, WholeDigits(0, 2**31 - 1)]
Month = Annotated[int, WholeDigits(1, 12)]
Rating = Annotated[float, NumberDigits(1, 5)]

router = APIRouter(prefix="/api/v1/destinations", tags=["destinations"], responses=errors(422))


class Destination(BaseModel):
    """A place. Hours are local (UTC+8), null where it is always open; the fee is an adult visitor's."""

    slug: str
    name: str
    regency: str
    category: str
    description: str
    latitude: float
    longitude: float
    entrance_fee_idr: int | None
    opens: str | None
    closes: str | None
    visit_minutes: int
    best_months: list[int]
    tags: list[str]
    rating_average: float | None = Field(description="mean of all ratings, two decimals; null without reviews")
    rating_count: int


class DestinationPage(BaseModel):
    """One page of places; the last one has no next_cursor."""

    items: list[Destination]
    next_cursor: str | None


@router.get("", response_model=DestinationPage)
async def list_destinations(
    services: ServicesDep,
    q: Annotated[Storable | None, Left, Query(min_length=1, max_length=200, description="words to find")] = None,
    regency: Annotated[Storable | None, Left, Query(max_length=40)] = None,
    category: Annotated[Storable | None, Left, Query(max_length=40)] = None,
    tag: Annotated[Storable | None, Left, Query(max_length=40)] = None,
    max_fee: Annotated[Fee | None, Left, Query(description="highest entrance fee in IDR")] = None,
    month: Annotated[Month | None, Left, Query(description="month in which the place is at its best")] = None,
    min_rating: Annotated[Rating | None, Left] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """List the places that match all filters; best match first if `q` is given, else by slug."""
    position = decode_cursor(cursor, float, str)
    wanted = Filter(q, regency, category, tag, max_fee, month, min_rating)
    after = Position(*position) if position else None
    rows = await destinations.page(services.database, wanted, after, limit + 1)
    return {"items": rows[:limit], "next_cursor": next_cursor(rows, limit, "rank", "slug")}


@router.get("/{slug}", response_model=Destination, responses=errors(404))
async def get_destination(services: ServicesDep, slug: Slug) -> dict[str, Any]:
    """Return one place."""
    row: dict[str, Any] | None = await services.cache.get_or_load(
        CACHE, slug, lambda: destinations.detail(services.database, slug), ttl=DETAIL_TTL_SECONDS
    )
    if row is None:
        raise HTTPException(404, NO_SUCH_PLACE)
    return row
