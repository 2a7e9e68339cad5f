"""The gunicorn worker: uvicorn_worker with the defects mended that matter to a service that is stopped and recycled.

uvicorn_worker does not hand graceful_timeout to uvicorn, stops its heartbeat while it drains, ignores SIGQUIT, dies
of the SIGTERM that it was to handle (so no exit hook runs), and serves on when its master has been killed.
"""

import asyncio
import os
import signal
import sys
from types import FrameType
from typing import Any

from gunicorn.arbiter import Arbiter
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from app.monitoring.logging import adopt_server_loggers
from app.monitoring.multiprocess.master import MAX_REQUESTS, STOPPED

HEARTBEAT = 1.0
# Share of graceful_timeout for requests in flight; the rest is for telemetry, pools and the exit itself.
DRAIN_SHARE = 0.7


class _Server(Server):
    """A server that ends on a signal and returns; uvicorn's raises the signal again and dies of it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- the signature is uvicorn's
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


class Worker(UvicornWorker):  # type: ignore[misc]
    """A Uvicorn worker on uvloop and httptools."""

    CONFIG_KWARGS: dict[str, Any] = {  # noqa: RUF012 -- the base class declares it so
        "loop": "uvloop",
        "http": "httptools",
        # The application applies X-Forwarded-For itself, after it has noted the socket's real peer.
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        adopt_server_loggers()
        self.config.timeout_graceful_shutdown = max(1, int(self.cfg.graceful_timeout * DRAIN_SHARE))

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = _Server(config=self.config)

        def stop() -> None:
            server.should_exit = True

        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, stop)
        heartbeat = asyncio.create_task(self._heartbeat(server))
        try:
            # The bare sockets: gunicorn's wrappers report that they were closed twice.
            await server.serve(sockets=[listener.sock for listener in self.sockets])
        finally:
            heartbeat.cancel()
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        self._note_exit(STOPPED if server.should_exit else MAX_REQUESTS)

    async def _heartbeat(self, server: Server) -> None:
        """Show the master that the event loop turns, also while draining; stop when the master is gone."""
        while True:
            self.notify()
            if os.getppid() != self.ppid:
                server.should_exit = True
            await asyncio.sleep(HEARTBEAT)

    def _note_exit(self, reason: int) -> None:
        note = getattr(self, "exit_note", None)
        if note is not None:
            note[0] = reason
