"""Dependencies of the handlers: the services, and input types that several handlers share."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import Depends, HTTPException, Path, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.security import APIKeyHeader

from app.api.limits import Limiter, client_of
from app.api.values import NUL, WholeDigits, WithoutNull
from app.assistant.concierge import Concierge
from app.cache.cache import Cache
from app.cache.connection import RedisGate
from app.database.pool import Database
from app.metrics import Metrics
from app.monitoring.health import Readiness
from app.settings import Settings


@dataclass(frozen=True)
class Services:
    """The parts of a running application."""

    settings: Settings
    metrics: Metrics
    database: Database
    redis: RedisGate
    cache: Cache
    limiter: Limiter
    concierge: Concierge
    readiness: Readiness


async def _services(request: Request) -> Services:  # FastAPI runs functions that are not async in a thread
    services: Services = request.app.state.services
    return services


MAX_ID = 2**63 - 1

ServicesDep = Annotated[Services, Depends(_services)]
Slug = Annotated[str, Path(pattern="^[a-z0-9-]{1,80}$")]
Limit = Annotated[int, WholeDigits(1, 100), Query(description="items a page")]
Cursor = Annotated[
    str | None,
    WithoutNull(),
    Query(max_length=400, description="next_cursor of the page before", json_schema_extra={"format": "cursor"}),
]
StaffKey = APIKeyHeader(name="X-API-Key", auto_error=False, description="ADMIN_API_KEY, for staff")


NO_SUCH_PLACE = "No destination has this slug."


def next_cursor(rows: list[Any], limit: int, *fields: str) -> str | None:
    """Return the cursor behind the last of `limit` rows; None if there are no more."""
    return encode_cursor(*(rows[limit - 1][name] for name in fields)) if len(rows) > limit else None


def encode_cursor(*position: Any) -> str:
    """Return the position after a page as an opaque string."""
    return base64.urlsafe_b64encode(orjson.dumps(position)).decode().rstrip("=")


def decode_cursor(cursor: str | None, *kinds: type) -> list[Any] | None:
    """Return the position in a cursor that `encode_cursor` made, of values of `kinds`; respond 422 to anything else."""
    if cursor is None:
        return None
    try:
        position = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        position = None
    if not isinstance(position, list) or not _is_position(position, kinds):
        message = "want the next_cursor of a page"
        raise RequestValidationError([{"loc": ("query", "cursor"), "msg": message, "type": "cursor"}])
    return position


def _is_position(position: list[Any], kinds: tuple[type, ...]) -> bool:
    """Check that the values have exactly these types (a bool is not an int here) and fit PostgreSQL's."""
    if [type(value) for value in position] != list(kinds):
        return False
    return not any(
        (isinstance(value, str) and NUL in value) or (isinstance(value, int) and abs(value) > MAX_ID)
        for value in position
    )


async def require_admin(
    request: Request, services: ServicesDep, x_api_key: Annotated[str | None, Security(StaffKey)]
) -> None:
    """Raise 401 unless X-API-Key is ADMIN_API_KEY. If that is unset, every request is refused.

    Wrong keys count against RATE_LIMIT_KEYS. Past it every key of the client gets 429, the right one too: otherwise
    guessing could go on at any rate until one answer differs.
    """
    refusal = HTTPException(401, "This needs a valid X-API-Key.", {"WWW-Authenticate": "ApiKey"})
    if not x_api_key:
        raise refusal
    client = client_of(request)
    await services.limiter.check("keys", client)
    key = services.settings.admin_api_key
    # Compared in constant time, even without a key: the response time must not reveal anything about the key.
    fits = hmac.compare_digest(x_api_key.encode(), (key.get_secret_value() if key else "").encode())
    if not (key and fits):
        await services.limiter.hit("keys", client)
        raise refusal
    # Again: wrong keys that were sent at the same time have been counted meanwhile.
    await services.limiter.check("keys", client)
