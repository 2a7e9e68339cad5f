"""Requests that come before the one before them is answered: their number, and the reading of the connection."""

import asyncio

import pytest

from app.monitoring.server import rejection
from app.monitoring.server.flow import MAX_PIPELINED, PIECE_BYTES
from tests.monitoring.server.connections import GET, Connected, Wire, connected, settle

SMALLEST = b"GET / HTTP/1.1\r\nHost:\r\n\r\n"
MOST = MAX_PIPELINED + PIECE_BYTES // len(SMALLEST) + 1
LARGE = b"POST /c HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000


async def answer_all(one: Connected, number: int) -> list[int]:
    """Answer `number` requests one by one. Return how many waited in the pipeline at each."""
    waiting = []
    for index in range(number):
        waiting.append(len(one.protocol.pipeline))
        await one.answer(index)
    return waiting


async def test_the_requests_of_one_read_that_wait_are_bounded() -> None:
    async with connected() as one:
        one.protocol.data_received(SMALLEST * 2000)
        await settle()
        waiting = await answer_all(one, 2000)
        assert max(waiting) <= MOST
        assert one.wire.written.count(b"200 OK") == 2000
        assert one.wire.reads


async def test_nothing_is_read_while_requests_wait() -> None:
    async with connected() as one:
        one.protocol.data_received(GET * 3)
        await settle()
        reads = []
        for number in range(3):
            reads.append(one.wire.reads)  # the application reads too
            await one.answer(number)
        assert [*reads, one.wire.reads] == [False, False, True, True]


async def test_nothing_is_read_while_a_part_of_the_last_read_waits() -> None:
    async with connected() as one:
        one.protocol.data_received(SMALLEST * 500)
        await settle()
        for number in range(499):
            assert not one.wire.reads
            await one.answer(number)
        assert one.wire.reads


@pytest.mark.parametrize("before", [1, 300])
async def test_a_body_behind_other_requests_arrives_whole(before: int) -> None:
    async with connected() as one:
        one.protocol.data_received(SMALLEST * before + LARGE[:-100_000])
        await settle()
        await answer_all(one, before)
        assert one.wire.reads
        one.protocol.data_received(LARGE[-100_000:] + GET)
        await settle()
        await one.answer(before)
        assert one.application.bytes_read == 200_000
        assert one.application.started[before:] == ["/c", "/a"]


async def test_a_body_that_is_not_read_is_not_read_on() -> None:
    async with connected(in_flight=1) as one:
        one.connect(Wire()).data_received(GET)  # holds the only slot
        one.protocol.data_received(LARGE)
        await settle()
        assert not one.wire.reads


async def test_a_connection_that_closes_behind_many_requests_starts_none_of_them() -> None:
    async with connected() as one:
        one.protocol.data_received(SMALLEST * 500)
        await settle()
        one.protocol.connection_lost(None)
        await settle()
        await one.answer(0)
        assert one.application.started == ["/"]


async def test_a_refusal_behind_many_requests_is_the_last_response() -> None:
    async with connected() as one:
        one.protocol.data_received(SMALLEST * 300 + b"GET /a b HTTP/1.1\r\n\r\n" + SMALLEST * 300)
        await settle()
        await answer_all(one, 300)
        assert one.wire.written.count(b"200 OK") == 300
        assert one.wire.written.count(b"400 Bad Request") == 1
        assert one.wire.ended
        assert len(one.application.started) == 300


async def shedding(one: Connected, requests: bytes) -> None:
    """Send requests to a worker whose only slot is taken."""
    one.connect(Wire()).data_received(GET)
    one.protocol.data_received(requests)
    await settle()


async def test_pipelined_requests_are_not_shed_during_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejection, "PAUSES_SECONDS", (0.0, 600.0))
    async with connected(in_flight=1, queued=0) as one:
        await shedding(one, SMALLEST * 2000)
        assert one.wire.written.count(b"503 Service") == 2
        assert not one.wire.reads
        assert len(one.protocol.pipeline) <= MOST


async def test_pipelined_requests_are_shed_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejection, "PAUSES_SECONDS", (0.0, 0.001))
    monkeypatch.setattr(rejection, "TICK_SECONDS", 0.001)
    async with connected(in_flight=1, queued=0) as one:
        await shedding(one, SMALLEST * 300)
        async with asyncio.timeout(30):
            while one.wire.written.count(b"503 Service") < 300 or not one.wire.reads:  # noqa: ASYNC110 -- no event
                await asyncio.sleep(0)


async def test_pipelined_requests_are_not_shed_while_the_client_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejection, "PAUSES_SECONDS", (0.0,))
    async with connected(in_flight=1, queued=0) as one:
        one.protocol.pause_writing()
        await shedding(one, SMALLEST * 300)
        assert one.wire.written.count(b"503 Service") == 1
        assert not one.wire.reads
        one.protocol.resume_writing()
        while len(one.protocol.pipeline) or one.protocol.flow.unparsed:
            await settle()
        assert one.wire.written.count(b"503 Service") == 300
        assert one.wire.reads


async def test_a_pause_goes_on_after_the_client_has_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejection, "PAUSES_SECONDS", (600.0,))
    async with connected(in_flight=1, queued=0) as one:
        one.protocol.pause_writing()
        await shedding(one, GET * 2)
        one.protocol.resume_writing()
        await settle()
        assert one.wire.written.count(b"503 Service") == 1
        assert not one.wire.reads


async def test_a_refusal_during_a_pause_closes_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rejection, "PAUSES_SECONDS", (0.0, 600.0))
    async with connected(in_flight=1, queued=0) as one:
        await shedding(one, GET * 2 + b"no request\r\n\r\n")
        assert one.wire.written.count(b"503 Service") == 2
        assert b"400 Bad Request" in one.wire.written
        assert one.wire.ended
        assert one.wire.reads
