"""HEAD as the layer outside counts it, and as routes answer it."""

import asyncio

import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.types import Message, Receive, Scope, Send

from app.middleware.head import HeadMiddleware

router = APIRouter()


@router.get("/read")
@router.get("/both")
async def read(request: Request) -> Response:
    await request.body()
    return Response(headers={"x-by": "get"})


@router.head("/both")
@router.head("/only")
async def head() -> Response:
    return Response(headers={"x-by": "head"})


def application(*, included: bool) -> FastAPI:
    app = FastAPI()
    if included:
        app.include_router(router)
    else:
        app.router.routes += router.routes
    app.add_middleware(HeadMiddleware)
    return app


async def answer(app: FastAPI, path: str) -> tuple[int, dict[bytes, bytes]]:
    """Return status and headers of a HEAD."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope_of(path), receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


def scope_of(path: str) -> Scope:
    return {
        "type": "http",
        "method": "HEAD",
        "path": path,
        "raw_path": path.encode(),
        "headers": [],
        "query_string": b"",
    }


@pytest.mark.parametrize("included", [True, False], ids=["included", "own"])
@pytest.mark.parametrize(("path", "by"), [("/read", b"get"), ("/only", b"head"), ("/both", b"head")])
async def test_a_head_is_answered_by_its_own_route_or_that_of_get(path: str, by: bytes, *, included: bool) -> None:
    status, headers = await answer(application(included=included), path)
    assert (status, headers.get(b"x-by")) == (200, by)


async def test_a_client_that_leaves_early_is_seen_with_the_method_of_its_request() -> None:
    scope, seen = scope_of("/read"), []

    async def receive() -> Message:
        await asyncio.sleep(0)
        seen.append(scope["method"])
        return {"type": "http.disconnect"}

    async def app(inner: Scope, inner_receive: Receive, _send: Send) -> None:
        await inner_receive()
        seen.append(inner["method"])  # for a router that comes later

    async def send(_: Message) -> None: ...

    await HeadMiddleware(app)(scope, receive, send)
    assert [*seen, scope["method"]] == ["HEAD", "GET", "HEAD"]
