"""The link between a worker and its master: their shared state, and the queue of connections."""

import contextlib
import os
import signal

from .admission import AdmissionLimits
from .handover import Queue
from .limits import Limits
from .shared_state import ServiceState, WorkerState


class MasterLink:
    """A worker's access to its master. RollingArbiter sets the attributes before the fork; with another arbiter they
    keep their defaults.
    """

    def __init__(self, master: int) -> None:
        self._master = master
        self.worker = WorkerState()
        self.service: ServiceState | None = None
        self.queue: Queue | None = None
        self.stop_delay = 0.0
        self.generation = 0
        self.admission: AdmissionLimits | None = None
        self.limits = Limits()

    @property
    def boot_may_fail(self) -> bool:
        """True if the service goes on when this worker fails to boot."""
        return self.service is not None and self.service.served

    @property
    def service_stopping(self) -> bool:
        """True if the master has told all workers to stop or has died, or if there is no RollingArbiter."""
        return self.service is None or self.service.stopping or os.getppid() != self._master

    @property
    def stop_requested(self) -> bool:
        """True if the master has told this worker to stop, or the service stops."""
        return self.worker.retiring or self.service_stopping

    @property
    def ends_for_max_requests(self) -> bool:
        """True if a worker that ends does so because of MAX_REQUESTS."""
        return self.worker.max_requests_reached and (self.service is None or not self.service.stopping)

    def report_ready(self) -> None:
        """Tell the master that this worker serves."""
        self.worker.set_ready()
        if self.service is not None:
            self.service.set_served()
        self._wake_master()

    def report_leaving(self) -> None:
        """Tell the master that this worker serves no new connection. It starts a successor unless it has told it to."""
        if not self.worker.retiring:
            self.worker.set_leaving()
            self._wake_master()

    def report_max_requests(self) -> None:
        """Ask the master for a successor because of MAX_REQUESTS."""
        if not self.worker.max_requests_reached:
            self.worker.set_max_requests_reached()
            self._wake_master()

    def request_successor(self) -> None:
        """Ask the master for a successor."""
        self.worker.request_successor()
        self._wake_master()

    def _wake_master(self) -> None:
        with contextlib.suppress(OSError):  # another user, or ended; the master polls once a second
            os.kill(self._master, signal.SIGCHLD)
