"""The application: `create_app(settings)` builds one; gunicorn calls `app.main:create_app()` in each worker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from app import __version__
from app.api import assistant, destinations, health, inquiries, methods, problems, reviews
from app.api.dependencies import Services
from app.api.limits import Limiter
from app.api.openapi import EVERYWHERE, document_problems
from app.assistant.breaker import CircuitBreaker
from app.assistant.concierge import Concierge
from app.assistant.upstream import Upstream, UpstreamRejected
from app.cache.cache import Cache
from app.cache.connection import RedisGate
from app.database.idempotency import delete_expired_keys
from app.database.migrate import migrate_when_reachable
from app.database.pool import Database
from app.metrics import metrics as agency_metrics
from app.middleware.middleware import add_layers
from app.observability import build_observability
from app.settings import Settings, get_settings
from app.tasks import end_tasks

DATABASE_FALLBACK = "postgresql:///"
REDIS_FALLBACK = "redis://localhost:6379/0"
# Seconds that a worker waits for its first attempt to migrate: for connecting, and a lock that another worker holds.
MAX_SETUP_WAIT = 5.0


def _build_services(settings: Settings) -> Services:
    metrics = agency_metrics()
    database_url = settings.database_url.get_secret_value() if settings.database_url else DATABASE_FALLBACK
    redis_url = settings.redis_url.get_secret_value() if settings.redis_url else REDIS_FALLBACK
    redis = RedisGate(redis_url, metrics.redis)
    database = Database(database_url, size=settings.database_pool_size, metrics=metrics.database)
    cache = Cache(redis, metrics)
    upstream = None
    if settings.ai_base_url:
        key = settings.ai_api_key.get_secret_value() if settings.ai_api_key else None
        upstream = Upstream(
            settings.ai_base_url, model=settings.ai_model, key=key, timeout=settings.ai_timeout, metrics=metrics
        )
    breaker = CircuitBreaker(
        redis,
        metrics.circuit_breaker_state,
        exclude=(UpstreamRejected,),
        probe_timeout=settings.ai_timeout + 5,
    )
    rules = {
        "reviews": settings.rate_limit_writes,
        "inquiries": settings.rate_limit_writes,
        "assistant": settings.rate_limit_ai,
        "keys": settings.rate_limit_keys,
    }
    concierge = Concierge(database=database, cache=cache, metrics=metrics, breaker=breaker, upstream=upstream)
    return Services(
        settings=settings,
        metrics=metrics,
        database=database,
        redis=redis,
        cache=cache,
        limiter=Limiter(redis, metrics, rules),
        concierge=concierge,
        readiness=health.build_readiness(database, redis, concierge),
    )


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open and close the resources of a worker. Nothing raises if a dependency is away: gunicorn would give up."""
    services: Services = app.state.services
    await services.database.open()
    attempted = asyncio.Event()
    background = [
        asyncio.create_task(migrate_when_reachable(services.database, attempted)),
        asyncio.create_task(services.concierge.breaker.watch()),
        asyncio.create_task(delete_expired_keys(services.database, services.settings.idempotency_key_lifetime)),
    ]
    try:
        # A worker that replaces another one must be ready when it takes its first request.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(attempted.wait(), MAX_SETUP_WAIT)
        yield
    finally:
        await end_tasks(background)
        # The worker drains for 0.7 of graceful_timeout, and spans have 0.12 of it.
        graceful = services.settings.graceful_timeout
        await services.database.close(min(2.0, 0.1 * graceful))
        if services.concierge.upstream is not None:
            await services.concierge.upstream.close()
        with contextlib.suppress(Exception):  # a connection that Redis has closed already
            await services.redis.close()


def create_app(settings: Settings | None = None) -> FastAPI:
    """A new application; the settings are the environment's unless they are given."""
    settings = settings or get_settings()
    observability = build_observability(settings)  # before the first metric
    app = FastAPI(
        title="BaliBlissed",
        version=__version__,
        lifespan=_lifespan,
        # A redirect to another slash would carry the raw path into labels; such a path is simply not found.
        redirect_slashes=False,
        responses=EVERYWHERE,
    )
    app.state.services = services = _build_services(settings)
    for resource in (health, destinations, reviews, inquiries, assistant):
        app.include_router(resource.router)
    problems.install(app)
    methods.install(app)
    document_problems(app)
    # Starlette takes no middleware once the lifespan runs, so all are added here.
    add_layers(app)
    return observability.instrument(app, readiness=services.readiness)
