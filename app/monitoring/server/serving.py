"""The server of a worker: how it starts, asks for a successor, hands its connections over, and ends."""

import asyncio
import signal
import socket
from types import FrameType
from typing import Any

from uvicorn.config import Config
from uvicorn.server import Server

from ..health import note_stopping
from .handover import Protocol, Receiver, State, accepted, give_all
from .link import MasterLink

# Share of the drain in which each response announces the close, and seconds between looks at what ends it.
CLOSING_SHARE, POLL = 0.3, 0.05


class SteadyServer(Server):
    """A server that ends on a signal and returns; uvicorn's raises the signal again and dies of it.

    A worker that leaves while the service goes on hands its connections over first. One that is told so by somebody
    else than its master serves until it has a successor.
    """

    server_state: State

    def __init__(self, config: Config, link: MasterLink, max_requests: int) -> None:
        super().__init__(config)
        self.server_state = State()
        self._link, self._max_requests = link, max_requests
        self._receiver: Receiver | None = None
        self._hands_over = self._asked = self._interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- the signature is uvicorn's
        if sig == signal.SIGQUIT and self.should_exit and self._link.service_ends:
            self.force_exit = True  # the master's answer to a second SIGINT
        if sig == signal.SIGINT:
            self.force_exit = self.force_exit or self._interrupted or (self.should_exit and self._link.service_ends)
            self._interrupted = True
        if self.should_exit:
            return
        if sig == signal.SIGTERM and self.started and not self._link.told_to_leave and not self._asked:
            self._asked = True
            self._link.ask_for_successor()
            return
        # SIGINT and SIGQUIT come from a terminal or from a master that ends.
        self._hands_over = sig == signal.SIGTERM
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, take connections that other workers hand over, and tell the master."""
        await super().startup(sockets)
        if self._link.queue is not None:
            self._receiver = Receiver(self._link.queue, self._make_protocol, self.config.ssl)
            self._receive()
        self._link.note_ready()

    @property
    def _shares(self) -> bool:
        """Whether connections can go from one worker to another."""
        protocol = self.config.http_protocol_class
        return not self.config.is_ssl and isinstance(protocol, type) and issubclass(protocol, Protocol)

    def _receive(self) -> None:
        if self._receiver is not None and self._shares:
            self._receiver.start()

    def _make_protocol(self) -> Any:
        make: Any = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def on_tick(self, counter: int) -> bool:
        """Ask for a successor after MAX_REQUESTS, and serve until the master has one."""
        tired = self.server_state.total_requests >= self._max_requests
        if tired:
            self._link.note_tired()
        return await super().on_tick(counter) or (tired and self._link.service is None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Hand connections over or let them run out, then end as uvicorn does within the time that is left."""
        loop = asyncio.get_running_loop()
        patience = float(self.config.timeout_graceful_shutdown or 0)
        until = loop.time() + patience
        if self._hands_over and not self._link.service_ends:
            await self._hand_over(until - patience * CLOSING_SHARE)
        if not self._hands_over or self._link.service_ends:
            # The server closes its listeners with it: those of a worker that hands over are closed already.
            listeners = [] if self._hands_over or not sockets else [one.dup() for one in sockets]
            await self._linger(listeners, min(self._link.stop_delay, patience * CLOSING_SHARE))
            for listener in listeners:
                listener.close()
        self.server_state.close_after_responses()
        self.config.timeout_graceful_shutdown = max(0.1, until - loop.time())  # type: ignore[assignment]
        await super().shutdown(sockets)

    async def _hand_over(self, until: float) -> None:
        """Leave new connections and idle ones to the other workers, until none is left or the service ends too."""
        for server in self.servers:
            server.close()
        if self._receiver is None or self._link.queue is None:
            return
        if not self._shares:
            await self._run_out(until)
            return
        await self._receiver.stop()
        await give_all(self.server_state, self._link.queue, until=until, ending=self._is_cut_short)

    def _is_cut_short(self) -> bool:
        return self._link.service_ends or self.force_exit

    async def _run_out(self, until: float) -> None:
        """Announce the close with each response, and leave idle connections open: a request may be on its way."""
        loop = asyncio.get_running_loop()
        self.server_state.close_after_responses()
        # A connection does not count before its handshake has ended.
        least = min(until, loop.time() + self._link.stop_delay)
        while loop.time() < until and not self._is_cut_short():
            if not self.server_state.connections and loop.time() >= least:
                return
            await asyncio.sleep(POLL)

    async def _linger(self, listeners: list[socket.socket], seconds: float) -> None:
        """Go on, not ready, with a `Connection: close` in each response; then accept what waits at `listeners`."""
        loop = asyncio.get_running_loop()
        note_stopping()
        self.server_state.close_after_responses()
        self._receive()
        until = loop.time() + seconds
        while loop.time() < until and not self.force_exit:  # noqa: ASYNC110 -- a signal handler sets it
            await asyncio.sleep(POLL)
        if self._receiver is None or self.force_exit:
            return
        if self._shares:
            self._receiver.take(None)
        for server in self.servers:
            server.close()
        for listener in listeners:
            for connection in accepted(listener):
                self._receiver.accept(connection)
        await self._receiver.stop()
        await asyncio.sleep(POLL)  # what these connections have sent already is read
