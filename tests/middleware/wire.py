"""The server side of one ASGI request."""

import asyncio
from typing import Any

from starlette.types import ASGIApp, Message, Scope


class Wire:
    """One connection. The client disconnects by `hang_up`, or sends fail after `breaks_at` messages (from ASGI 2.4)."""

    def __init__(
        self,
        path: str = "/",
        method: str = "GET",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        spec: str = "2.3",
        breaks_at: int | None = None,
        **scope: Any,
    ) -> None:
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"testserver"), *headers],
            "client": ("198.51.100.7", 40_000),
            "server": ("127.0.0.1", 8000),
            **scope,
        }
        self.incoming: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
        self.sent: list[Message] = []
        self._breaks_at = breaks_at
        self._gone = asyncio.Event()

    async def receive(self) -> Message:
        if self.incoming:
            return self.incoming.pop(0)
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._breaks_at is not None and len(self.sent) >= self._breaks_at:
            raise BrokenPipeError("the client has gone")
        self.sent.append(message)

    def hang_up(self) -> None:
        """Disconnect the client."""
        self._gone.set()

    async def run(self, app: ASGIApp) -> None:
        """Run `app` on this connection."""
        await app(self.scope, self.receive, self.send)

    @property
    def status(self) -> int | None:
        """Return the status of the response, or None if it has not started."""
        return next((message["status"] for message in self.sent if message["type"] == "http.response.start"), None)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of the response."""
        (start,) = [message for message in self.sent if message["type"] == "http.response.start"]
        return list(start["headers"])
