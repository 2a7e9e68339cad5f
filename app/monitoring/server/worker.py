"""The gunicorn worker: uvicorn_worker with fixes for shutdown and recycling.

uvicorn_worker does not pass graceful_timeout to uvicorn, stops its heartbeat while draining, ignores SIGQUIT, is
terminated by the SIGTERM that it should handle (so no exit hook runs), loses signals that arrive before it serves, is
never replaced if it hangs while it boots, and keeps serving after its master has been killed.
"""

import _thread
import asyncio
import atexit
import contextlib
import gc
import os
import signal
import sys
import time
from typing import Any

from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from ..doctor import notes
from ..doctor.examination import refuse_start
from ..logging import adopt_server_loggers
from ..logs.writer import flush
from ..stop_budget import StopBudget
from .forked import STOP_SIGNALS, isolate_children
from .link import MasterLink
from .loading import application_errors
from .master import MAX_REQUESTS, STOPPED
from .protocol import Protocol
from .serving import WorkerServer

__all__ = ["Worker"]

HEARTBEAT_SECONDS = 1.0
# New objects before the youngest of them are collected.
MIN_COLLECTED_OBJECTS = 10_000
# Seconds that a worker has to end its boot after a stop signal.
MAX_BOOT_WAIT_SECONDS = 2.0


class _Fork:
    """Blocks stop signals from the fork of a worker until the worker has installed its handlers.

    The child starts with the master's handlers, which only put a signal into the master's queue. A signal that arrives
    before `init_signals` would be lost, and the worker would be killed at the end of graceful_timeout. Threads that the
    post_fork hook starts keep the signals blocked, and so do subprocesses that such a thread starts.
    """

    worker: "Worker | None" = None
    mask: set[int] = set()  # noqa: RUF012 -- there is one fork at a time

    @classmethod
    def before(cls) -> None:
        if cls.worker:
            cls.mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    @classmethod
    def after_in_parent(cls) -> None:
        if cls.worker:
            cls.worker = None
            signal.pthread_sigmask(signal.SIG_SETMASK, cls.mask)

    @classmethod
    def after_in_child(cls) -> None:
        if cls.worker:
            cls.worker.isolate_children()
            cls.worker = None


os.register_at_fork(before=_Fork.before, after_in_parent=_Fork.after_in_parent, after_in_child=_Fork.after_in_child)


def relieve_collector() -> None:
    """Have the garbage collector leave the application alone, which lives as long as the worker, and run less often.

    With many connections the collections of Python's default, one for 700 new objects, take a tenth of the CPU time. A
    threshold of the application's own that is higher, and a collector that is switched off, stay as they are.
    """
    gc.freeze()
    first, *others = gc.get_threshold()
    if 0 < first < MIN_COLLECTED_OBJECTS:
        gc.set_threshold(MIN_COLLECTED_OBJECTS, *others)


def _ignore(*_: object) -> None:
    """Ignore a signal."""


def _ignore_stop_signals() -> None:
    """Ignore stop signals until exit. Finalization resets handlers, but not SIG_IGN, to the default action."""
    for handler in (_ignore, signal.SIG_IGN):
        for number in STOP_SIGNALS:
            signal.signal(number, handler)


