"""The server of a worker: how it starts, asks for a successor, and ends."""

import signal
import socket
from types import FrameType

from uvicorn.config import Config
from uvicorn.server import Server

from .link import MasterLink


class SteadyServer(Server):
    """A server that ends on a signal and returns; uvicorn's raises the signal again and dies of it.

    A worker that is told to leave by somebody else than its master serves until it has a successor.
    """

    def __init__(self, config: Config, link: MasterLink, max_requests: int) -> None:
        super().__init__(config)
        self._link, self._max_requests = link, max_requests
        self._asked = self._interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- the signature is uvicorn's
        if sig == signal.SIGINT:
            self.force_exit = self.force_exit or self._interrupted or (self.should_exit and self._link.service_ends)
            self._interrupted = True
        if self.should_exit:
            return
        if sig == signal.SIGTERM and self.started and not self._link.told_to_leave and not self._asked:
            self._asked = True
            self._link.ask_for_successor()
            return
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and tell the master."""
        await super().startup(sockets)
        self._link.note_ready()

    async def on_tick(self, counter: int) -> bool:
        """Ask for a successor after MAX_REQUESTS, and serve until the master has one."""
        tired = self.server_state.total_requests >= self._max_requests
        if tired:
            self._link.note_tired()
        return await super().on_tick(counter) or (tired and self._link.service is None)
