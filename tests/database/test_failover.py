"""A failover: two PostgreSQL servers behind a TCP proxy that leads to one and then to the other."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from app.database import pool as module
from app.database.pool import Database, DatabaseReadOnly, DatabaseUnavailable
from app.database.sessions import KEEPALIVE, USER_TIMEOUT, session_of
from app.embedded import EmbeddedServers
from tests.conftest import Application, database_named
from tests.database.test_away import beside, opened
from tests.switch import Switch, switch

REVIEWS = "/api/v1/destinations/tanah-lot/reviews"
REVIEW = {"rating": 5, "text": "Good."}


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for connections as long as a busy machine takes."""
    for name in ("ACQUIRE_TIMEOUT", "CONNECT_TIMEOUT", "REPEAT_WITHIN"):
        monkeypatch.setattr(module, name, 60.0)


@pytest.fixture(scope="module")
def second_server(scratch: Path) -> Iterator[str]:
    """Yield the address of another PostgreSQL, whose state these tests change."""
    servers = EmbeddedServers(scratch / "second", redis=False)
    yield servers.wait_until_ready()["DATABASE_URL"]
    servers.stop()


@pytest.fixture
async def old_url(second_server: str, database_url: str) -> AsyncIterator[str]:
    """Yield a database on the other server, with the name of the test's own database. Other tests find it writable."""
    name = urlsplit(database_url).path.strip("/")
    await beside(second_server, f"CREATE DATABASE {name}")
    yield database_named(second_server, name)
    await read_only(second_server, on=False)


