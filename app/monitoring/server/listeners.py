"""Pauses the listeners of a worker that has no room for another connection."""

import asyncio
import socket
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from ..logging import get_logger
from .receiver import Receiver, accepted
from .room import Room

if TYPE_CHECKING:
    from .serving import WorkerServer

# Seconds until a listener that could not be made is tried again.
RETRY_SECONDS = 1.0
# Connections that are accepted in a round of the event loop, at most so many for each second that the round takes. A
# worker that has little to do has short rounds, and leaves connections that come together to the others.
MAX_ACCEPTED_AT_ONCE, MAX_ACCEPTED_A_SECOND = 32, 2000


def copies_of(sockets: Sequence[socket.socket]) -> list[socket.socket] | None:
    """Return copies of `sockets`, or None if no descriptor is left for one."""
    copies: list[socket.socket] = []
    try:
        copies += (one.dup() for one in sockets)
    except OSError:
        for copy in copies:
            copy.close()
        return None
    return copies


class Listeners:
    """Closes the event loop's servers and makes them again.

    uvloop cannot stop a server from accepting without closing its socket, so a copy of that is kept. The socket itself
    is shared with the other workers, which go on accepting.
    """

    def __init__(self, server: "WorkerServer") -> None:
        self._server = server
        self._sockets: list[socket.socket] = []
        self._listening = 0
        self._resuming: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._frozen = self._accepts_soon = False

    def accept_more_for(self, room: Room, receiver: Receiver) -> None:
        """With each new connection, accept what else the backlog holds.

        libuv accepts one connection in each round of the event loop. Where a round takes long, the probes of a busy
        service would wait in the backlog for seconds, behind all others that have come at the same time.
        """
        loop = asyncio.get_running_loop()

        def accept_soon() -> None:
            if not self._accepts_soon:
                self._accepts_soon = True
                loop.call_soon(self._accept, room, receiver, loop.time())

        room.accept_more = accept_soon

    def _accept(self, room: Room, receiver: Receiver, scheduled: float) -> None:
        self._accepts_soon = False
        seconds = asyncio.get_running_loop().time() - scheduled
        number = min(MAX_ACCEPTED_AT_ONCE, int(seconds * MAX_ACCEPTED_A_SECOND))
        for listener in self._sockets:
            if not number or self._frozen or room.paused or room.at_limit:
                return
            for connection in islice(accepted(listener), number):
                receiver.accept(connection)

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
        copies = copies_of(self._sockets)
        if copies is None:  # nothing can be accepted either
            return False
        if self._retry is not None:
            self._retry.cancel()
        for server in self._server.servers:
            server.close()
        self._server.servers = []
        self._sockets[:] = copies
        self._listening = 0
        return True

    def _resume(self) -> None:
        if not self._frozen and self._resuming is None:
            self._resuming = asyncio.get_running_loop().create_task(self._listen())
            self._resuming.add_done_callback(self._end_resuming)

    def _end_resuming(self, _: "asyncio.Task[None]") -> None:
        self._resuming = None

    async def _listen(self) -> None:
        """Listen on the sockets in their order. The first `_listening` of them have a server."""
        while self._listening < len(self._sockets) and not self._frozen:
            kept = self._sockets[self._listening]
            try:
                made, used = await self._serve(kept)
            except OSError:
                get_logger("gunicorn.connections").exception("accepting_not_resumed", next_in_seconds=RETRY_SECONDS)
                self._retry = asyncio.get_running_loop().call_later(RETRY_SECONDS, self._resume)
                return
            self._server.servers.append(made)
            self._sockets[self._listening] = used
            self._listening += 1
            kept.close()

    async def _serve(self, listener: socket.socket) -> tuple[asyncio.Server, socket.socket]:
        """Return a server on a copy of `listener`, and the copy. The event loop closes a socket that it cannot use."""
        server, config = self._server, self._server.config
        copy = listener.dup()
        try:
            made = await asyncio.get_running_loop().create_server(
                server.make_protocol, sock=copy, ssl=config.ssl, backlog=config.backlog
            )
        except OSError:
            copy.close()
            raise
        return made, copy