class Worker(UvicornWorker):  # type: ignore[misc]
    """A Uvicorn worker on uvloop and httptools."""

    CONFIG_KWARGS: dict[str, Any] = {  # noqa: RUF012 -- the base class declares it so
        "loop": "uvloop",
        "http": Protocol,
        # The worker asks for a successor first.
        "limit_max_requests": None,
        # The application applies X-Forwarded-For itself, after recording the socket's real peer.
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.link = MasterLink(self.ppid)
        self.state = self.link.worker
        # gunicorn 27 takes the file's time of creation, by another clock, for a heartbeat in the far future: without
        # this a worker that hangs while it boots would never be replaced.
        self.tmp.notify()
        _Fork.worker = self
        self._stopping = False
        self._serving = False
        adopt_server_loggers()
        drain: Any = StopBudget(self.cfg.graceful_timeout).drain  # Uvicorn waits for a part of a second too
        self.config.timeout_graceful_shutdown = drain

    def isolate_children(self) -> None:
        """Isolate the processes that this worker forks; see `forked`."""
        queues = [] if self.link.queue is None else [self.link.queue]
        isolate_children([listener.sock for listener in self.sockets], queues)

    def init_signals(self) -> None:
        """Handle stop signals while the worker boots and ends; uvicorn handles them only while it serves."""
        super().init_signals()
        for number in STOP_SIGNALS:
            signal.signal(number, self._stop)
        atexit.register(_ignore_stop_signals)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def init_process(self) -> None:
        """Boot and serve. A worker that fails to boot ends the service, unless it has been told to stop meanwhile."""
        try:
            super().init_process()
        except BaseException as error:
            ends = not self.link.boot_may_fail and self._ends_service(error)
            if not self._stopping and ends and not notes.is_first_failure():
                self._await_stop()
            if self._stopping:
                sys.exit(0)
            if self.link.boot_may_fail and self._ends_service(error):
                if not isinstance(error, SystemExit):
                    self.log.exception("Exception in worker process")
                self.state.set_boot_failed()
                sys.exit(1)  # the others go on
            if ends and self.booted and not isinstance(error, SystemExit):
                self.log.exception("Exception in worker process")
                sys.exit(Arbiter.WORKER_BOOT_ERROR)
            raise

    def _ends_service(self, error: BaseException) -> bool:
        """Return whether the first start ends when this worker ends with `error`."""
        if isinstance(error, SystemExit):
            return error.code in {Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR}
        # gunicorn takes a worker for booted before Uvicorn has read the certificate.
        return isinstance(error, Exception) and not self.state.ready

    def _await_stop(self) -> None:
        """Wait for the stop signal of a master that ends the service because another worker has failed to boot.

        Its exit is then logged as a stop and not as a second failure.
        """
        deadline = time.monotonic() + notes.REFUSAL_SECONDS
        while time.monotonic() < deadline and not self._stopping:
            time.sleep(0.01)
        if self._stopping:
            self._set_exit_reason(STOPPED)

    def load_wsgi(self) -> None:
        """Load the application, and end the service where its numbers would be wrong."""
        with application_errors(self.cfg.wsgi_app):
            # gunicorn's own method serves the traceback of a SyntaxError if its `reload` is set.
            self.wsgi = self.app.wsgi()
        refuse_start(self.wsgi)

    def _stop(self, *_: object) -> None:
        """Stop at the next opportunity: the end of the boot, or the heartbeat.

        An exception would be raised in the middle of an import, where extensions turn it into an error of their own.
        """
        if not self._stopping and not self._serving:
            self._set_exit_reason(STOPPED)
            for listener in self.sockets:  # the others close theirs; nobody would answer what this one accepts
                listener.sock.close()
            # Not threading.Thread: this handler may have interrupted code that holds the locks of `threading`.
            _thread.start_new_thread(self._exit_soon, ())
        self._stopping = True

    def _exit_soon(self) -> None:
        """End the process if the boot takes too long. Nothing has been served that could be lost."""
        time.sleep(MAX_BOOT_WAIT_SECONDS)
        if not self._serving:
            with contextlib.suppress(Exception):
                self.log.info("Worker exiting (pid: %s)", self.pid)
                flush()
            os._exit(0)

    async def _serve(self) -> None:
        self._serving = True
        if self._stopping:
            return
        self.config.app = self.wsgi
        relieve_collector()
        server = WorkerServer(self.config, self.link, self.max_requests)
        # Not loop.add_signal_handler: closing the loop restores the default action, which dumps core.
        signal.signal(signal.SIGQUIT, server.handle_exit)
        heartbeat = asyncio.create_task(self._heartbeat(server))
        try:
            # The bare sockets: gunicorn's wrappers report that they were closed twice.
            await server.serve(sockets=[listener.sock for listener in self.sockets])
        except SystemExit:
            # The lifespan has failed. That ends the service, unless the worker was to stop anyway.
            if not server.should_exit:
                raise
        finally:
            heartbeat.cancel()
            signal.signal(signal.SIGQUIT, self._stop)
        if not server.started and not server.should_exit:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        self._set_exit_reason(MAX_REQUESTS if self.link.ends_for_max_requests else STOPPED)

    async def _heartbeat(self, server: WorkerServer) -> None:
        """Notify the master while the event loop runs, also while draining. Stop on request or without a master."""
        while True:
            self.notify()
            if not self.alive:  # gunicorn's --reload
                self.link.request_successor()
            if self._stopping:
                server.handle_exit(signal.SIGTERM, None)
            if os.getppid() != self.ppid:
                server.should_exit = True
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _set_exit_reason(self, reason: int) -> None:
        self.state.exit_reason = reason
