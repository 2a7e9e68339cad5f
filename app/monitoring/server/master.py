"""The gunicorn master's tasks: claim ports and directory, supervise the exporter, count starts and exits of workers.

Called from the hooks of gunicorn_conf.py, which must never raise: an exception in a hook ends the service.
"""

import contextlib
import errno
import functools
import itertools
import json
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
from ..companion import Companion, CompanionError, close_in_children, no_fork
from ..exporter import listen
from ..logging import get_logger
from ..metrics.catalogue import catalogue
from ..multiprocess.directory import DirectoryError, claim, make
from ..multiprocess.labels import MAX_SERIES_PER_METRIC
from .arbiter import RollingArbiter
from .user import WorkerUser, acting_as

EXPORTER = f"{__package__.rpartition('.')[0]}.exporter"
Params = ParamSpec("Params")
Address = tuple[str, int]


class StartError(Exception):
    """The service cannot start; the message is one line with the setting, its value and the form that is wanted."""


@dataclass
class _Resources:
    """The master's resources. Not kept in the configuration, which SIGHUP reloads."""

    lock: IO[str] | None = None
    directory: Path | None = None
    user: WorkerUser | None = None
    listener: socket.socket | None = None
    exporter: "ExporterSupervisor | None" = None


_resources = _Resources()
MIN_RESTART_DELAY, MAX_RESTART_DELAY = 0.1, 10.0
EXPORTER_START_TIMEOUT, EXPORTER_STOP_SECONDS = 60.0, 10.0

# Exit reasons that a worker writes into one byte of memory shared with the master. A worker that wrote none was killed
# or has crashed.
EXIT_REASONS = {0: "killed", 1: "stopped", 2: "max_requests"}
STOPPED, MAX_REQUESTS = 1, 2
TIMEOUT = "timeout"
HOOKS = ("pre_fork", "post_fork", "child_exit", "on_exit")


def never_raises(hook: Callable[Params, object]) -> Callable[Params, None]:
    """Return a hook that logs and counts exceptions: one that gunicorn sees ends the service."""

    @functools.wraps(hook)
    def safe(*args: Params.args, **kwargs: Params.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:  # noqa: BLE001 -- no error of a hook may end the service
            # Logging and counting may fail too, on a full disk or without the directory.
            with contextlib.suppress(Exception):
                get_logger("gunicorn.hooks").exception("hook_failed", hook=hook.__name__)
            with contextlib.suppress(Exception):
                catalogue().hook_errors.labels(hook.__name__).inc()

    return safe


class ExporterSupervisor:
    """A supervisor that runs the exporter on a socket bound by this process.

    It is started at once; from `supervise` on it is restarted when it ends.
    """

    def __init__(
        self,
        listener: socket.socket,
        collectors: Sequence[str],
        log: Mapping[str, Any],
        max_series: int,
        backoff: Backoff | None = None,
        user: WorkerUser | None = None,
    ) -> None:
        self._user = user
        self._backoff = backoff or Backoff(MIN_RESTART_DELAY, MAX_RESTART_DELAY)
        self._listener = close_in_children(listener)
        self._arguments = ["--fd", str(listener.fileno()), "--end-with-stdin", "--logging", json.dumps(log)]
        self._arguments += ["--max-series", str(max_series)]
        for reference in collectors:
            self._arguments += ["--collect", reference]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="exporter-supervisor", daemon=True)
        self._companion = self._start()

    @property
    def pid(self) -> int:
        """Process id of the running exporter."""
        return self._companion.pid

    def supervise(self, timeout: float = EXPORTER_START_TIMEOUT) -> None:
        """Wait until the exporter has started, and restart it whenever it ends.

        Raise StartError if it cannot start or takes longer than `timeout` seconds.
        """
        try:
            error = _error(self._companion.read_line(timeout))
        except CompanionError as reason:
            error = f"the exporter cannot start: {reason}"
        if error is not None:
            raise StartError(error)
        self._thread.start()

    def _start(self) -> Companion:
        self._backoff.started()
        ids = None if self._user is None else (self._user.uid, self._user.gid)
        return Companion(EXPORTER, *self._arguments, pass_fds=[self._listener.fileno()], user=ids)

    def _keep_alive(self) -> None:
        while not self._stopping.is_set():
            error = _error(self._companion.wait())
            if self._stopping.is_set():
                return
            delay = self._backoff.ended()
            try:
                with no_fork():
                    get_logger("exporter").error(
                        "exporter_ended", pid=self.pid, restart_in_seconds=delay, reason=error or "unknown"
                    )
                if not self._stopping.wait(delay):
                    with no_fork():
                        self._restart()
            except Exception:  # noqa: BLE001 -- the next attempt may succeed
                get_logger("exporter").exception("exporter_not_started")

    def _restart(self) -> None:
        if self._stopping.is_set():
            return
        self._companion = self._start()
        catalogue().exporter_restarts.inc()

    def stop(self, timeout: float = EXPORTER_STOP_SECONDS) -> None:
        """Stop the exporter and wait for its end. Kill it after `timeout` seconds."""
        with no_fork():
            self._stopping.set()
        self._companion.stop(timeout)
        self._listener.close()


def _error(sent: bytes) -> str | None:
    """Return why the exporter that sent these lines cannot start, or None if it has not said that."""
    for line in sent.splitlines():
        with contextlib.suppress(ValueError):
            if error := json.loads(line).get("error"):
                return str(error)
    return None


