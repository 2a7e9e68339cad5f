"""gunicorn's master with rolling replacement: a successor serves before its predecessor is told to stop.

gunicorn stops the old workers as soon as it has forked the new ones, long before these have imported the application,
and stops the whole service when a new worker cannot import it.
"""

import contextlib
import io
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from ..arguments import logging_arguments
from ..backoff import Backoff
from ..companion import no_fork
from ..logging import configure as configure_logging
from ..logging import get_logger
from ..metrics.catalogue import catalogue
from ..stop_budget import StopBudget
from .admission import AdmissionLimits
from .end import end_process
from .handover import Queue
from .limits import Limits
from .link import MasterLink
from .shared_state import ServiceState

if TYPE_CHECKING:
    from ..observability import Observability

MIN_BOOT_DELAY_SECONDS, MAX_BOOT_DELAY_SECONDS = 1.0, 30.0


class ReloadRefusedError(Exception):
    """A reload needs a restart; the message is one line."""


class RollingArbiter(Arbiter):  # type: ignore[misc]
    """The arbiter of a service. The gunicorn command creates gunicorn's own; `adopt` changes its class.

    A worker is stale after a reload, and when it wants a successor. Two invariants: no worker is told to stop if fewer
    than the configured number would be ready without it, and once a worker has served, a failed boot or reload does
    not stop the service.
    """

    WORKERS: dict[int, Any]
    LISTENERS: list[Any]
    num_workers: int
    pidfile: Any
    generation: int
    stop_delay: float
    max_surge: int
    admission: AdmissionLimits | None
    limits: Limits
    """Set whenever the configuration has been read."""
    stop_began: float
    """Set when the service stops."""
    service: ServiceState
    queue: Queue
    _bound: tuple[Any, bool]
    _user: tuple[int, int]
    _retiring: dict[int, float]
    _reloading: bool
    _boots: Backoff
    _next_boot: float
    _last_ready: int

    @classmethod
    def adopt(cls, arbiter: Arbiter) -> None:
        """Make `arbiter` a RollingArbiter, before its first worker."""
        arbiter.__class__ = cls
        vars(arbiter).update(
            generation=0,
            service=ServiceState(),
            queue=Queue(),
            _bound=(arbiter.address, arbiter.cfg.is_ssl),
            _user=(arbiter.cfg.uid, arbiter.cfg.gid),
            _retiring={},
            _reloading=False,
            _next_boot=0.0,
            _last_ready=0,
        )
        arbiter._boots = Backoff(MIN_BOOT_DELAY_SECONDS, MAX_BOOT_DELAY_SECONDS)  # noqa: SLF001 -- of this class now

    def prepare(self, worker: Any) -> None:
        """Set the attributes of a worker's link before the fork."""
        worker.generation, worker.forked, worker.reported = self.generation, time.monotonic(), False
        link: MasterLink = worker.link
        link.service, link.queue, link.stop_delay = self.service, self.queue, self.stop_delay
        link.generation, link.admission = self.generation, self.admission
        link.limits = self.limits
        self._boots.started()

    def manage_workers(self) -> None:
        """Start missing workers and successors, then stop the workers that are replaced."""
        if self._reloading:
            return
        self._kill_overdue()
        workers = [worker for worker in self.WORKERS.values() if worker.pid not in self._retiring]
        self._report_late(workers)
        self._reset_backoff(workers)
        stale = [worker for worker in workers if worker.state.wants_successor or worker.generation != self.generation]
        # Retiring workers finish their requests. At most as many retire at one time as serve.
        successors = min(len(stale), self.max_surge) if len(self._retiring) < self.num_workers else 0
        missing = self.num_workers + successors - len(workers)
        if missing > 0 and time.monotonic() >= self._next_boot:
            self._start(missing)
        self._retire(workers, stale)

    def _report_late(self, workers: list[Any]) -> None:
        """Log each worker once that has not become ready within WORKER_TIMEOUT: the start of its lifespan may hang."""
        for worker in workers:
            waited = time.monotonic() - worker.forked
            if self.cfg.timeout and waited > self.cfg.timeout and not worker.reported:
                worker.reported = True
                if not worker.state.ready and not worker.state.wants_successor:
                    get_logger("gunicorn.workers").warning("worker_not_ready", pid=worker.pid, seconds=round(waited, 1))

    def _reset_backoff(self, workers: list[Any]) -> None:
        newest = max((worker.age for worker in workers if worker.state.ready), default=0)
        if newest > self._last_ready:
            self._last_ready, self._next_boot = newest, 0.0
            self._boots = Backoff(MIN_BOOT_DELAY_SECONDS, MAX_BOOT_DELAY_SECONDS)

    def _start(self, number: int) -> None:
        try:
            for _ in range(number):
                self.spawn_worker()
        except (OSError, RuntimeError) as error:  # no process, descriptor or memory is left
            if not self.service.served:
                raise
            catalogue().workers.labels("live").set(len(self.WORKERS))  # the pre_fork hook has counted one more
            delay = self._boots.ended()
            self._next_boot = time.monotonic() + delay
            get_logger("gunicorn.workers").error("worker_not_started", error=str(error), next_in_seconds=delay)

    def _retire(self, workers: list[Any], stale: list[Any]) -> None:
        """Tell surplus workers to stop: stale ones first, then the oldest."""
        surplus = len(workers) - self.num_workers
        ready = sum(worker.state.ready for worker in workers)
        for worker in sorted(workers, key=lambda worker: (worker not in stale, worker.age)):
            if surplus <= 0:
                return
            # A worker that is neither ready nor stale boots to replace a stale one.
            if ready > self.num_workers if worker.state.ready else worker in stale or not stale:
                surplus -= 1
                ready -= worker.state.ready
                worker.state.set_retiring()
                self._retiring[worker.pid] = time.monotonic() + self.cfg.graceful_timeout
                self.kill_worker(worker.pid, signal.SIGTERM)

    def _kill_overdue(self) -> None:
        """Kill the workers that have not ended within graceful_timeout."""
        now = time.monotonic()
        self._retiring = {pid: deadline for pid, deadline in self._retiring.items() if pid in self.WORKERS}
        for pid, deadline in self._retiring.items():
            if now > deadline:
                self.kill_worker(pid, signal.SIGKILL)

    def worker_exited(self, worker: Any) -> None:
        """Delay the next boot if a worker ended before it was ready; give up a reload whose first worker cannot boot.

        One that something else killed, such as the kernel when memory is short, is started again.
        """
        stopped = worker.state.ready or worker.state.retiring or worker.state.exit_reason
        if stopped or not self.service.served or self.service.stopping:
            return
        delay = self._boots.ended()
        self._next_boot = time.monotonic() + delay
        others = list(self.WORKERS.values())
        current = [other for other in others if other.generation == self.generation]
        unfit = worker.state.boot_failed or worker.aborted
        reloading = unfit and worker.generation == self.generation and len(current) < len(others)
        if reloading and not any(other.state.ready for other in current):
            for other in others:
                other.generation = self.generation
            get_logger("gunicorn.reload").error("reload_given_up", pid=worker.pid, serving=len(others))
        else:
            get_logger("gunicorn.reload").error("worker_failed_to_boot", pid=worker.pid, next_in_seconds=delay)

    def reload(self) -> None:
        """Read the configuration again and have all workers replaced. If it cannot be read, change nothing."""
        from ..observability import Observability  # noqa: PLC0415 -- it imports this module's package

        observability = Observability.current()
        kept, number, directory = dict(self.app.__dict__), self.num_workers, os.getcwd()  # noqa: PTH109
        pidfile = self.pidfile
        environment, printed = dict(os.environ), io.StringIO()
        try:
            with self._no_workers(), contextlib.redirect_stderr(printed):
                super().reload()
        except (SystemExit, Exception) as error:  # noqa: BLE001 -- whatever it raises, the service goes on
            _restore(environment)
            os.chdir(directory)
            self.app.__dict__.clear()
            self.app.__dict__.update(kept)
            with self._no_workers():
                self.setup(self.app)
            self.num_workers = number
            self._restore_pidfile(pidfile)
            _use_again(observability)
            get_logger("gunicorn.reload").error("reload_refused", reason=_reason(error, printed.getvalue()))
            return
        with contextlib.suppress(OSError):  # its reader has gone
            sys.stderr.write(printed.getvalue())
        self.generation += 1
        self._next_boot = 0.0
        self.manage_workers()

    def _restore_pidfile(self, pidfile: Any) -> None:
        """Write the pid file again that gunicorn has removed before the reload failed."""
        if pidfile is not None and self.pidfile is not pidfile:
            with contextlib.suppress(OSError, RuntimeError):  # its directory has gone, or another service has it
                pidfile.create(self.pid)
        self.pidfile = pidfile

    def setup(self, app: Any) -> None:
        """Take the configuration of `app`; at a reload, raise ReloadRefusedError for another address, TLS or user."""
        super().setup(app)
        if not self._reloading:
            return
        address, encrypted = self._bound
        if self.address != address:
            # The old workers have the old address open: gunicorn closes its own copy first, and then cannot bind.
            raise ReloadRefusedError(f"bind={self.cfg.bind}: another address needs a restart")
        if self.cfg.is_ssl != encrypted:  # connections of the old workers cannot be handed to the new ones
            raise ReloadRefusedError(f"certfile={self.cfg.certfile}: to switch TLS on or off needs a restart")
        if (self.cfg.uid, self.cfg.gid) != self._user:  # the metrics directory is of the old one
            raise ReloadRefusedError(f"user={self.cfg.uid}, group={self.cfg.gid}: another user needs a restart")

    @contextmanager
    def _no_workers(self) -> Iterator[None]:
        """Keep gunicorn's reload from replacing all workers at one time."""
        workers, self.WORKERS, self._reloading = self.WORKERS, {}, True
        try:
            yield
        finally:
            self.WORKERS, self._reloading = workers, False

    def spawn_worker(self) -> Any:
        """Start a worker. Does not return in the worker."""
        if self._reloading:
            return None
        master = os.getpid()
        try:
            return super().spawn_worker()
        except SystemExit as end:
            if os.getpid() != master and not end.code:
                end_process()
            raise

    def reap_workers(self) -> None:
        """Account for the workers that have ended. Raise HaltServer if one could not boot.

        Once the service stops, a second such worker changes nothing: gunicorn would end with a traceback and status 1.
        """
        while True:
            try:
                super().reap_workers()
            except HaltServer:
                if not self.service.stopping:
                    raise
            else:
                return

    def handle_int(self) -> None:
        """Stop gracefully. gunicorn's own handler waits in a loop that a second signal cannot interrupt."""
        raise StopIteration

    handle_quit = handle_int

    def stop(self, graceful: bool = True) -> None:  # noqa: FBT001, FBT002 -- the signature is gunicorn's
        """Stop all workers. The paths of Unix sockets go last: workers accept connections during stop_delay."""
        self.service.set_stopping()
        if "stop_began" not in vars(self):  # at SIGQUIT gunicorn stops twice
            self.stop_began = time.monotonic()
            # gunicorn kills the workers that are left then, and the exporter has the rest of the time.
            self.cfg.settings["graceful_timeout"].value = StopBudget(self.cfg.graceful_timeout).workers
        listeners, self.LISTENERS = self.LISTENERS, []
        inherited = self.systemd or any(isinstance(address, int) for address in self.address)
        owned = self.reexec_pid == self.master_pid == 0 and not inherited
        paths = _paths(listeners) if owned else {}
        for listener in listeners:
            listener.close()
        super().stop(graceful)
        for path, identity in paths.items():
            if _identity(path) == identity:  # not the socket of a service started since
                path.unlink(missing_ok=True)


def _paths(listeners: list[Any]) -> dict[Path, tuple[int, ...]]:
    """Return the paths of Unix sockets with their identities. Names in the abstract name space are bytes."""
    names = [listener.getsockname() for listener in listeners]
    return {Path(name): _identity(Path(name)) for name in names if isinstance(name, str)}


def _identity(path: Path) -> tuple[int, ...]:
    """Return the identity of a file; a later file of the same path may get the same inode."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _reason(error: BaseException, printed: str) -> str:
    """Return the reason in one line. gunicorn prints it, and exits with a number."""
    lines = printed.strip().splitlines()
    if lines and isinstance(error, SystemExit) and not isinstance(error.code, str):
        return lines[-1].strip()
    return str(error)


def _use_again(observability: "Observability") -> None:
    """Restore `observability` and its logging after a refused configuration has created another one."""
    type(observability)._current = observability  # noqa: SLF001 -- of this package
    configure_logging(**logging_arguments(observability.options))


def _restore(environment: dict[str, str]) -> None:
    """Restore the environment in place: another thread may start a process with it at any time."""
    with no_fork():
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
