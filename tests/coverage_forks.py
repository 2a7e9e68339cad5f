"""Makes coverage.py safe in a process that forks while its threads run measured code. Importing this module is enough.

Every measured call takes a lock of the process's `Coverage`. With `patch = ["fork", "_exit"]`, `os._exit` in a forked
child saves the parent's `Coverage` too, and waits for ever if another thread of the parent had the lock at the fork
(coverage 7.17.3: `Collector._clear_data`). So a child gets new locks.
"""

import os
import threading
from typing import Any

try:
    from coverage import Coverage
except ImportError:  # nothing is measured
    Coverage = None  # type: ignore[assignment,misc]

_measuring: list[Any] = []


def _remember() -> None:
    current = Coverage.current()
    if current is not None and current not in _measuring:
        _measuring.append(current)


def _renew_locks() -> None:
    for one in _measuring:
        one._collector.data_lock = threading.Lock()


if Coverage is not None:
    os.register_at_fork(before=_remember, after_in_child=_renew_locks)
