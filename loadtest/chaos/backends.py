"""PostgreSQL and Redis of a run, which can be stopped, hung, crashed and made read-only."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg
import psutil
from redis.asyncio import Redis

from app.embedded import EmbeddedServers
from loadtest.chaos.proxy import Proxy, Streams


class Backend:
    """A server of the run's own, which the service reaches through `proxy`."""

    process_name = ""

    def __init__(self, data: Path, *, postgres: bool) -> None:
        self.address = ""
        self._data, self._postgres = data, postgres
        self._servers: EmbeddedServers | None = None
        self._frozen: list[psutil.Process] = []
        self.proxy = Proxy(self._connect)

    @property
    def socket(self) -> Path:
        """The server's Unix socket."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start the server, and wait until it is ready."""

        def start() -> str:
            self._servers = EmbeddedServers(self._data, postgres=self._postgres, redis=not self._postgres)
            (address,) = self._servers.wait_until_ready().values()
            return address

        self.address = await asyncio.to_thread(start)

    async def stop(self) -> None:
        """Stop the server in order."""
        self.resume()
        if self._servers is not None:
            await asyncio.to_thread(self._servers.stop)
            self._servers = None

    def suspend(self) -> None:
        """Hang the server: its connections stay open, and nothing is answered."""
        server = self._process()
        self._frozen = [server, *server.children(recursive=True)]
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        """Continue a server that hangs."""
        for process in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        self._frozen = []

    def crash(self) -> None:
        """Kill a process of the server; it is started again on the same address."""
        raise NotImplementedError

    async def set_read_only(self, *, read_only: bool) -> None:
        """Refuse writes, as the standby does in the middle of a failover, or accept them again."""
        raise NotImplementedError

    async def _connect(self) -> Streams:
        return await asyncio.open_unix_connection(self.socket)

    def _process(self) -> psutil.Process:
        return next(
            process
            for process in psutil.Process().children(recursive=True)
            if process.name().startswith(self.process_name) and any(str(self._data) in word for word in _words(process))
        )


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


class Postgres(Backend):
    """PostgreSQL. A commit that was acknowledged survives a crash."""

    process_name = "postgres"

    def __init__(self, data: Path) -> None:
        super().__init__(data, postgres=True)

    @property
    def url(self) -> str:
        """The address for the service."""
        return f"postgresql://postgres@127.0.0.1:{self.proxy.port}/postgres"

    @property
    def socket(self) -> Path:
        """The server's Unix socket."""
        return Path(parse_qs(urlsplit(self.address).query)["host"][0]) / ".s.PGSQL.5432"

    async def start(self) -> None:
        """Start the server; the embedded one does not wait for the disk at a commit unless it is told to."""
        await super().start()
        await self.execute("ALTER DATABASE postgres SET synchronous_commit = on")

    def crash(self) -> None:
        """Kill a process of the server: all sessions end, and it recovers on the same address."""
        next(child for child in self._process().children() if "walwriter" in " ".join(_words(child))).kill()

    async def set_read_only(self, *, read_only: bool) -> None:
        """Refuse writes, as the standby does in the middle of a failover, or accept them again."""
        await self.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if read_only else 'off'}")
        await self.execute("SELECT pg_reload_conf()")

    async def execute(self, statement: str) -> None:
        """Run a statement, past the proxy."""
        connection = await self.connect()
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Return a connection past the proxy."""
        return await asyncpg.connect(self.address, timeout=10)


class Valkey(Backend):
    """Valkey, which speaks Redis' protocol."""

    def __init__(self, data: Path) -> None:
        super().__init__(data, postgres=False)

    @property
    def url(self) -> str:
        """The address for the service."""
        return f"redis://127.0.0.1:{self.proxy.port}/0"

    @property
    def socket(self) -> Path:
        """The server's Unix socket."""
        return Path(unquote(urlsplit(self.address).path))

    def _process(self) -> psutil.Process:
        return next(
            process
            for process in psutil.Process().children(recursive=True)
            if process.name() in {"valkey-server", "redis-server"} and str(self._data) in " ".join(_words(process))
        )

    def crash(self) -> None:
        """Kill the server: it is started again, empty, on the same address."""
        self._process().kill()

    async def set_read_only(self, *, read_only: bool) -> None:
        """Refuse writes, as a replica does, or accept them again."""
        client = Redis.from_url(self.address)
        try:
            master = ("127.0.0.1", 1) if read_only else ("NO", "ONE")  # nothing listens on port 1
            await cast("Any", client).execute_command("REPLICAOF", *master)
        finally:
            await client.aclose()
