"""A TCP proxy in front of servers, which a test switches from one to another, as the name of a primary is."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

Address = Path | tuple[str, int]
Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class Switch:
    """Connects each client to the server at `target`: the path of a Unix socket, or host and port."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.port = 0
        self.accepted = 0
        self._pairs: list[Pair] = []
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        self.accepted += 1
        with contextlib.closing(writer):
            if isinstance(self.target, Path):
                server_reader, server_writer = await asyncio.open_unix_connection(self.target)
            else:
                server_reader, server_writer = await asyncio.open_connection(*self.target)
            with contextlib.closing(server_writer):
                self._pairs.append((writer, server_writer))
                flowing = self._flowing
                await asyncio.gather(_copy(reader, server_writer, flowing), _copy(server_reader, writer, flowing))

    def lead_to(self, target: Address) -> None:
        """Connect later clients to `target`."""
        self.target = target

    def close(self) -> None:
        """Close every connection."""
        for pair in self._pairs:
            for writer in pair:
                writer.close()

    def reset(self) -> None:
        """Reset every connection of a client."""
        for writer, server in self._pairs:
            if writer.is_closing():
                continue
            connected: socket.socket = writer.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            server.close()

    def swallow(self) -> None:
        """Pass nothing on for the clients of now, whose connections stay open."""
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    try:
        while data := await reader.read(65_536):
            await flowing.wait()
            writer.write(data)
    except OSError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def switch(target: Address) -> AsyncIterator[Switch]:
    """Yield a proxy that listens on 127.0.0.1."""
    made = Switch(target)
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.get_running_loop().create_task(made.accept(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        made.close()
