"""What the gunicorn master does for the metrics: keeps the exporter alive and accounts for the workers.

Called from the hooks of gunicorn_conf.py, which must never raise: an exception in a hook ends the whole service.
"""

import contextlib
import errno
import functools
import gc
import importlib
import itertools
import json
import mmap
import os
import platform
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ParamSpec

from ..backoff import Backoff
from ..companion import Companion, close_in_children, no_fork
from ..exporter import listen
from ..logging import get_logger
from ..metrics.catalogue import catalogue
from ..multiprocess.directory import DirectoryError, claim
from ..multiprocess.labels import MAX_SERIES_PER_METRIC

EXPORTER = f"{__package__.rpartition('.')[0]}.exporter"
Params = ParamSpec("Params")
Address = tuple[str, int]


class StartError(Exception):
    """The service cannot start: one line that names the setting, its value and what is wanted."""


@dataclass
class _Held:
    """What the master holds from start to end. It lives here and not in the configuration, which SIGHUP reads anew."""

    lock: IO[str] | None = None
    directory: Path | None = None
    listener: socket.socket | None = None
    exporter: "ExporterSupervisor | None" = None


_held = _Held()
FIRST_RESTART_DELAY, LONGEST_RESTART_DELAY = 0.1, 10.0

# What a worker notes about its own end, in one byte of memory that it shares with the master. A worker that could
# note nothing was killed from outside, or crashed.
EXIT_REASONS = {0: "killed", 1: "stopped", 2: "max_requests"}
STOPPED, MAX_REQUESTS = 1, 2


