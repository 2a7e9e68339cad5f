"""Pauses the listeners of a worker that has no room for another connection."""

import asyncio
import socket
from typing import TYPE_CHECKING

from ..logging import get_logger
from .room import Room

if TYPE_CHECKING:
    from .serving import WorkerServer


class Listeners:
    """Closes the event loop's servers and makes them again.

    uvloop cannot stop a server from accepting without closing its socket, so a copy of that is kept. The socket itself
    is shared with the other workers, which go on accepting.
    """

    def __init__(self, server: "WorkerServer") -> None:
        self._server = server
        self._sockets: list[socket.socket] = []
        self._resuming: asyncio.Task[None] | None = None
        self._frozen = False

    def pause_for(self, room: Room, sockets: list[socket.socket]) -> None:
        """Pause when `room` says so. Copies replace the `sockets` then, which Uvicorn closes in the end."""
        self._sockets = sockets
        room.pause, room.resume = self._pause, self._resume

    def freeze(self) -> None:
        """Neither pause nor resume any more: the worker stops."""
        self._frozen = True

    def _pause(self) -> bool:
        """Accept nothing more. Return False if that cannot be done now."""
        if self._frozen or self._resuming is not None:
            return False
        copies: list[socket.socket] = []
        try:
            copies += (one.dup() for one in self._sockets)
        except OSError:  # no descriptor is left, so that nothing can be accepted either
            for copy in copies:
                copy.close()
            return False
        for server in self._server.servers:
            server.close()
        self._server.servers = []
        self._sockets[:] = copies
        return True

    def _resume(self) -> None:
        if not self._frozen and self._resuming is None:
            self._resuming = asyncio.get_running_loop().create_task(self._listen())
            self._resuming.add_done_callback(self._end_resuming)

    def _end_resuming(self, _: "asyncio.Task[None]") -> None:
        self._resuming = None

    async def _listen(self) -> None:
        server, config = self._server, self._server.config
        loop = asyncio.get_running_loop()
        for listener in self._sockets:
            try:
                made = await loop.create_server(
                    server.make_protocol, sock=listener, ssl=config.ssl, backlog=config.backlog
                )
            except OSError:
                get_logger("gunicorn.connections").exception("accepting_not_resumed")
            else:
                server.servers.append(made)
