"""Deduplication of tracebacks: the observing layer logs an exception, so the server's record of it is dropped.

The record is dropped at the handler, not at the logger: Sentry's logging integration reads records before handlers.
"""

import logging

_MARK = "prefork_observability_logged"


def mark(error: BaseException) -> None:
    """Mark `error` as logged. With an attribute, because built-in exceptions do not support weak references."""
    vars(error)[_MARK] = True


def not_logged_yet(record: logging.LogRecord) -> bool:
    """Return False for a server's record of an exception that is logged already. A filter for handlers."""
    error = record.exc_info[1] if record.name == "uvicorn.error" and record.exc_info else None
    return error is None or _MARK not in vars(error)
