"""The TCP proxy of the tests of failovers."""

import asyncio
import contextlib

import pytest

from tests.switch import switch

HOST = "127.0.0.1"


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer):
        while data := await reader.read(100):
            writer.write(data)


async def test_a_reset_leaves_connections_alone_that_have_ended() -> None:
    server = await asyncio.start_server(echo, HOST, 0)
    async with server, switch(server.sockets[0].getsockname()[:2]) as proxy:
        for ended in (True, False):
            reader, writer = await asyncio.open_connection(HOST, proxy.port)
            writer.write(b"x")
            assert await reader.read(1) == b"x"
            if ended:
                writer.write_eof()
                assert await reader.read() == b""  # the proxy has closed it
                writer.close()
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
