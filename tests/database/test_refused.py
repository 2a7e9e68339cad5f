"""A database that refuses connections or shuts down is away. Uses a real one where possible."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from app.database import pool as module
from app.database.pool import DatabaseUnavailable
from app.embedded import EmbeddedServers
from tests.database.test_away import GONE, beside, opened


async def refused(url: str) -> BaseException | None:
    """Return the driver's error for a connection that cannot be made."""
    async with opened(url) as database:
        with pytest.raises(DatabaseUnavailable) as caught:
            await database.ping()
    return caught.value.__cause__


async def test_a_login_that_is_not_permitted_means_away(database_url: str) -> None:
    assert (
        type(await refused(database_url.replace("postgres@", "nobody_at_all@")))
        is asyncpg.InvalidAuthorizationSpecificationError
    )


async def test_a_connection_too_many_means_away(database_url: str) -> None:
    await beside(database_url, "CREATE ROLE narrow LOGIN CONNECTION LIMIT 1")
    narrow = database_url.replace("postgres@", "narrow@")
    try:
        only = await asyncpg.connect(narrow)
        assert type(await refused(narrow)) is asyncpg.TooManyConnectionsError
        await only.close()
    finally:
        await beside(database_url, "DROP ROLE narrow")


@asynccontextmanager
async def peer(answer: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[str]:
    """Yield the URL of a server that is not PostgreSQL; it calls `answer` for each connection."""
    writers = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await reader.read(8)
        answer(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"postgresql://postgres@127.0.0.1:{server.sockets[0].getsockname()[1]}/postgres?sslmode=disable"
    server.close()
    for writer in writers:
        writer.close()
    await server.wait_closed()


async def test_a_server_that_hangs_up_means_away() -> None:
    async with peer(lambda writer: writer.close()) as url:
        assert isinstance(await refused(url), OSError | GONE)


async def test_a_server_that_says_nothing_means_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.05)
    async with peer(lambda _: None) as url:
        assert type(await refused(url)) is TimeoutError


async def test_a_server_that_speaks_another_protocol_means_away() -> None:
    def nonsense(writer: asyncio.StreamWriter) -> None:
        writer.write(b"R\0\0\0\x08\0\0\0\x63")  # an unknown authentication method
        writer.write_eof()

    async with peer(nonsense) as url:
        assert isinstance(await refused(url), asyncpg.InterfaceError | asyncpg.InternalClientError)


async def test_nobody_at_the_port_means_away() -> None:
    async with peer(lambda _: None) as url:
        pass
    assert isinstance(await refused(url), OSError)


async def test_a_server_that_shuts_down_or_crashes_means_away(scratch: Path) -> None:
    servers = EmbeddedServers(scratch / "away", redis=False)
    url = servers.wait_until_ready()["DATABASE_URL"]
    try:
        await _crash(url)
        await _shut_down_smartly(url)
    finally:
        servers.stop()


async def _crash(url: str) -> None:
    """Kill one server process: PostgreSQL ends all sessions, since their shared memory may be damaged."""
    victim = await asyncpg.connect(url)
    async with opened(url) as database:

        async def sleep() -> None:
            async with database.connection() as connection:
                psutil.Process(victim.get_server_pid()).kill()
                await connection.execute("SELECT pg_sleep(30)")

        with pytest.raises(DatabaseUnavailable) as caught:
            await sleep()
        assert type(caught.value.__cause__) is GONE

        async def answers() -> bool:
            try:
                await database.ping()
            except DatabaseUnavailable:  # it recovers; no other error may come through
                return False
            return True

        async with asyncio.timeout(30):
            while not await answers():  # noqa: ASYNC110 -- another process has no event
                await asyncio.sleep(0.01)


async def _shut_down_smartly(url: str) -> None:
    """Shut down smartly: PostgreSQL refuses new sessions and waits for the open ones."""
    last = await asyncpg.connect(url)
    psutil.Process(last.get_server_pid()).parent().terminate()  # type: ignore[union-attr]
    async with opened(url) as database:
        async with asyncio.timeout(30):
            while True:
                try:
                    await database.ping()
                except DatabaseUnavailable as error:
                    refusal = error.__cause__
                    break
    assert type(refusal) is asyncpg.CannotConnectNowError
    await last.close()
