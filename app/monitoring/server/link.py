"""The link between a worker and its master: what they tell each other, and the queue of connections."""

import contextlib
import os
import signal

from .handover import Queue
from .notes import Notes, ServiceNotes


class MasterLink:
    """What a worker knows of its master. SteadyArbiter completes it before the fork; another arbiter does not."""

    def __init__(self, master: int) -> None:
        self._master = master
        self.notes = Notes()
        self.service: ServiceNotes | None = None
        self.queue: Queue | None = None
        self.stop_delay = 0.0

    @property
    def may_fail(self) -> bool:
        """Whether the others go on if this worker fails to boot."""
        return self.service is not None and self.service.served

    @property
    def service_ends(self) -> bool:
        """Whether the master has told all workers to leave or has died, or there is no SteadyArbiter."""
        return self.service is None or self.service.ending or os.getppid() != self._master

    @property
    def told_to_leave(self) -> bool:
        """Whether the master has told this worker to leave, or the service ends."""
        return self.notes.told or self.service_ends

    @property
    def ends_tired(self) -> bool:
        """Whether a worker that ends does so because of MAX_REQUESTS."""
        return self.notes.tired and (self.service is None or not self.service.ending)

    def note_ready(self) -> None:
        """Tell the master that this worker serves."""
        self.notes.note_ready()
        if self.service is not None:
            self.service.note_served()
        self._wake_master()

    def note_tired(self) -> None:
        """Ask the master for a successor because of MAX_REQUESTS."""
        if not self.notes.tired:
            self.notes.note_tired()
            self._wake_master()

    def ask_for_successor(self) -> None:
        """Ask the master for a successor."""
        self.notes.ask_for_successor()
        self._wake_master()

    def _wake_master(self) -> None:
        with contextlib.suppress(OSError):  # it has another user, or has ended; it looks every second
            os.kill(self._master, signal.SIGCHLD)
