"""The application as a whole: built twice, its layers in order, its life without dependencies."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import asyncpg
import httpx
import pytest
from fastapi import routing
from fastapi.dependencies import utils as dependencies
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app import __version__
from app.api.dependencies import Services
from app.main import create_app
from app.middleware.middleware import MAX_BODY_BYTES
from app.monitoring import Observability, tracing
from app.monitoring.requests.layer import ObservingMiddleware
from app.settings import Settings, get_settings
from app.tasks import end_tasks
from tests.conftest import Application, running

AWAY = {"database_url": "postgresql://nobody@127.0.0.1:1/none", "redis_url": "redis://127.0.0.1:1/0"}
INQUIRY = "/api/v1/inquiries"


@pytest.fixture
async def failing(make_settings: Callable[..., Settings]) -> AsyncIterator[httpx.AsyncClient]:
    """Yield the application with a route that fails."""
    app = create_app(make_settings())

    @app.get("/boom")
    async def boom() -> None:
        raise RuntimeError("the driver's own words")

    async with running(app) as client:
        yield client


async def test_two_applications_in_one_process_are_independent(make_settings: Callable[..., Settings]) -> None:
    first, second = create_app(make_settings()), create_app(make_settings(ai_model="other"))
    assert first.state.services is not second.state.services
    async with running(first) as one, running(second) as two:
        for client in (one, two):
            assert (await client.get("/health/ready")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200
    assert second.state.services.settings.ai_model == "other"


async def test_an_application_can_be_started_again_after_its_end(make_settings: Callable[..., Settings]) -> None:
    app = create_app(make_settings())
    for _ in range(2):
        async with running(app) as client:
            assert (await client.get("/api/v1/destinations")).status_code == 200


def test_the_settings_are_the_environments_unless_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-the-environment")
    get_settings.cache_clear()
    try:
        assert create_app().state.services.settings.otel_service_name == "from-the-environment"
    finally:
        get_settings.cache_clear()


def test_the_limit_of_series_is_the_settings(make_settings: Callable[..., Settings]) -> None:
    create_app(make_settings(max_series_per_metric=123))
    assert Observability.current().registry.max_series == 123
    create_app(make_settings())
    assert Observability.current().registry.max_series == 10_000


def test_the_settings_reach_the_parts_that_they_are_for(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(ai_base_url="http://127.0.0.1:1/v1", ai_timeout=7.0, database_pool_size=3)
    services: Services = create_app(settings).state.services
    assert services.database._size == 3, "all workers together would take more connections than there are"
    assert services.concierge.upstream is not None
    assert services.concierge.upstream.timeout == 7.0
    assert services.concierge.breaker._probe_timeout > 7.0, "a second request would probe beside the first"


@pytest.mark.parametrize("disabled", [True, False])
def test_tracing_can_be_switched_off(
    make_settings: Callable[..., Settings], spans: InMemorySpanExporter, *, disabled: bool
) -> None:
    app = create_app(make_settings(otel_sdk_disabled=disabled))
    layer = app.build_middleware_stack()
    assert isinstance(layer, ObservingMiddleware)
    assert (layer.tracer is None) is disabled


async def test_every_answer_has_a_request_id_also_a_404_and_a_500(failing: httpx.AsyncClient) -> None:
    for path, status in (("/health/live", 200), ("/nowhere", 404), ("/boom", 500), ("/metrics", 200)):
        answer = await failing.get(path, headers={"X-Request-ID": f"{status:08x}"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (status, f"{status:08x}")


async def test_a_500_is_a_problem_that_says_nothing_of_its_cause(failing: httpx.AsyncClient) -> None:
    with capture_logs() as lines:
        answer = await failing.get("/boom")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert "driver" not in answer.text
    assert {"unhandled_error", "request"} <= {line["event"] for line in lines}
    (access,) = [line for line in lines if line["event"] == "request"]
    assert (access["status"], access["route"]) == (500, "/boom")


async def test_a_500_is_counted_with_its_route(failing: httpx.AsyncClient) -> None:
    await failing.get("/boom")
    assert 'handler="/boom",method="GET",status="500"' in (await failing.get("/metrics")).text


@pytest.mark.parametrize(("forwarded_allow_ips", "network"), [("*", "203.0.113.0/24"), ("10.9.9.9", "127.0.0.0/24")])
async def test_the_clients_address_is_a_trusted_proxys_word(
    application: Application, forwarded_allow_ips: str, network: str
) -> None:
    with capture_logs() as lines:
        async with application(forwarded_allow_ips=forwarded_allow_ips) as client:
            await client.get("/health/live", headers={"X-Forwarded-For": "203.0.113.9"})
    (access,) = [line for line in lines if line["event"] == "request"]
    assert access["client_ip"] == network


@pytest.mark.parametrize("length_is_known", [True, False])
async def test_a_body_over_the_limit_is_refused_as_any_other_request(
    client: httpx.AsyncClient, *, length_is_known: bool
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY_BYTES // 65_536 + 1):
            yield b" " * 65_536

    content = b" " * (MAX_BODY_BYTES + 1) if length_is_known else chunks()
    with capture_logs() as lines:
        answer = await client.post(INQUIRY, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert [(line["event"], line["log_level"], line.get("status")) for line in lines] == [("request", "info", 413)]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


async def test_a_body_within_the_limit_is_read(client: httpx.AsyncClient) -> None:
    answer = await client.post(INQUIRY, content=b" " * MAX_BODY_BYTES, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


async def test_the_service_lives_without_database_and_redis(application: Application) -> None:
    async with application(**AWAY) as client:
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/api/v1/destinations")).status_code == 503
        assert (await client.get("/metrics")).status_code == 200


async def test_without_addresses_it_starts_all_the_same() -> None:
    app = create_app(Settings(environment="test"))
    async with running(app) as client:
        assert (await client.get("/health/live")).status_code == 200


async def test_nothing_runs_on_after_the_end(make_settings: Callable[..., Settings]) -> None:
    before = asyncio.all_tasks()
    async with running(create_app(make_settings(ai_base_url="http://127.0.0.1:1/v1", **AWAY))):
        names = sorted(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks() - before)
        watching = ["CircuitBreaker.watch", "Readiness.keep", "delete_expired_keys", "migrate_when_reachable"]
        assert names == [*watching, "watch", "watch"]
    assert asyncio.all_tasks() - before == set()


async def test_a_task_that_takes_its_cancellation_for_something_else_is_cancelled_again() -> None:
    cancelled = 0

    async def stubborn() -> None:
        nonlocal cancelled
        while cancelled < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(end_tasks([task]), 10)
    assert cancelled == 2


async def test_every_connection_is_closed_at_the_end(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch, redis_url: str, database_url: str
) -> None:
    flushed: list[float] = []
    monkeypatch.setattr(tracing, "shutdown", flushed.append)
    app = create_app(make_settings(ai_base_url="http://127.0.0.1:1/v1", graceful_timeout=10))
    services: Services = app.state.services
    redis, postgres = Redis.from_url(redis_url), await asyncpg.connect(database_url)
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    before = len(await redis.client_list())
    async with running(app) as client:
        assert (await client.get("/health/ready")).status_code == 200
        assert len(await redis.client_list()) > before
        assert await postgres.fetchval(others) > 0
    # No asyncio.timeout: redis-py may take its cancellation for an error of the connection, and go on.
    deadline = time.monotonic() + 10
    left = (before + 1, 1)
    while left != (before, 0) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
        left = len(await redis.client_list()), await postgres.fetchval(others)
    # A connection left open by a failure would keep the event loop from ending.
    await services.redis.close()
    await redis.aclose()
    await postgres.close()
    assert left == (before, 0)
    assert services.concierge.upstream is not None
    assert services.concierge.upstream._client.is_closed
    assert flushed == [pytest.approx(1.2)], "spans that wait are sent within their share of the time to stop"


async def test_no_handler_or_dependency_runs_in_a_thread(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def in_thread(function: Callable[..., object], *_: object, **__: object) -> None:
        raise AssertionError(f"{function} would run in a thread, which costs a tenth of a request")

    for module in (dependencies, routing):
        monkeypatch.setattr(module, "run_in_threadpool", in_thread)
    reviews = "/api/v1/destinations/amed/reviews"
    inquiry = {"name": "Wayan", "email": "w@example.com", "message": "Two rooms in May, please."}
    answers = [
        *[await client.get(path) for path in ("/api/v1/destinations", "/api/v1/destinations/amed", reviews)],
        await client.get(INQUIRY),
        await client.post(reviews, json={"rating": 5, "text": "fine"}),
        await client.post(INQUIRY, json=inquiry),
        await client.post("/api/v1/assistant/itineraries", json={"days": 3}),
        await client.get("/health"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 401, 201, 201, 200, 200]


async def test_the_description_carries_the_version(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json()["info"] == {"title": "BaliBlissed", "version": __version__}
