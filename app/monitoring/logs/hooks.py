"""Logging of uncaught exceptions, through the interpreter's hooks.

Constraint: hooks run in any thread, during finalisation and in forked children, so they never raise. If redaction
fails, only the exception's type is written.
"""

import contextlib
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import structlog

LOGGER_NAME: Final = "python"
_Parts = tuple[type[BaseException], BaseException | None, TracebackType | None]
_logging = threading.local()  # the exception that this thread is logging


def install_hooks() -> None:
    """Set `sys.excepthook`, `threading.excepthook` and `sys.unraisablehook`, unless they are set already.

    A previous hook is called after ours, unless it is the interpreter's default.
    """
    if not isinstance(sys.excepthook, _UncaughtHook):
        sys.excepthook = _UncaughtHook(sys.excepthook, sys.__excepthook__)
    if not isinstance(threading.excepthook, _ThreadHook):
        threading.excepthook = _ThreadHook(threading.excepthook, threading.__excepthook__)
    if not isinstance(sys.unraisablehook, _UnraisableHook):
        sys.unraisablehook = _UnraisableHook(sys.unraisablehook, sys.__unraisablehook__)


class _Hook:
    """Log the exception, then call the previous hook."""

    event = "uncaught_exception"
    level = "error"

    def __init__(self, previous: Callable[..., Any], default: Callable[..., Any]) -> None:
        self._previous = previous
        self._is_default = previous is default

    def __call__(self, *args: Any) -> None:
        outer = getattr(_logging, "exception", None)
        call_previous = not self._is_default
        try:
            kind, value, trace = self.parts(*args)
            if issubclass(kind, KeyboardInterrupt | SystemExit):
                call_previous = True
            # A library may have wrapped this hook and be wrapped by a later one: only the outermost call logs.
            elif value is None or value is not outer:
                _logging.exception = value
                exc_info = (kind, value, trace)
                getattr(structlog.get_logger(LOGGER_NAME), self.level)(
                    self.event, exc_info=exc_info, **self.fields(*args)
                )
        except Exception as error:  # noqa: BLE001 -- a hook must not raise, and nothing unredacted may be written
            with contextlib.suppress(Exception):
                sys.stderr.write(f"{self.event} could not be logged: {type(error).__name__}\n")
        try:
            if call_previous:
                self._previous(*args)
        except Exception:  # noqa: BLE001, S110 -- the exception itself is logged, and a hook must not raise
            pass
        finally:
            _logging.exception = outer

    def parts(self, *args: Any) -> _Parts:
        """Return type, value and traceback of the exception."""
        hooked = args[0]
        return hooked.exc_type, hooked.exc_value, hooked.exc_traceback

    def fields(self, *_args: Any) -> dict[str, Any]:
        """Return further fields of the event."""
        return {}


class _UncaughtHook(_Hook):
    level = "critical"

    def parts(self, *args: Any) -> _Parts:
        kind, value, trace = args
        return kind, value, trace


class _ThreadHook(_Hook):
    event = "uncaught_thread_exception"

    def fields(self, *args: Any) -> dict[str, Any]:
        thread = args[0].thread
        return {"thread": thread.name} if thread is not None else {}


class _UnraisableHook(_Hook):
    event = "unraisable_exception"

    def fields(self, *args: Any) -> dict[str, Any]:
        """Name the object without a reference to it: that would resurrect an object that is being finalised."""
        source = args[0].object
        name = getattr(source, "__qualname__", None)
        message = args[0].err_msg
        fields = {"source": name if isinstance(name, str) else type(source).__name__}
        return fields | ({"detail": message} if message else {})
