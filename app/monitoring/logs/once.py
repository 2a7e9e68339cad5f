"""One traceback for one exception: the observing layer logs it, and the server that gets it next does not.

The record is dropped at the handler, not at the logger: Sentry's logging integration reads records before that.
"""

import logging

_MARK = "prefork_observability_logged"


def mark(error: BaseException) -> None:
    """Note that `error` is in the log. An attribute, because built-in exceptions take no weak references."""
    vars(error)[_MARK] = True


def not_logged_yet(record: logging.LogRecord) -> bool:
    """Return False for a server's record of an exception that is in the log already. A filter of handlers."""
    error = record.exc_info[1] if record.name == "uvicorn.error" and record.exc_info else None
    return error is None or _MARK not in vars(error)
