"""An application behind a real uvicorn in the test's event loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Literal

import httpx
import uvicorn


@asynccontextmanager
async def served(
    app: Any, *, lifespan: Literal["on", "off"] = "on", root_path: str = ""
) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of `app`."""
    config = uvicorn.Config(app, port=0, log_config=None, lifespan=lifespan, root_path=root_path, access_log=False)
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 -- uvicorn sets no event
        await asyncio.sleep(0.001)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        await running
