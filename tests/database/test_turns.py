"""Turns are granted in order, the health check's first, and none is lost when a wait ends early."""

import asyncio
import contextlib

import pytest

from app.database.turns import Turns

LONG = 600.0


async def waiting(turns: Turns, number: int) -> None:
    """Let the tasks go on until so many of them wait."""
    async with asyncio.timeout(30):
        while len(turns._waiting) != number:  # noqa: ASYNC110 -- nothing tells
            await asyncio.sleep(0)


async def test_turns_come_in_order_of_arrival_and_the_first_before_them() -> None:
    turns, order = Turns(1), []

    async def take(name: str, *, first: bool = False) -> None:
        async with turns.turn(LONG, first=first):
            order.append(name)

    async with asyncio.TaskGroup() as tasks, turns.turn(LONG):
        for number, name in enumerate(("a", "b"), 1):
            tasks.create_task(take(name))
            await waiting(turns, number)
        tasks.create_task(take("check", first=True))
        await waiting(turns, 3)
    assert order == ["check", "a", "b"]


async def test_a_wait_ends_with_time_out_error_and_takes_no_turn() -> None:
    turns = Turns(1)
    async with turns.turn(LONG):
        with pytest.raises(TimeoutError):
            async with turns.turn(0.01):
                pytest.fail("there is no turn")
    async with turns.turn(0.01):
        pass


@pytest.mark.parametrize("granted", [False, True])
async def test_a_cancelled_wait_loses_no_turn(granted: bool) -> None:  # noqa: FBT001
    turns = Turns(1)

    async def take() -> None:
        async with turns.turn(LONG):
            pytest.fail("it was cancelled")

    held = contextlib.AsyncExitStack()
    await held.enter_async_context(turns.turn(LONG))
    task = asyncio.create_task(take())
    await waiting(turns, 1)
    if granted:
        await held.aclose()  # the task has its turn, and has not run yet
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await held.aclose()
    async with turns.turn(0.01):
        pass
    assert turns._free == 1
