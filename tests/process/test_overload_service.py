"""The agency's service under overload, with PostgreSQL and an AI upstream that do not answer."""

import asyncio
from pathlib import Path

import asyncpg

from loadtest.fake_ai import fake_ai
from tests.plain_http import plain
from tests.process.service import Service, service, wait_for

CATALOGUE, CHAT = "/api/v1/destinations", "/api/v1/assistant/chat"
NARROW = {"WEB_CONCURRENCY": "1", "MAX_IN_FLIGHT": "1", "MAX_QUEUED_REQUESTS": "0"}


def in_flight(running: Service) -> float:
    return running.total("baliblissed_requests_in_flight")


async def test_requests_that_wait_for_the_database_are_bounded(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses, **NARROW) as running:
        await asyncio.to_thread(wait_for, lambda: running.answers(CATALOGUE), "the catalogue")
        connection = await asyncpg.connect(addresses["DATABASE_URL"])
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE destinations")
                answers = await asyncio.gather(*(asyncio.to_thread(running.get, CATALOGUE) for _ in range(10)))
        finally:
            await connection.close()
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        shed = [answer for answer in answers if "overloaded" in answer.json()["detail"]]
        assert 0 < len(shed) < 10
        assert running.total("baliblissed_requests_shed_total", reason="queue_full") == len(shed)
        await asyncio.to_thread(wait_for, lambda: running.answers(CATALOGUE), "the catalogue again")
        await asyncio.to_thread(wait_for, lambda: in_flight(running) == 0, "the end of every request")


async def test_requests_that_wait_for_the_assistant_do_not_count(tmp_path: Path, addresses: dict[str, str]) -> None:
    async with fake_ai() as ai:
        ai.released = asyncio.Event()
        with service(tmp_path, AI_BASE_URL=ai.url, **addresses, **NARROW) as running:
            await asyncio.to_thread(wait_for, lambda: running.answers(CATALOGUE), "the catalogue")
            chat = asyncio.create_task(
                asyncio.to_thread(plain.post, running.url + CHAT, json={"message": "Where?"}, timeout=60)
            )
            await asyncio.wait_for(ai.arrived.wait(), 60)
            assert (await asyncio.to_thread(running.get, CATALOGUE)).status_code == 200
            ai.released.set()
            assert (await chat).status_code == 200
