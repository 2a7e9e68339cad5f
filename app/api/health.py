"""/health: liveness, readiness, and both in one for people.

Liveness looks at nothing but this process: a restart repairs no database. Readiness requires the database only. Redis
is reported and does not take the pod out of service, because every route works without it
(docs/decisions/0003-redis-away.md), and neither do disk and memory, which all pods of a node share
(docs/decisions/0011-readiness.md).
"""

import shutil
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Literal

import orjson
import psutil
from fastapi import APIRouter
from pydantic import BaseModel, Field
from redis.exceptions import ResponseError
from starlette.responses import Response

from app import __version__
from app.api.dependencies import ServicesDep
from app.api.openapi import Responses, errors
from app.assistant.concierge import Concierge
from app.assistant.upstream import UpstreamError
from app.cache.connection import RedisGate
from app.database.pool import Database, DatabaseReadOnly, DatabaseUnavailable
from app.managers.metrics import memory
from app.monitoring.health import CachedCheck, Check, CheckFailed, Details, timestamp
from app.monitoring.health import Readiness as ServiceReadiness

DATABASE_TIMEOUT, REDIS_TIMEOUT, AI_TIMEOUT, LOCAL_TIMEOUT = 2.0, 1.0, 3.0, 1.0
# Every worker of every pod asks, and a probe comes every few seconds.
AI_CACHE_SECONDS = 15.0
FULL_PERCENT = 95.0
Run = Callable[[], Awaitable[Details]]

router = APIRouter(tags=["health"])


class Liveness(BaseModel):
    """The event loop runs."""

    status: Literal["alive"]
    timestamp: datetime
    version: str


class CheckResult(BaseModel):
    """The result of one check. What it has found out beside this stands in more fields."""

    status: Literal["pass", "warn", "fail", "unknown"]
    response_ms: float | None = None
    error: str | None = None


class Readiness(BaseModel):
    """Readiness for requests, with the results of the checks."""

    status: Literal["ready", "degraded", "not_ready"]
    timestamp: datetime
    version: str
    checks: dict[str, CheckResult]


class Health(Readiness):
    """Liveness and readiness."""

    alive: bool
    worker_started: int = Field(description="seconds since 1970")


def _described(model: type[BaseModel]) -> Responses:
    # The service's limits do not hold for probes, but they can be set to.
    unfit = {**errors(503)[503], "description": "A required check failed.", "model": model}
    return {200: {"model": model}, 503: {name: part for name, part in unfit.items() if name != "headers"}}


@router.get("/health/live", response_model=Liveness)
async def live() -> dict[str, str]:
    """Respond 200 while the event loop runs."""
    return {"status": "alive", "timestamp": timestamp(), "version": __version__}


@router.get("/health/ready", responses=_described(Readiness))
async def ready(services: ServicesDep) -> Response:
    """Respond 200 while requests can be served, else 503."""
    return _respond(*await services.readiness.probe())


@router.get("/health", responses=_described(Health))
async def health(services: ServicesDep) -> Response:
    """Return liveness and readiness together, with the process's age."""
    fit, body = await services.readiness.probe()
    started = psutil.Process().create_time()
    return _respond(fit, {**body, "alive": True, "worker_started": int(started)})


def _respond(fit: bool, body: dict[str, Any]) -> Response:  # noqa: FBT001
    headers = {"cache-control": "no-store"}
    return Response(orjson.dumps(body), 200 if fit else 503, headers=headers, media_type="application/json")


def build_readiness(database: Database, redis: RedisGate, concierge: Concierge) -> ServiceReadiness:
    """Return the readiness of the service. The AI upstream is among its checks if one is configured."""
    checks = [
        Check("database", _database_check(database), DATABASE_TIMEOUT),
        Check("redis", _redis_check(redis), REDIS_TIMEOUT, required=False),
        Check("disk", _disk, LOCAL_TIMEOUT, required=False, dependency=False),
        Check("memory", _memory, LOCAL_TIMEOUT, required=False, dependency=False),
    ]
    probe = _ai_check(concierge)
    if probe is not None:
        checks.append(Check("ai", probe, AI_TIMEOUT, required=False))
    return ServiceReadiness(checks, __version__)


def _database_check(database: Database) -> Run:
    async def ask() -> Details:
        try:
            await database.ping()
        except DatabaseReadOnly as error:
            raise CheckFailed("the database is read-only") from error
        except DatabaseUnavailable as error:
            raise CheckFailed("the database cannot be reached") from error
        if not database.migrated:
            raise CheckFailed("the database is being set up")
        return {}

    return ask


def _redis_check(redis: RedisGate) -> Run:
    async def ask() -> Details:
        try:
            await redis.ping()
        except ResponseError as error:
            raise CheckFailed("Redis refuses writes; every route works without it") from error
        except Exception as error:
            raise CheckFailed("Redis cannot be reached; every route works without it") from error
        return {}

    return ask


def _ai_check(concierge: Concierge) -> CachedCheck | None:
    """Return the check of the AI upstream, None if no upstream is configured."""
    upstream = concierge.upstream
    if upstream is None:
        return None

    async def ask() -> Details:
        state = await concierge.breaker.state()
        try:
            await upstream.ping()
        except UpstreamError as error:
            raise CheckFailed(f"the AI service cannot be reached; the circuit is {state}") from error
        return {"circuit": state}

    return CachedCheck(ask, AI_TIMEOUT, AI_CACHE_SECONDS)


async def _disk() -> Details:
    usage = shutil.disk_usage("/")
    return _within("the disk", usage.used / usage.total * 100)


async def _memory() -> Details:
    used, limit = memory()
    return _within("memory", used / limit * 100)


def _within(what: str, percent: float) -> Details:
    if percent >= FULL_PERCENT:
        raise CheckFailed(f"{what} is {percent:.0f}% full")
    return {"usage_percent": round(percent)}
