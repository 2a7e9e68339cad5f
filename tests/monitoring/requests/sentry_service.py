"""A service with Sentry, integrated as the first argument says, and request spans of the maker that the second names.

Asks itself for /boom.

A process of its own, since Sentry replaces methods of Starlette and of the standard library's logging.
"""

import asyncio
import sys
from typing import Any

import sentry_sdk
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration

from app.monitoring import logging
from app.monitoring.requests.placement import observe
from app.monitoring.traces.instrumented import instrument_fastapi
from tests.monitoring.requests.served import served

# It takes brotli where that is installed, which the standard library of the receiver cannot read.
GZIP: Any = {"transport_compression_algo": "gzip"}


async def boom() -> None:
    raise LookupError("no such beach")


def application(way: str, maker: str, dsn: str) -> Any:
    """Return the application with Sentry in it, around it, or in both places."""
    if way == "automatic":
        sentry_sdk.init(dsn, _experiments=GZIP)
    else:
        logs = [LoggingIntegration(), DedupeIntegration()] if way != "middleware without logging" else []
        sentry_sdk.init(
            dsn, default_integrations=False, auto_enabling_integrations=False, integrations=logs, _experiments=GZIP
        )
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
    app.add_api_route("/boom", boom)
    app.add_exception_handler(Exception, lambda _request, _error: JSONResponse("own", 500))
    if way.startswith("middleware"):
        app.add_middleware(SentryAsgiMiddleware)
    if maker == "instrumentation":
        instrument_fastapi(app)
    observe(app, instrumented=maker == "instrumentation")
    return SentryAsgiMiddleware(app) if way == "around" else app


async def main(way: str, maker: str, dsn: str) -> None:
    """Serve, ask once, and wait until Sentry has sent what it has."""
    logging.configure(renderer="json", level="INFO", service="t", version="1", environment="test")
    async with served(application(way, maker, dsn)) as client:
        answer = await client.get("/boom")
    assert (answer.status_code, answer.json()) == (500, "own")
    sentry_sdk.flush(10)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
