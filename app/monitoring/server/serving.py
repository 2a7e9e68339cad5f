"""The Uvicorn server of a worker: its start, its request for a successor, its handover of connections, its stop."""

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

from uvicorn.config import Config
from uvicorn.server import Server

from ..health import set_retiring, set_stopping
from ..logging import get_logger
from ..stop_budget import CLOSING_SHARE
from . import worker_gauges
from .admission import Admission
from .handover import Queue
from .link import MasterLink
from .listeners import Listeners, copies_of
from .protocol import Protocol, is_transferable
from .receiver import Receiver, accepted
from .server_state import ServerState
from .sweeper import Sweeper

POLL_SECONDS = 0.05
# Seconds between the signal of a terminal to a worker and the master's note that the service stops.
SIGNAL_SECONDS = 0.5
# Seconds that a connection from the backlog has for its first request.
FIRST_REQUEST_SECONDS = 0.5
# Uvicorn's own.
TICKS_A_SECOND = 10
# Seconds between attempts to hand connections over that are busy, or that found the queue full.
HANDOVER_POLL_SECONDS = 0.02
# Connections that are handed over before the event loop does something else.
MAX_SENT_AT_ONCE = 64


class WorkerServer(Server):
    """A server that returns after a stop signal; Uvicorn's raises the signal again, which terminates the process.

    A worker that retires while the service goes on hands its connections over first. A SIGTERM that does not come from
    the master makes it request a successor, and serve until the master has one.
    """

    server_state: ServerState

    def __init__(self, config: Config, link: MasterLink, max_requests: int) -> None:
        super().__init__(config)
        self.server_state = ServerState(link.limits)
        self._link, self._max_requests = link, max_requests
        self._receiver: Receiver | None = None
        self._sweeper: Sweeper | None = None
        self._listeners = Listeners(self)
        self._successor_requested = self._interrupted = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- the signature is uvicorn's
        stopping = self.should_exit and self._link.service_stopping
        if sig == signal.SIGQUIT:
            # The answer of RollingArbiter to a second SIGINT. gunicorn's own sends one at the first.
            self.force_exit = self.force_exit or (stopping and self._link.service is not None)
        if sig == signal.SIGINT:
            self.force_exit = self.force_exit or self._interrupted or stopping
        self._interrupted = self._interrupted or sig in {signal.SIGINT, signal.SIGQUIT}
        if self.should_exit:
            return
        foreign = sig == signal.SIGTERM and self.started and not self._link.stop_requested
        if foreign and not self._successor_requested:
            self._successor_requested = True
            self._link.request_successor()
            return
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, receive the connections that other workers hand over, and tell the master."""
        self._bound_requests()
        await super().startup(sockets)
        self._sweeper = Sweeper(self.server_state)
        worker_gauges.expose(self.server_state, self._link.generation)
        self._listeners.pause_for(self.server_state.room, sockets or [])
        if self._link.queue is not None:
            room = self.server_state.room
            self._receiver = Receiver(self._link.queue, self.make_protocol, self.config.ssl, room)
            self._listeners.accept_more_for(room, self._receiver)
            self._receive()
        if not self.should_exit:  # told to stop meanwhile
            self._link.report_ready()

    @property
    def _transfers(self) -> bool:
        """True if connections can be handed from one worker to another."""
        return is_transferable(self.config.http_protocol_class, encrypted=self.config.is_ssl)

    def _bound_requests(self) -> None:
        """Bound the requests in flight, if the options say so and the HTTP protocol class can."""
        limits, protocol = self._link.admission, self.config.http_protocol_class
        if limits is None:
            return
        if not (isinstance(protocol, type) and issubclass(protocol, Protocol)):
            get_logger("admission").warning("requests_not_bounded", reason="the worker has an HTTP protocol of its own")
            return
        longest = float(self.config.timeout_graceful_shutdown or 0) * CLOSING_SHARE
        self.server_state.admission = Admission(limits, self.server_state.tasks, longest)

    def _receive(self) -> None:
        if self._receiver is not None and self._transfers:
            self._receiver.start()

    def make_protocol(self) -> Any:
        """Make the protocol of one connection."""
        make: Any = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def on_tick(self, counter: int) -> bool:
        """Request a successor after MAX_REQUESTS, and serve until the master has one."""
        if counter % TICKS_A_SECOND == 0:
            worker_gauges.publish(self.server_state)
        reached = self.server_state.total_requests >= self._max_requests
        if reached:
            self._link.report_max_requests()
        return await super().on_tick(counter) or (reached and self._link.service is None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Hand connections over or drain them, then stop as Uvicorn does within the time that is left."""
        self._listeners.freeze()
        loop = asyncio.get_running_loop()
        budget = float(self.config.timeout_graceful_shutdown or 0)
        deadline = loop.time() + budget
        retires = not await self._service_stops()
        if retires:
            set_retiring()
            self._link.report_leaving()
            await self._retire(sockets or [], deadline - budget * CLOSING_SHARE)
        if self._link.service_stopping:
            # The sockets of a worker that retires are closed already.
            listening = [] if retires or sockets is None else sockets
            await self._drain(listening, min(self._link.stop_delay, budget * CLOSING_SHARE))
        self.server_state.close_after_responses()
        self.config.timeout_graceful_shutdown = max(0.1, deadline - loop.time())  # type: ignore[assignment]
        await super().shutdown(sockets)
        worker_gauges.publish(self.server_state)
        if self._sweeper is not None:
            self._sweeper.stop()

    async def _service_stops(self) -> bool:
        """Return whether the whole service stops, once that is known.

        A terminal sends SIGINT or SIGQUIT to the workers and to the master, which may be slower.
        """
        deadline = asyncio.get_running_loop().time() + (SIGNAL_SECONDS if self._interrupted else 0.0)
        while not self._link.stop_requested and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        return self._link.service_stopping

    async def _retire(self, sockets: list[socket.socket], deadline: float) -> None:
        """Leave new and idle connections to the other workers, until none is left or the service stops too."""
        for server in self.servers:
            server.close()
        for listener in sockets:  # open still if accepting was paused
            listener.close()
        if self._receiver is None or self._link.queue is None:
            return
        if not self._transfers:
            await self._announce_close(deadline)
            return
        await self._receiver.stop()
        await hand_over_all(self.server_state, self._link.queue, deadline=deadline, stopping=self._is_cut_short)

    def _is_cut_short(self) -> bool:
        return self._link.service_stopping or self.force_exit

    async def _announce_close(self, deadline: float) -> None:
        """Announce the close with each response; keep idle connections open, because a request may be under way."""
        loop = asyncio.get_running_loop()
        self.server_state.close_after_responses()
        # A connection does not count before its TLS handshake has ended.
        earliest = min(deadline, loop.time() + self._link.stop_delay)
        while loop.time() < deadline and not self._is_cut_short():
            if not self.server_state.connections and loop.time() >= earliest:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _drain(self, sockets: list[socket.socket], seconds: float) -> None:
        """Serve for `seconds`, not ready, and announce each close; then accept what the backlog of `sockets` holds."""
        # A server closes its sockets with it. Without descriptors for copies, their backlog is lost.
        listeners = copies_of(sockets) or []
        try:
            await self._serve_last(seconds)
            if self._receiver is None or self.force_exit:
                return
            if self._transfers:
                self._receiver.receive(None)
            for server in self.servers:
                server.close()
            await asyncio.sleep(0)  # the event loop closes its sockets in its next round
            for listener in listeners:
                for connection in accepted(listener):
                    self._receiver.accept(connection)
        finally:
            for listener in (*listeners, *sockets):  # those of `sockets` are open still if accepting was paused
                listener.close()  # a later connection would never be accepted
        await self._receiver.stop(max(POLL_SECONDS, seconds))
        await self._await_first_requests()

    async def _serve_last(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        set_stopping()
        self.server_state.close_after_responses()
        self._receive()
        deadline = loop.time() + seconds
        while loop.time() < deadline and not self.force_exit:  # noqa: ASYNC110 -- a signal handler sets it
            await asyncio.sleep(POLL_SECONDS)

    async def _await_first_requests(self) -> None:
        """Wait for the first request of connections that were accepted last: it may be under way."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(FIRST_REQUEST_SECONDS, self._link.stop_delay)
        await asyncio.sleep(POLL_SECONDS)  # what was sent already is read
        while loop.time() < deadline and not self.force_exit and self.server_state.awaits_first_request():  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)


async def hand_over_all(state: ServerState, queue: Queue, *, deadline: float, stopping: Callable[[], bool]) -> None:
    """Hand over each connection as soon as it is idle, until none is left, `stopping()`, or the loop's time `deadline`.

    Websockets and other upgraded connections stay.
    """
    loop, state.queue = asyncio.get_running_loop(), queue
    try:
        while loop.time() < deadline and not stopping():
            connections = [connection for connection in state.connections if isinstance(connection, Protocol)]
            if not connections:
                return
            idle = [connection for connection in connections if connection.idle]
            full = not all(connection.hand_over(queue) for connection in idle[:MAX_SENT_AT_ONCE])
            await asyncio.sleep(HANDOVER_POLL_SECONDS if full or len(idle) <= MAX_SENT_AT_ONCE else 0)
    finally:
        state.queue = None