def note_live_workers(live: int, configured: int) -> None:
    """Set the workers gauge."""
    catalogue().workers.labels("live").set(live)
    catalogue().workers.labels("configured").set(configured)


def note_build(version: str, environment: str) -> None:
    """Set the build_info gauge. Expose the master's counters at 0, so that the first exit or error is an increase."""
    for reason in (*EXIT_REASONS.values(), TIMEOUT):
        catalogue().worker_exits.labels(reason)
    for hook in HOOKS:
        catalogue().hook_errors.labels(hook)
    catalogue().build_info.labels(version, platform.python_version(), environment).set(1)


def before_fork(server: Any, worker: Any) -> None:
    """Assign the exit note and the first free slot to the worker, and count its start."""
    if isinstance(server, RollingArbiter):
        server.prepare(worker)
    taken = {other.slot for other in server.WORKERS.values()}
    worker.slot = next(slot for slot in itertools.count() if slot not in taken)
    catalogue().worker_boots.inc()
    if _resources.directory is not None:
        make_directory(_resources.directory, _resources.user)  # without it no worker boots
    note_live_workers(len(server.WORKERS) + 1, server.num_workers)


def after_exit(server: Any, worker: Any) -> None:
    """Count the exit of a worker by reason. The exporter detects the exit itself and folds the worker's values."""
    note_live_workers(len(server.WORKERS), server.num_workers)
    reason = TIMEOUT if worker.aborted else EXIT_REASONS.get(worker.state.exit_reason, "killed")
    catalogue().worker_exits.labels(reason).inc()
    if isinstance(server, RollingArbiter):
        server.worker_exited(worker)
    worker.state.close()


def account_for_killed(server: Any, timeout: float) -> None:
    """Wait up to `timeout` seconds for the workers that gunicorn has killed at its end, and run `child_exit` for each.

    gunicorn sends SIGKILL and reaps once, without waiting: a worker that ends later would not be counted.
    """
    deadline = time.monotonic() + timeout
    while server.WORKERS and time.monotonic() < deadline:
        for pid, worker in list(server.WORKERS.items()):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # already reaped
                ended = pid
            if ended:
                del server.WORKERS[pid]
                server.cfg.child_exit(server, worker)
        time.sleep(0.01)


def make_directory(directory: Path, user: WorkerUser | None = None) -> None:
    """Make the metrics directory, where workers of `user` can write. Raise DirectoryError if that is impossible."""
    if user is None:
        make(directory)
    else:
        user.make_directory(directory)


def take_ports_and_directory(
    *, api: Sequence[Address], metrics: Address, directory: Path, user: WorkerUser | None = None
) -> None:
    """Claim the metrics directory for `user`, check that the API's ports are free, and bind the metrics port.

    Raise StartError if one of them cannot be had, or if gunicorn was started by SIGUSR2.
    """
    if "GUNICORN_PID" in os.environ:
        # Two masters would share one directory and one metrics port.
        raise StartError("SIGUSR2 is not supported: start a second service, or send SIGHUP to replace the workers")
    try:
        with acting_as(user):
            _resources.lock = close_in_children(claim(directory))
        _resources.directory, _resources.user = directory, user
    except DirectoryError as error:
        raise StartError(str(error)) from error
    for address in api:
        _opened("PORT", address, _bind).close()
    _resources.listener = _opened("METRICS_PORT", metrics, listen)


def _bind(host: str, port: int) -> socket.socket:
    """Return a bound socket that does not listen: it takes no connection, which its close would reset.

    Raise OSError if the address cannot be bound, or if another socket listens on it.
    """
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bound.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    return bound


def _opened(name: str, address: Address, open_socket: Callable[[str, int], socket.socket]) -> socket.socket:
    try:
        return open_socket(*address)
    except OSError as error:
        if (error.errno or 0) < 0 or error.errno == errno.EADDRNOTAVAIL:  # the resolver's codes are negative
            host = name.replace("PORT", "HOST")
            raise StartError(f"{host}={address[0]!r}: want an address of this machine") from error
        reason = os.strerror(error.errno) if error.errno else error
        raise StartError(f"{name}={address[1]}: {reason} ({address[0]}): want a free port") from error


def start_exporter(collectors: Sequence[str], log: Mapping[str, Any], max_series: int = MAX_SERIES_PER_METRIC) -> None:
    """Start the exporter on the port that `take_ports_and_directory` has bound; return before it has started.

    `log` is the arguments of `logging.configure`; `max_series` limits each metric over all processes.
    """
    if _resources.listener is not None:
        try:
            _resources.exporter = ExporterSupervisor(
                _resources.listener, collectors, log, max_series, user=_resources.user
            )
        except PermissionError as error:
            raise StartError(
                f"the exporter cannot start as user {_resources.user}: {error}: want an interpreter for all users"
            ) from error


def supervise_exporter() -> None:
    """Wait until the exporter has started, and restart it whenever it ends. Raise StartError if it cannot start."""
    if _resources.exporter is not None:
        _resources.exporter.supervise()


def stop_exporter(timeout: float = EXPORTER_STOP_SECONDS) -> None:
    """Stop the exporter if it was started. Kill it after `timeout` seconds."""
    if _resources.exporter is not None:
        _resources.exporter.stop(timeout)
        _resources.exporter = None
