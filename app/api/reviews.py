"""/api/v1/destinations/{slug}/reviews: what travellers thought."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel

from app.api.dependencies import NO_SUCH_PLACE, Cursor, Limit, ServicesDep, Slug, decode_cursor, next_cursor
from app.api.destinations import CACHE
from app.api.limits import limited
from app.api.openapi import errors
from app.api.values import RequestModel, Text, Whole
from app.database import destinations

router = APIRouter(prefix="/api/v1/destinations/{slug}/reviews", tags=["reviews"], responses=errors(404, 422))


class NewReview(RequestModel):
    """A rating and why."""

    rating: Annotated[int, Whole(1, 5)]
    text: Annotated[str, Text(4000)]


class Review(BaseModel):
    """A stored review."""

    id: int
    rating: int
    text: str
    created_at: datetime


class ReviewPage(BaseModel):
    """One page of reviews, newest first; the last one has no next_cursor."""

    items: list[Review]
    next_cursor: str | None


@router.get("", response_model=ReviewPage)
async def list_reviews(services: ServicesDep, slug: Slug, limit: Limit = 20, cursor: Cursor = None) -> dict[str, Any]:
    """List the reviews of a place."""
    position = decode_cursor(cursor, int)
    rows = await destinations.reviews(services.database, slug, position[0] if position else None, limit + 1)
    if rows is None:
        raise HTTPException(404, NO_SUCH_PLACE)
    return {
        "items": rows[:limit],
        "next_cursor": next_cursor(rows, limit, "id"),
    }


@router.post(
    "",
    response_model=Review,
    status_code=201,
    dependencies=[Depends(limited("reviews"))],
    responses=errors(429),
)
async def add_review(services: ServicesDep, slug: Slug, review: NewReview) -> dict[str, Any]:
    """Add a review; 201 once it is stored and the place's average holds it."""
    row = await destinations.add_review(services.database, slug, review.rating, review.text)
    if row is None:
        raise HTTPException(404, NO_SUCH_PLACE)
    await services.cache.delete(CACHE, slug)
    return row
