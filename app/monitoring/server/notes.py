"""What a worker and its master tell each other, in memory that both have mapped."""

import mmap
from typing import Final


class Notes:
    """The notes of one worker. They are made before the fork."""

    SIZE: Final = 5
    _REASON, _READY, _TIRED, _ASKED, _TOLD = range(SIZE)

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.SIZE)

    @property
    def reason(self) -> int:
        """Why the worker ends: 0, or one of master.EXIT_REASONS."""
        return self._memory[self._REASON]

    @reason.setter
    def reason(self, reason: int) -> None:
        self._memory[self._REASON] = reason

    @property
    def ready(self) -> bool:
        """The lifespan has started, and connections are accepted."""
        return bool(self._memory[self._READY])

    def note_ready(self) -> None:
        """Set `ready`."""
        self._memory[self._READY] = True

    @property
    def tired(self) -> bool:
        """The worker has served MAX_REQUESTS."""
        return bool(self._memory[self._TIRED])

    def note_tired(self) -> None:
        """Set `tired`."""
        self._memory[self._TIRED] = True

    @property
    def wants_successor(self) -> bool:
        """The worker serves until the master has started another in its place."""
        return self.tired or bool(self._memory[self._ASKED])

    def ask_for_successor(self) -> None:
        """Set `wants_successor` without `tired`."""
        self._memory[self._ASKED] = True

    @property
    def told(self) -> bool:
        """The master has told the worker to leave."""
        return bool(self._memory[self._TOLD])

    def note_told(self) -> None:
        """Set `told`."""
        self._memory[self._TOLD] = True

    def close(self) -> None:
        """Free the memory."""
        self._memory.close()


class ServiceNotes:
    """The notes of the whole service, which all of its processes share."""

    SIZE: Final = 2
    _ENDING, _SERVED = range(SIZE)

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self.SIZE)

    @property
    def ending(self) -> bool:
        """All workers are told to leave: none has another to hand its connections to."""
        return bool(self._memory[self._ENDING])

    def note_ending(self) -> None:
        """Set `ending`."""
        self._memory[self._ENDING] = True

    @property
    def served(self) -> bool:
        """A worker has been ready: from then on a boot that fails does not end the service."""
        return bool(self._memory[self._SERVED])

    def note_served(self) -> None:
        """Set `served`."""
        self._memory[self._SERVED] = True
