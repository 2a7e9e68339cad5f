"""Request bodies are bounded, whether or not their length is announced."""

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem


class BodyLimitMiddleware:
    """Answers 413 to a request whose body is larger than `limit` bytes; it stands inside the observing layer."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        detail = f"The body is larger than {self.limit} bytes."
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self.limit:
            status, request_id = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, scope.get("request_id")
            await problem(status, detail, request_id=request_id, path=scope["path"])(scope, receive, send)
            return
        received = 0

        async def bounded_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                # Raised where the handler reads the body, so it becomes a problem like any other.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
            return message

        await self.app(scope, bounded_receive, send)
