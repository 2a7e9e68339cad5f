"""A TCP proxy between the service and a server, which can delay, stall, cut and refuse connections."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from loadtest.programs import free_port

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
CHUNK_BYTES = 1 << 16


class Proxy:
    """A proxy on a port of the loopback, the same for its whole life. `connect` opens a connection to the server."""

    def __init__(self, connect: Callable[[], Awaitable[Streams]]) -> None:
        self.port = free_port()
        self.delay = 0.0
        """Seconds that each chunk is held back, in both directions."""
        self._connect = connect
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def start(self) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def refuse(self) -> None:
        """Refuse new connections, and cut those that are open. `start` accepts connections again."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Reset all open connections."""
        for writer in list(self._open):
            writer.transport.abort()

    def stall(self) -> None:
        """Accept connections, and forward nothing until `flow`."""
        self._flowing.clear()

    def flow(self) -> None:
        """Pass on what has been held back."""
        self._flowing.set()

    async def stop(self) -> None:
        """Close everything."""
        self.refuse()
        self.flow()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        server: asyncio.StreamWriter | None = None
        try:
            await self._flowing.wait()
            answers, server = await self._connect()
            self._open.add(server)
            pumps = {asyncio.create_task(self._pump(reader, server)), asyncio.create_task(self._pump(answers, writer))}
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:  # the server is away
            return
        finally:
            for end in filter(None, (writer, server)):
                self._open.discard(end)
                end.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._flowing.wait()
                target.write(chunk)
                await target.drain()
