"""A real HTTP server with OpenAI's chat-completions form, which answers as a test tells it to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


@dataclass
class FakeAI:
    """What the next answers are. `requests` holds the bodies that came in."""

    url: str = ""
    text: str = "Go to the sea."
    status: int = 200
    delay: float = 0.0
    usage: dict[str, int] | None = field(default_factory=lambda: {"prompt_tokens": 11, "completion_tokens": 7})
    raw: bytes | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)

    async def complete(self, request: Request) -> Response:
        self.arrived.set()
        self.requests.append(json.loads(await request.body()))
        self.authorization.append(request.headers.get("authorization"))
        await asyncio.sleep(self.delay)
        if self.raw is not None:
            return Response(self.raw, self.status)
        if self.status != 200:
            return JSONResponse({"error": {"message": "told to fail"}}, self.status)
        answer: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": self.text}}]}
        if self.usage is not None:
            answer["usage"] = self.usage
        return JSONResponse(answer)

    async def models(self, _request: Request) -> Response:
        return JSONResponse({"data": []}, 200 if self.status < 500 else self.status)


@asynccontextmanager
async def fake_ai() -> AsyncIterator[FakeAI]:
    """Run the server on a free port of the loopback."""
    fake = FakeAI()
    routes = [Route("/v1/chat/completions", fake.complete, methods=["POST"]), Route("/v1/models", fake.models)]
    config = uvicorn.Config(Starlette(routes=routes), port=0, log_config=None, lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    server.capture_signals = _no_signals  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn sets no event
        await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    fake.url = f"http://127.0.0.1:{port}/v1"
    try:
        yield fake
    finally:
        server.should_exit = True
        await serving


class _NoSignals:
    def __enter__(self) -> None:
        """Leave the test runner's signal handlers alone."""

    def __exit__(self, *_: object) -> None:
        """Nothing was changed."""


def _no_signals() -> _NoSignals:
    return _NoSignals()
