"""State that a worker shares with its master, in memory that both have mapped since before the fork."""

import mmap
from typing import Final


class WorkerState:
    """The state of one worker."""

    SIZE: Final = 6
    _EXIT_REASON, _READY, _MAX_REQUESTS, _REPLACEMENT, _RETIRING, _BOOT_FAILED = range(SIZE)

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.SIZE)

    @property
    def exit_reason(self) -> int:
        """0, or one of `master.EXIT_REASONS`."""
        return self._memory[self._EXIT_REASON]

    @exit_reason.setter
    def exit_reason(self, reason: int) -> None:
        self._memory[self._EXIT_REASON] = reason

    @property
    def ready(self) -> bool:
        """The lifespan has started, and connections are accepted."""
        return bool(self._memory[self._READY])

    def set_ready(self) -> None:
        """Set `ready`."""
        self._memory[self._READY] = True

    def set_leaving(self) -> None:
        """Clear `ready` and set `wants_successor`: the worker stops without being told to by the master."""
        self._memory[self._READY] = False
        self._memory[self._REPLACEMENT] = True

    @property
    def max_requests_reached(self) -> bool:
        """The worker has served MAX_REQUESTS."""
        return bool(self._memory[self._MAX_REQUESTS])

    def set_max_requests_reached(self) -> None:
        """Set `max_requests_reached`."""
        self._memory[self._MAX_REQUESTS] = True

    @property
    def wants_successor(self) -> bool:
        """The worker serves until the master has started a successor."""
        return self.max_requests_reached or bool(self._memory[self._REPLACEMENT])

    def request_successor(self) -> None:
        """Set `wants_successor` without `max_requests_reached`."""
        self._memory[self._REPLACEMENT] = True

    @property
    def retiring(self) -> bool:
        """The master has told the worker to stop while the service goes on."""
        return bool(self._memory[self._RETIRING])

    def set_retiring(self) -> None:
        """Set `retiring`."""
        self._memory[self._RETIRING] = True

    @property
    def boot_failed(self) -> bool:
        """The worker has ended itself because it cannot serve: an error of its configuration or application."""
        return bool(self._memory[self._BOOT_FAILED])

    def set_boot_failed(self) -> None:
        """Set `boot_failed`."""
        self._memory[self._BOOT_FAILED] = True

    def close(self) -> None:
        """Free the memory."""
        self._memory.close()


class ServiceState:
    """The state of the whole service, which all of its processes share."""

    SIZE: Final = 2
    _STOPPING, _SERVED = range(SIZE)

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.SIZE)

    @property
    def stopping(self) -> bool:
        """All workers are told to stop: none has another to hand its connections to."""
        return bool(self._memory[self._STOPPING])

    def set_stopping(self) -> None:
        """Set `stopping`."""
        self._memory[self._STOPPING] = True

    @property
    def served(self) -> bool:
        """A worker has been ready: from then on a failed boot does not end the service."""
        return bool(self._memory[self._SERVED])

    def set_served(self) -> None:
        """Set `served`."""
        self._memory[self._SERVED] = True
