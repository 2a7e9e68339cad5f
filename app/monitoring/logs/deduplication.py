"""Deduplication of tracebacks: the observing layer logs an exception, so the server's record of it is dropped.

The record is dropped at the handler, not at the logger: Sentry's logging integration reads records before handlers.
"""

import logging
from contextlib import suppress
from typing import Any

_MARK = "prefork_observability_logged"


def mark(error: BaseException) -> None:
    """Mark `error` as logged. With an attribute, because built-in exceptions do not support weak references."""
    with suppress(Exception):  # of a class that hides its attributes; the server logs it once more
        _attributes(error)[_MARK] = True


def not_logged_yet(record: logging.LogRecord) -> bool:
    """Return False for a server's record of an exception that is logged already. A filter for handlers."""
    with suppress(Exception):
        error = record.exc_info[1] if record.name == "uvicorn.error" and record.exc_info else None
        return error is None or _MARK not in _attributes(error)
    return True


def _attributes(error: BaseException) -> dict[str, Any]:
    """Return the instance's attributes, also of a class that overrides `__dict__`."""
    attributes: dict[str, Any] = BaseException.__dict__["__dict__"].__get__(error)
    return attributes
