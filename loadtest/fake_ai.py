"""A real HTTP server with OpenAI's chat-completions form, which answers as it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from loadtest.serving import serving


@dataclass
class FakeAI:
    """The settings of the next answers. `requests` holds the bodies received."""

    url: str = ""
    text: str = "Go to the sea."
    status: int = 200
    probe_status: int | None = None
    """The status of the list of models, which health checks ask for; None is that of the answers, if that is a 5xx."""
    delay: float = 0.0
    released: asyncio.Event | None = None
    """If set, no answer is given before this event."""
    usage: dict[str, int] | None = field(default_factory=lambda: {"prompt_tokens": 11, "completion_tokens": 7})
    raw: bytes | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[dict[str, Any]] = field(default_factory=list)
    authorization: list[str | None] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def complete(self, request: Request) -> Response:
        self.arrived.set()
        self.requests.append(json.loads(await request.body()))
        self.authorization.append(request.headers.get("authorization"))
        self.headers.append(dict(request.headers))
        await asyncio.sleep(self.delay)
        if self.released is not None:
            await self.released.wait()
        if self.raw is not None:
            return Response(self.raw, self.status)
        if self.status != HTTPStatus.OK:
            return JSONResponse({"error": {"message": "told to fail"}}, self.status)
        answer: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": self.text}}]}
        if self.usage is not None:
            answer["usage"] = self.usage
        return JSONResponse(answer)

    async def models(self, _request: Request) -> Response:
        if self.probe_status is not None:
            return JSONResponse({"data": []}, self.probe_status)
        return JSONResponse({"data": []}, 200 if self.status < HTTPStatus.INTERNAL_SERVER_ERROR else self.status)


@asynccontextmanager
async def fake_ai() -> AsyncIterator[FakeAI]:
    """Run the server on a free port of the loopback."""
    fake = FakeAI()
    routes = [Route("/v1/chat/completions", fake.complete, methods=["POST"]), Route("/v1/models", fake.models)]
    async with serving(Starlette(routes=routes)) as address:
        fake.url = f"{address}/v1"
        yield fake
