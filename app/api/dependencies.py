"""What the handlers work with, and the forms of input that several of them share."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Depends, Header, HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator

from app.api.limits import Limiter
from app.assistant.concierge import Concierge
from app.cache.cache import Cache
from app.cache.connection import RedisGate
from app.database.pool import Database
from app.monitoring.catalogue import Catalogue
from app.settings import Settings


@dataclass(frozen=True)
class Services:
    """The parts of a running application."""

    settings: Settings
    metrics: Catalogue
    database: Database
    redis: RedisGate
    cache: Cache
    limiter: Limiter
    concierge: Concierge


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _storable(text: str) -> str:
    if "\x00" in text:  # which JSON allows and PostgreSQL cannot store
        raise ValueError("want text without NUL characters")
    return text


ServicesDep = Annotated[Services, Depends(_services)]
Storable = AfterValidator(_storable)
Slug = Annotated[str, Path(pattern="^[a-z0-9-]{1,80}$")]
Limit = Annotated[int, Query(ge=1, le=100, description="items a page")]
Cursor = Annotated[str | None, Query(max_length=400, description="next_cursor of the page before")]


def encode_cursor(*position: Any) -> str:
    """Where a page ended, as an opaque string."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def decode_cursor(cursor: str | None, *kinds: type) -> list[Any] | None:
    """The position in a cursor that `encode_cursor` made, of values of `kinds`; anything else is a 422."""
    if cursor is None:
        return None
    try:
        position = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        position = None
    # Exact types: a bool is an int, and an int of more than 64 bits is none that a page ended at.
    if not isinstance(position, list) or [type(value) for value in position] != list(kinds):
        message = "want the next_cursor of a page"
        raise RequestValidationError([{"loc": ("query", "cursor"), "msg": message, "type": "cursor"}])
    return position


async def require_admin(services: ServicesDep, x_api_key: Annotated[str | None, Header()] = None) -> None:
    """Let staff through: X-API-Key must be ADMIN_API_KEY. Where that is unset, nobody passes."""
    key = services.settings.admin_api_key
    given = (x_api_key or "").encode()
    # Compared in any case and in constant time, so that the answer's delay says nothing about the key.
    fits = hmac.compare_digest(given, (key.get_secret_value() if key else "").encode())
    if not (key and fits):
        raise HTTPException(401, "This needs a valid X-API-Key.", {"WWW-Authenticate": "ApiKey"})