async def read_only(url: str, *, on: bool) -> None:
    """Make a server refuse writes, or accept them again; open sessions are told too."""
    await beside(url, f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
    await beside(url, "SELECT pg_reload_conf()")
    async with asyncio.timeout(30):
        # The server tells its sessions before it starts another.
        while await state(url, "SHOW default_transaction_read_only") != ("on" if on else "off"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def state(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    value = await connection.fetchval(query)
    await connection.close()
    return value


def socket_of(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0]) / ".s.PGSQL.5432"


@asynccontextmanager
async def leading_to(url: str) -> AsyncIterator[tuple[Switch, str]]:
    """Yield a proxy in front of the server of `url`, and the address of the same database through it."""
    async with switch(socket_of(url)) as proxy:
        yield proxy, f"postgresql://postgres@127.0.0.1:{proxy.port}{urlsplit(url).path}?sslmode=disable"


@asynccontextmanager
async def service(application: Application, url: str) -> AsyncIterator[tuple[Switch, httpx.AsyncClient]]:
    """Yield a proxy to the server of `url` and a client of an application that has all its connections open there."""
    async with leading_to(url) as (proxy, through), application(database_url=through) as client:
        answers = await asyncio.gather(*(client.post(REVIEWS, json=REVIEW) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {201}
        yield proxy, client


async def post(client: httpx.AsyncClient, number: int) -> list[int]:
    return [(await client.post(REVIEWS, json=REVIEW)).status_code for _ in range(number)]


async def readiness(client: httpx.AsyncClient) -> tuple[int, str]:
    answer = await client.get("/health/ready")
    return answer.status_code, answer.json()["checks"]["database"].get("error", "")


SLEEP = "SELECT pg_sleep(30 * $1::int)"
COUNT = "SELECT count(*) FROM reviews"


async def test_writes_go_to_the_new_primary_once_the_old_one_refuses_them(
    application: Application, old_url: str, database_url: str
) -> None:
    async with service(application, old_url) as (proxy, client):
        await read_only(old_url, on=True)
        proxy.lead_to(socket_of(database_url))
        # The refused write is itself safe to repeat.
        assert await post(client, 36) == [201] * 36
        assert await readiness(client) == (200, "")
    assert (await state(old_url, COUNT), await state(database_url, COUNT)) == (20, 36)


async def test_a_database_that_is_read_only_is_not_ready_and_is_logged_once(
    application: Application, old_url: str
) -> None:
    async with service(application, old_url) as (proxy, client):
        await read_only(old_url, on=True)
        before = proxy.accepted
        with capture_logs() as lines:
            assert await readiness(client) == (503, "the database is read-only")
            assert (await client.get("/health")).status_code == 503
            assert await post(client, 20) == [503] * 20
        assert [line["event"] for line in lines if line["log_level"] == "warning"] == [
            "database_pool_renewed",
            "database_repeated",
            "database_unavailable",
        ]
        # A storm renews the pool once; one connection is used at a time here.
        assert proxy.accepted - before <= 3
        assert (await client.get(REVIEWS)).status_code == 200
        await read_only(old_url, on=False)
        assert await readiness(client) == (200, "")
        assert await post(client, 1) == [201]


@pytest.mark.parametrize("way", ["close", "reset"])
async def test_connections_that_end_are_replaced_before_they_are_used(
    application: Application, old_url: str, database_url: str, way: str
) -> None:
    async with service(application, old_url) as (proxy, client):
        proxy.lead_to(socket_of(database_url))
        getattr(proxy, way)()
        async with asyncio.timeout(30):
            # Each end reaches the client on its own.
            while (await client.get(REVIEWS)).json()["items"]:  # noqa: ASYNC110
                await asyncio.sleep(0)
        assert await readiness(client) == (200, "")
        assert await post(client, 12) == [201] * 12
    assert await state(database_url, COUNT) == 12


async def test_a_read_whose_connection_ends_is_repeated_and_a_write_is_not(old_url: str) -> None:
    async def end_once(connection: module.Connection) -> object:
        calls.append(1)
        if len(calls) == 1:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return await connection.fetchval("SELECT $1::int", 7)

    calls: list[int] = []
    async with opened(old_url) as database:
        assert await database.read("ping", end_once) == 7
        assert len(calls) == 2
        calls.clear()
        with pytest.raises(DatabaseUnavailable):
            await database.transact("add_review", end_once)
        assert len(calls) == 1


async def test_connections_to_a_server_that_vanished_are_given_up_together(
    old_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with leading_to(old_url) as (proxy, through), opened(through, size=5) as database:
        await hold_all(database, 5)
        proxy.lead_to(socket_of(database_url))
        proxy.swallow()
        monkeypatch.setattr(module, "REPEAT_WITHIN", 0.0)
        with pytest.raises(DatabaseUnavailable, match="TimeoutError"):
            await database.read("ping", lambda connection: connection.fetchval("SELECT 1", timeout=0.05))
        # All others were to the same server, so none of them is tried.
        served = await asyncio.gather(
            *(
                database.read("ping", lambda connection: connection.fetchval("SELECT current_database()"))
                for _ in range(20)
            )
        )
        assert len(served) == 20
        await database.ping()


async def hold_all(database: Database, size: int) -> None:
    """Have `size` connections in use at the same time: a pool that lost one waits for ever."""
    held = asyncio.Barrier(size)

    async def hold() -> None:
        async with database.connection(30):
            await held.wait()

    async with asyncio.timeout(30):
        await asyncio.gather(*(hold() for _ in range(size)))


async def test_requests_that_are_cancelled_leave_the_pool_whole(database_url: str) -> None:
    async with opened(database_url, size=3) as database:
        for steps in range(40):
            work = [asyncio.create_task(database.read("ping", sleep_in_the_database)) for _ in range(4)]
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in work:
                task.cancel()
            await asyncio.wait(work)
        # A cancel request may overtake its statement: the driver then closes the connection after COMMAND_TIMEOUT.
        await hold_all(database, 3)
        await database.ping()


async def sleep_in_the_database(connection: module.Connection) -> object:
    return await connection.fetchval(SLEEP, 1)


async def test_a_peer_that_vanishes_is_noticed_by_the_kernel(database_url: str) -> None:
    async with leading_to(database_url) as (_, through), opened(through) as database, database.connection() as one:
        used = session_of(one)._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        values = {name: used.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEEPALIVE | USER_TIMEOUT}
        assert values == KEEPALIVE | USER_TIMEOUT
        assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_a_standby_is_read_only(old_url: str) -> None:
    await read_only(old_url, on=True)
    async with opened(old_url) as database:
        with pytest.raises(DatabaseReadOnly):
            await database.ping()
