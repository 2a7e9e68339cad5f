"""One run for the tests that only look: service, gateway and store, everything that is asked, and what was written."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from opentelemetry.instrumentation.utils import suppress_instrumentation
from redis.asyncio import Redis

from loadtest.fake_ai import FakeAI, fake_ai
from tests.conftest import own_database
from tests.process.service import service, wait_for
from tests.telemetry import otlp, traffic
from tests.telemetry.collector import gateway, store
from tests.telemetry.program import collector_program
from tests.telemetry.traffic import SLOW_ID, Observed


@pytest.fixture(scope="session")
def program() -> Path:
    """Return the collector's program."""
    return collector_program()


@pytest.fixture(scope="session")
async def lasting_addresses(
    servers: dict[str, str], template: str, anyio_backend: Any
) -> AsyncIterator[dict[str, str]]:
    """Yield DATABASE_URL and REDIS_URL for services that several tests share."""
    redis = Redis.from_url(servers["REDIS_URL"])
    await redis.flushall()
    await redis.aclose()
    async with own_database(servers["DATABASE_URL"], template) as url:
        yield {"DATABASE_URL": url, "REDIS_URL": servers["REDIS_URL"]}


@contextmanager
def upstream() -> Iterator[FakeAI]:
    """Yield an AI upstream in its own thread."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fake_ai()) as running:
        yield running


@pytest.fixture
def ai() -> Iterator[FakeAI]:
    """Yield an AI upstream for one test."""
    with upstream() as running:
        yield running


@pytest.fixture(scope="session")
def observed(program: Path, lasting_addresses: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """Run the service, collector and upstream once; return what they sent."""
    seen = Observed()
    directory = tmp_path_factory.mktemp("telemetry")
    with store(program, directory / "store") as kept, gateway(program, directory / "gateway", to=kept) as entrance:
        environment = {
            **lasting_addresses,
            "OTEL_EXPORTER_OTLP_ENDPOINT": entrance.endpoint,
            "OTEL_TRACES_SAMPLER_ARG": "1",
            # Both conventions at once, so that whatever either of them sends is seen.
            "OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup,database/dup",
        }
        # Another test may have instrumented this process's clients: the service would take their spans for its parents.
        with (
            suppress_instrumentation(),
            upstream() as ai,
            service(directory, AI_BASE_URL=ai.url, **environment) as running,
        ):
            wait_for(lambda: running.answers(traffic.CATALOGUE), "the catalogue")
            traffic.ask(running, ai, seen)
            seen.exit_status = running.stop()
            seen.logs = traffic.log_lines(running)
            seen.slow = seen.line(SLOW_ID)["trace_id"]
        otlp.send(entrance.endpoint, traffic.dirty_spans())
        traffic.collect(seen, entrance, kept)
    return seen
