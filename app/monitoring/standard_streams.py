"""Standard streams that were closed when the process started: `gunicorn >&-`.

The next files that are opened would get their descriptors, and log lines would go into a client's connection.
"""

import os
import sys
from typing import IO, Final

_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_closed() -> None:
    """Open /dev/null in place of each closed stream. If standard output is one, say so on standard error."""
    discarded = sys.stdout is None
    for number, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:  # Python has found it closed
            setattr(sys, name, _null(number, mode))
    if discarded:
        sys.stderr.write("standard output is closed: log lines are discarded\n")


def _null(number: int, mode: str) -> IO[str]:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number and _is_closed(number):
        os.dup2(null, number)
        os.close(null)
        null = number
    # Another file that has been opened on the descriptor keeps it.
    os.set_inheritable(null, null == number)
    return open(null, mode, encoding="utf-8", closefd=False)


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False