def never_raises(hook: Callable[Params, object]) -> Callable[Params, None]:
    """A hook that logs and counts what it catches: gunicorn treats an exception in a hook as the end of the service."""

    @functools.wraps(hook)
    def safe(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:  # noqa: BLE001 -- whatever it is, the service goes on
            # The disk may be full or the directory gone: then neither can be noted, and the service goes on still.
            with contextlib.suppress(Exception):
                get_logger("gunicorn.hooks").exception("hook_failed", hook=hook.__name__)
            with contextlib.suppress(Exception):
                catalogue().hook_errors.labels(hook.__name__).inc()

    return safe


class ExporterSupervisor:
    """Runs the exporter on a socket that this process has bound, and starts it again when it ends."""

    def __init__(
        self,
        listener: socket.socket,
        collectors: Sequence[str],
        log: Mapping[str, Any],
        max_series: int,
        backoff: Backoff | None = None,
    ) -> None:
        self._backoff = backoff or Backoff(FIRST_RESTART_DELAY, LONGEST_RESTART_DELAY)
        self._listener = close_in_children(listener)
        self._arguments = ["--fd", str(listener.fileno()), "--end-with-stdin", "--logging", json.dumps(log)]
        self._arguments += ["--max-series", str(max_series)]
        for reference in collectors:
            self._arguments += ["--collect", reference]
        self._stopping = threading.Event()
        self._companion = self._start()
        self._thread = threading.Thread(target=self._keep_alive, name="exporter-supervisor", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Process id of the exporter that runs now."""
        return self._companion.pid

    def _start(self) -> Companion:
        self._backoff.started()
        return Companion(EXPORTER, *self._arguments, pass_fds=[self._listener.fileno()])

    def _keep_alive(self) -> None:
        while not self._stopping.is_set():
            self._companion.wait()
            if self._stopping.is_set():
                return
            delay = self._backoff.ended()
            try:
                with no_fork():
                    get_logger("exporter").error("exporter_ended", pid=self.pid, restart_in_seconds=delay)
                if not self._stopping.wait(delay):
                    with no_fork():
                        self._restart()
            except Exception:  # noqa: BLE001 -- whatever it was, the next attempt may succeed
                get_logger("exporter").exception("exporter_not_started")

    def _restart(self) -> None:
        if self._stopping.is_set():
            return
        self._companion = self._start()
        catalogue().exporter_restarts.inc()

    def stop(self) -> None:
        """End the exporter and wait for it."""
        with no_fork():
            self._stopping.set()
        self._companion.stop()
        self._listener.close()


def note_live_workers(live: int, configured: int) -> None:
    """Set the workers gauge."""
    catalogue().workers.labels("live").set(live)
    catalogue().workers.labels("configured").set(configured)


def note_build(version: str, environment: str) -> None:
    """Say what runs."""
    catalogue().build_info.labels(version, platform.python_version(), environment).set(1)


def before_fork(server: Any, worker: Any) -> None:
    """Assign the exit note and the first free slot to the worker, and count its start."""
    worker.exit_note = mmap.mmap(-1, 1)
    taken = {other.slot for other in server.WORKERS.values()}
    worker.slot = next(slot for slot in itertools.count() if slot not in taken)
    catalogue().worker_boots.inc()
    if _held.directory is not None:
        _held.directory.mkdir(parents=True, exist_ok=True)  # a worker that does not find it would end the service
    note_live_workers(len(server.WORKERS) + 1, server.num_workers)


def after_exit(server: Any, worker: Any) -> None:
    """Count the end of a worker by reason. The exporter sees by itself who has ended, and keeps what they counted."""
    note_live_workers(len(server.WORKERS), server.num_workers)
    reason = "timeout" if worker.aborted else EXIT_REASONS.get(worker.exit_note[0], "killed")
    worker.exit_note.close()
    catalogue().worker_exits.labels(reason).inc()


def account_for_killed(server: Any, timeout: float = 2.0) -> None:
    """Wait up to `timeout` seconds for the workers that gunicorn killed at its end, and run `child_exit` for each.

    gunicorn sends SIGKILL and reaps once, without waiting: a worker that has not ended by then would not be counted.
    """
    deadline = time.monotonic() + timeout
    while server.WORKERS and time.monotonic() < deadline:
        for pid, worker in list(server.WORKERS.items()):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # it was reaped elsewhere
                ended = pid
            if ended:
                del server.WORKERS[pid]
                server.cfg.child_exit(server, worker)
        time.sleep(0.01)


def take_ports_and_directory(*, api: Address, metrics: Address, directory: Path) -> None:
    """Bind the metrics port, make sure of the API's, and claim the metrics directory; raises StartError."""
    if "GUNICORN_PID" in os.environ:
        # Two masters would share one directory and one metrics port.
        raise StartError("SIGUSR2 is not supported: start a second service, or send SIGHUP to replace the workers")
    try:
        _held.lock = close_in_children(claim(directory))
        _held.directory = directory
    except DirectoryError as error:
        raise StartError(str(error)) from error
    _listen("PORT", api).close()
    _held.listener = _listen("METRICS_PORT", metrics)


def _listen(name: str, address: Address) -> socket.socket:
    try:
        return listen(*address)
    except OSError as error:
        if (error.errno or 0) < 0 or error.errno == errno.EADDRNOTAVAIL:  # the resolver's codes are negative
            host = name.replace("PORT", "HOST")
            raise StartError(f"{host}={address[0]!r}: want an address of this machine") from error
        reason = os.strerror(error.errno) if error.errno else error
        raise StartError(f"{name}={address[1]}: {reason} ({address[0]}): want a free port") from error


def preload(*modules: str) -> None:
    """Import once, before the forks, what every worker needs; then keep the collector off the shared pages.

    Modules only: the application, its connections and channels are made after the fork.
    """
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()


def start_exporter(collectors: Sequence[str], log: Mapping[str, Any], max_series: int = MAX_SERIES_PER_METRIC) -> None:
    """Start the exporter on the port taken before.

    `log` is what `logging.configure` takes; `max_series` is for each metric, over all processes.
    """
    if _held.listener is not None:
        _held.exporter = ExporterSupervisor(_held.listener, collectors, log, max_series)


def stop_exporter() -> None:
    """End the exporter, if it was started."""
    if _held.exporter is not None:
        _held.exporter.stop()
        _held.exporter = None
