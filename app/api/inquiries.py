"""/api/v1/inquiries: travellers write to the agency."""

import hashlib
from datetime import date, datetime, timedelta
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Header, Request, Response
from pydantic import AfterValidator, BaseModel, Field, model_validator

from app.api.dependencies import (
    Cursor,
    Limit,
    ServicesDep,
    decode_cursor,
    next_cursor,
    require_admin,
)
from app.api.limits import client_of, limited
from app.api.openapi import errors
from app.api.values import Day, Email, RequestModel, Text, Whole, WithoutNull
from app.database import inquiries

router = APIRouter(prefix="/api/v1/inquiries", tags=["inquiries"], responses=errors(422, 429))


Phone = Annotated[str, Field(pattern=r"^ *\+?[0-9][0-9 ()./-]{5,28} *$", max_length=40), AfterValidator(str.strip)]
REPLAYED = {"Idempotency-Replayed": {"description": "true if this is an earlier answer", "schema": {"const": "true"}}}


class NewInquiry(RequestModel):
    """A traveller's inquiry."""

    name: Annotated[str, Text(120)]
    email: Email
    phone: Phone | None = None
    message: Annotated[str, Text(4000)]
    arrival: Day | None = None
    departure: Day | None = Field(None, description="on or after the arrival")
    party_size: Annotated[int, Whole(1, 500)] = 1

    @model_validator(mode="after")
    def _check_dates(self) -> Self:
        if self.departure and self.arrival and self.departure < self.arrival:
            raise ValueError("want a departure on or after the arrival")
        return self


class Receipt(BaseModel):
    """Proof that the inquiry is stored."""

    id: int
    created_at: datetime


class Inquiry(Receipt):
    """A stored inquiry, for staff. Nothing is checked again: a rule made later must not hide what is stored."""

    name: str
    email: str
    phone: str | None
    message: str
    arrival: date | None
    departure: date | None
    party_size: int


class InquiryPage(BaseModel):
    """One page of inquiries, newest first; the last one has no next_cursor."""

    items: list[Inquiry]
    next_cursor: str | None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@router.post(
    "",
    response_model=Receipt,
    status_code=201,
    dependencies=[Depends(limited("inquiries"))],
    responses={201: {"headers": REPLAYED}},
)
async def add_inquiry(
    request: Request,
    services: ServicesDep,
    inquiry: NewInquiry,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        WithoutNull(),
        Header(pattern=r"^[!-~]{1,128}$", description="makes a retry safe: one key, one inquiry"),
    ] = None,
) -> dict[str, Any]:
    """Store an inquiry; 201 only after the commit.

    A retry under its Idempotency-Key gets the first answer again for IDEMPOTENCY_KEY_LIFETIME. A key belongs to the
    client's address as the rate limits count it: the same key from another one is another key.
    """
    key = None
    if idempotency_key is not None:
        # As a digest: beside the key itself, the caller's address could be found by trying all of them.
        key = inquiries.Key(
            _digest(idempotency_key),
            caller=_digest(f"{idempotency_key} {client_of(request)}"),
            digest=_digest(inquiry.model_dump_json()),
            lifetime=timedelta(seconds=services.settings.idempotency_key_lifetime),
        )
    row, stored = await inquiries.add(services.database, inquiry.model_dump(), key)
    if not stored:
        response.headers["Idempotency-Replayed"] = "true"
    return row


@router.get("", response_model=InquiryPage, dependencies=[Depends(require_admin)], responses=errors(401))
async def list_inquiries(services: ServicesDep, limit: Limit = 20, cursor: Cursor = None) -> dict[str, Any]:
    """List inquiries, for staff."""
    position = decode_cursor(cursor, int)
    rows = await inquiries.page(services.database, position[0] if position else None, limit + 1)
    return {
        "items": rows[:limit],
        "next_cursor": next_cursor(rows, limit, "id"),
    }
