"""Pauses after rejections: how long, how many end together, and what a client sends meanwhile."""

import asyncio
from collections.abc import Callable

import pytest

from app.monitoring.server import rejection
from app.monitoring.server.flow import PIECE_BYTES
from app.monitoring.server.rejection import TICK_SECONDS, Pauses
from tests.monitoring.server.connections import GET, Connected, Wire, connected, settle

REJECTED = b"503 Service"


def forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pause last longer than the test."""
    monkeypatch.setattr(rejection, "PAUSES_SECONDS", (600.0,))


def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a pause end with the next tick."""
    monkeypatch.setattr(rejection, "PAUSES_SECONDS", (0.001,))


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 -- no event
            await asyncio.sleep(0)


async def reject_one(one: Connected) -> None:
    """Have the request of a connection rejected: another has the only slot."""
    one.connect(Wire()).data_received(GET)
    await settle()
    one.protocol.data_received(GET)
    assert one.wire.written.count(REJECTED) == 1


async def test_no_pause_ends_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, pauses, ended = asyncio.get_running_loop(), Pauses(), list[str]()

    def at(seconds: float) -> None:
        monkeypatch.setattr(loop, "time", lambda: 1000 * TICK_SECONDS + seconds)

    at(0.01)
    pauses.add(lambda: ended.append("first"), 0.0)
    at(0.04)
    pauses.add(lambda: ended.append("second"), 0.03)
    at(0.062)
    await until(lambda: bool(ended))
    await settle()
    assert ended == ["first"]
    at(0.07 + TICK_SECONDS)
    await until(lambda: len(ended) == 2)


async def test_pauses_that_end_together_wake_the_event_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, pauses, ended = asyncio.get_running_loop(), Pauses(), list[int]()
    monkeypatch.setattr(loop, "time", lambda: 1000.0)
    for number in range(500):
        pauses.add(lambda number=number: ended.append(number), 0.01 * (number % 4))  # type: ignore[misc]
    monkeypatch.setattr(loop, "time", lambda: 1000.0 + 2 * TICK_SECONDS)
    await until(lambda: bool(ended))
    assert len(ended) == 500


async def test_a_pause_that_ends_with_an_error_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, pauses, ended, errors = asyncio.get_running_loop(), Pauses(), list[str](), list[object]()
    monkeypatch.setattr(loop, "call_exception_handler", errors.append)

    def failing() -> None:
        raise ValueError

    pauses.add(failing, 0.0)
    pauses.add(lambda: ended.append("same"), 0.0)
    pauses.add(lambda: ended.append("later"), 2 * TICK_SECONDS)
    await until(lambda: len(ended) == 2)
    assert ended == ["same", "later"]
    assert len(errors) == 1


async def test_a_burst_of_rejections_pauses_each_connection_within_its_second() -> None:
    async with connected(in_flight=1, queued=0) as one:
        one.connect(Wire()).data_received(GET)
        wires = [Wire() for _ in range(100)]
        for wire in wires:
            one.connect(wire).data_received(GET * 2)
        await settle()
        # A first rejection has no pause, until there have been too many of the worker.
        assert [wire.written.count(REJECTED) for wire in wires[:10]] == [2] * 10
        assert [wire.written.count(REJECTED) for wire in wires[-50:]] == [1] * 50


async def test_a_request_sent_in_a_pause_is_read_and_handled_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    soon(monkeypatch)
    async with connected(in_flight=1, queued=0) as one:
        await reject_one(one)
        one.protocol.data_received(GET[:10])
        one.protocol.data_received(GET[10:])
        await settle()
        assert one.wire.reads
        assert one.wire.written.count(REJECTED) == 1
        await one.answer(0)
        await until(lambda: len(one.application.started) == 2)
        await one.answer(1)
        assert one.wire.written.count(b"200 OK") == 1


async def test_a_client_that_sends_more_in_a_pause_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    forever(monkeypatch)
    async with connected(in_flight=1, queued=0) as one:
        await reject_one(one)
        one.protocol.data_received(GET)
        assert one.wire.reads
        one.protocol.data_received(b"GET /" + b"x" * PIECE_BYTES)
        assert not one.wire.reads
        assert one.wire.written.count(REJECTED) == 1


async def test_reading_goes_on_after_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    soon(monkeypatch)
    async with connected(in_flight=1, queued=0) as one:
        await reject_one(one)
        one.protocol.data_received(GET * (2 * PIECE_BYTES // len(GET)))
        assert not one.wire.reads
        await one.answer(0)
        for number in range(1, 2 * PIECE_BYTES // len(GET) + 1):
            await until(lambda number=number: len(one.application.started) > number)  # type: ignore[misc]
            await one.answer(number)
        assert one.wire.reads


async def test_a_connection_in_a_pause_is_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    forever(monkeypatch)
    async with connected(in_flight=1, queued=0) as one:
        assert one.protocol.idle
        await reject_one(one)
        assert not one.protocol.idle


async def test_a_client_that_leaves_in_a_pause_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    soon(monkeypatch)
    async with connected(in_flight=1, queued=0) as one:
        await reject_one(one)
        one.protocol.data_received(GET)
        one.wire.close()
        one.protocol.connection_lost(None)
        ended = asyncio.Event()
        assert one.state.admission is not None
        one.state.admission.pauses.add(ended.set, 2 * TICK_SECONDS)
        await ended.wait()
        await one.answer(0)
        assert len(one.application.started) == 1


async def test_a_request_sent_in_a_pause_is_answered_before_the_connection_is_shut_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soon(monkeypatch)
    async with connected(in_flight=1, queued=0) as one:
        await reject_one(one)
        one.protocol.data_received(GET)
        one.state.close_after_responses()
        one.protocol.shutdown()
        assert not one.wire.closed
        await one.answer(0)
        await until(lambda: len(one.application.started) == 2)
        await one.answer(1)
        assert b"connection: close" in one.wire.written
        assert one.wire.closed
