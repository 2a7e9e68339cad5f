"""The client of the AI upstream against a real HTTP server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route

from app.assistant.upstream import Completion, Upstream, UpstreamError, UpstreamRejected, UpstreamTimeout
from loadtest.fake_ai import FakeAI, fake_ai
from loadtest.serving import serving

ASK = [{"role": "user", "content": "Where to?"}]
NOWHERE = "http://127.0.0.1:1/v1"


@pytest.fixture
async def ai() -> AsyncIterator[FakeAI]:
    """Yield an upstream."""
    async with fake_ai() as running:
        yield running


@pytest.fixture
async def upstream(ai: FakeAI) -> AsyncIterator[Upstream]:
    """Yield a client of the upstream."""
    client = Upstream(f"{ai.url}/", model="some-model", key="a key", timeout=10)
    yield client
    await client.close()


def answer(content: object = "Here.", **members: object) -> bytes:
    return orjson.dumps({"choices": [{"message": {"content": content}}], **members})


async def test_a_completion_is_the_text_and_its_tokens(ai: FakeAI, upstream: Upstream) -> None:
    assert await upstream.complete(ASK) == Completion("Go to the sea.", 11, 7)
    assert ai.requests == [{"model": "some-model", "messages": ASK}]
    assert ai.authorization == ["Bearer a key"]


async def test_json_is_asked_for_where_it_is_wanted(ai: FakeAI, upstream: Upstream) -> None:
    await upstream.complete(ASK, json=True)
    assert ai.requests[0]["response_format"] == {"type": "json_object"}


async def test_without_a_key_there_is_no_authorization(ai: FakeAI) -> None:
    client = Upstream(ai.url, model="some-model", key=None, timeout=10)
    await client.complete(ASK)
    await client.close()
    assert ai.authorization == [None]


@pytest.mark.parametrize("usage", [{}, {"usage": None}, {"usage": {"prompt_tokens": None}}], ids=str)
async def test_tokens_that_are_not_reported_are_none(ai: FakeAI, upstream: Upstream, usage: dict[str, Any]) -> None:
    ai.raw = answer(**usage)
    assert await upstream.complete(ASK) == Completion("Here.", 0, 0)


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_status_that_says_it_is_unwell_is_a_failure(ai: FakeAI, upstream: Upstream, status: int) -> None:
    ai.status = status
    with pytest.raises(UpstreamError, match=f"status {status}"):
        await upstream.complete(ASK)


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 422])
async def test_a_status_that_refuses_the_request_is_a_rejection(ai: FakeAI, upstream: Upstream, status: int) -> None:
    ai.status = status
    with pytest.raises(UpstreamRejected, match=f"status {status}"):
        await upstream.complete(ASK)


async def test_a_redirect_is_not_followed_with_what_a_traveller_has_written(ai: FakeAI) -> None:
    async def elsewhere(_: Request) -> RedirectResponse:
        return RedirectResponse(f"{ai.url}/chat/completions", 307)

    async with serving(Starlette(routes=[Route("/chat/completions", elsewhere, methods=["POST"])])) as url:
        client = Upstream(url, model="some-model", key="a key", timeout=10)
        (ending,) = await asyncio.gather(client.complete(ASK), return_exceptions=True)
        await client.close()
    assert isinstance(ending, UpstreamRejected)
    assert ending.status == 307
    assert ai.requests == []


GARBAGE = {
    "nothing": b"",
    "a page": b"<html></html>",
    "no UTF-8": b'"\xff\xfe"',
    "a list": b"[]",
    "a text": b'"text"',
    "null": b"null",
    "no choices": b"{}",
    "empty choices": b'{"choices": []}',
    "choices null": b'{"choices": null}',
    "no message": b'{"choices": [{}]}',
    "content null": answer(None),
    "content a list": answer(["Here."]),
    "usage a list": answer(usage=["many"]),
    "tokens a text": answer(usage={"prompt_tokens": "many"}),
    "tokens negative": answer(usage={"prompt_tokens": -1}),
    "tokens infinite": b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": Infinity}}',
    "too deep": b"[" * 200_000,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_an_answer_that_is_no_completion_is_a_failure(ai: FakeAI, upstream: Upstream, garbage: bytes) -> None:
    ai.raw = garbage
    with pytest.raises(UpstreamError, match="the answer is not a chat completion"):
        await upstream.complete(ASK)


async def test_an_answer_that_takes_too_long_is_a_timeout(ai: FakeAI) -> None:
    ai.delay = 0.5
    client = Upstream(ai.url, model="some-model", key=None, timeout=0.05)
    with pytest.raises(UpstreamTimeout, match="Timeout"):
        await client.complete(ASK)
    await client.close()


async def test_an_answer_that_trickles_in_is_a_timeout() -> None:
    ended = asyncio.Event()

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        # The client's close is a reset if it leaves bytes unread.
        with contextlib.suppress(ConnectionResetError):
            while not reader.at_eof():
                writer.write(b" ")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(65_536), 0.01)
        writer.close()
        ended.set()

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = Upstream(f"http://127.0.0.1:{port}/v1", model="some-model", key=None, timeout=0.3)
        with pytest.raises(UpstreamTimeout, match="TimeoutError"):
            await asyncio.wait_for(client.complete(ASK), 30)
        await client.close()
        await asyncio.wait_for(ended.wait(), 10)


async def test_a_server_that_is_away_is_a_failure() -> None:
    client = Upstream(NOWHERE, model="some-model", key=None, timeout=10)
    with pytest.raises(UpstreamError, match="ConnectError"):
        await client.complete(ASK)
    with pytest.raises(UpstreamError, match="ConnectError"):
        await client.ping()
    await client.close()


@pytest.mark.parametrize("status", [200, 401])
async def test_a_server_that_answers_at_all_is_there(ai: FakeAI, upstream: Upstream, status: int) -> None:
    ai.status = status
    await upstream.ping()
    assert ai.requests == []


async def test_a_server_that_is_unwell_does_not_pass_a_ping(ai: FakeAI, upstream: Upstream) -> None:
    ai.status = 503
    with pytest.raises(UpstreamError, match="status 503"):
        await upstream.ping()
