"""The clients never send a request twice, and count what becomes of each."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from loadtest.keep_alive import Results, tcp, traffic
from loadtest.programs import free_port

ANSWER = b"HTTP/1.1 %s\r\nContent-Length: 2\r\n%s\r\nok"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    """Yield the port of a server that calls `handler` for each request, and closes the connection if it raises."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await handler(reader, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def seen(port: int, reached: Callable[[Results], bool]) -> Results:
    async with asyncio.timeout(30), traffic(tcp(port), "/", connections=2, rate=100) as results:
        while not reached(results):  # noqa: ASYNC110 -- the results set no event
            await asyncio.sleep(0.01)
    return results


async def test_answers_are_counted_by_status_with_their_times() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER % (b"201 Created", b""))

    async with serving(answer) as port:
        results = await seen(port, lambda found: len(found.seconds) > 10)
    assert results.statuses == {201: len(results.seconds)}
    assert (results.failed, results.closed) == ([], 0)
    assert results.longest_gap > 0
    assert 0 <= results.quantile(0.5) <= results.quantile(1.0) == max(results.seconds)


async def test_a_connection_that_is_closed_between_two_messages_fails_no_request() -> None:
    async def answer_and_close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER % (b"200 OK", b""))
        await writer.drain()
        raise ConnectionError

    async with serving(answer_and_close) as port:
        results = await seen(port, lambda found: found.closed > 10)
    assert (results.failed, results.announced) == ([], 0)


async def test_an_announced_close_fails_no_request() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER % (b"200 OK", b"Connection: close\r\n"))

    async with serving(answer) as port:
        results = await seen(port, lambda found: found.announced > 10)
    assert results.failed == []
    assert results.closed == results.announced


async def test_a_request_that_is_read_and_not_answered_is_a_failure_and_is_not_sent_again() -> None:
    read = 0

    async def close(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        nonlocal read
        read += 1
        raise ConnectionError

    async with serving(close) as port:
        results = await seen(port, lambda found: len(found.failed) > 10)
    assert {failure.partition("(")[0] for failure in results.failed} <= {"IncompleteReadError", "ConnectionResetError"}
    assert read == len(results.failed)


async def test_a_refused_connection_is_told_from_a_request_that_was_written() -> None:
    results = await seen(free_port(), lambda found: len(found.failed) > 10)
    assert {failure.partition("(")[0] for failure in results.failed} == {"ConnectionRefusedError"}


async def test_an_answer_that_does_not_come_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("loadtest.keep_alive.ANSWER_SECONDS", 0.05)

    async def say_nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        return

    async with serving(say_nothing) as port:
        results = await seen(port, lambda found: len(found.failed) > 3)
    assert {failure.partition("(")[0] for failure in results.failed} == {"TimeoutError"}
