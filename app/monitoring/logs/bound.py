"""The wrapper class of structlog's loggers: its filtering logger, of which no call raises.

Constraint: structlog's callsite parameters and stacks start at the first frame outside of modules of structlog, so the
functions that are called between the caller and structlog must count as structlog's.
"""

import logging
from collections.abc import Callable, Sequence
from functools import cache
from types import FunctionType
from typing import Any

import structlog
from structlog.types import Processor

from ..tracebacks import type_name
from .interpolation import interpolated
from .levels import Levels
from .named import DEFAULT_NAME, FAULT, run

_LEVELS = ("debug", "info", "warning", "warn", "error", "critical", "fatal", "msg", "exception")
_METHODS = ("log", *_LEVELS)


def _of_structlog(function: Any) -> Any:
    """Return `function` with frames that structlog takes for its own."""
    frames = {**function.__globals__, "__name__": "structlog"}
    return FunctionType(function.__code__, frames, function.__name__, function.__defaults__, function.__closure__)


@cache
def _filtering(level: int) -> type[Any]:
    """Return structlog's wrapper class for `level`, whose positional arguments need not fit the message."""
    filtering: type[Any] = structlog.make_filtering_bound_logger(level)
    enabled = [name for name in _METHODS if name == "log" or _level(name) >= level]
    wrapped = {
        name: (_log if name in ("log", "alog") else _method)(getattr(filtering, name))
        for name in [*enabled, *(f"a{name}" for name in enabled)]
    }
    return type(filtering.__name__, (filtering,), wrapped)


def _level(method: str) -> int:
    return int(logging.getLevelName({"msg": "INFO", "exception": "ERROR"}.get(method, method.upper())))


def _method(base: Callable[..., Any]) -> Any:
    def method(self: Any, event: Any = None, *arguments: Any, **fields: Any) -> Any:
        if arguments:
            found = interpolated(event, arguments)
            event = found.pop("event")
            fields = {**found, **fields}
        return base(self, event, **fields)

    return _of_structlog(method)


def _log(base: Callable[..., Any]) -> Any:
    def log(self: Any, level: int, event: Any = None, *arguments: Any, **fields: Any) -> Any:
        if arguments:
            found = interpolated(event, arguments)
            event = found.pop("event")
            fields = {**found, **fields}
        return base(self, level, event, **fields)

    return _of_structlog(log)


def wrapper_class(levels: Levels, chain: Sequence[Processor]) -> Any:
    """Return a wrapper class for `structlog.configure`: its filtering logger, at the level of the logger's name.

    Positional arguments need not fit the message. Where a processor raises, `chain` renders the event, with the field
    `log_fault`.
    """

    @cache
    def guarded(level: str) -> type[Any]:
        return _guarded(_filtering(int(logging.getLevelName(level))), chain)

    def bound_logger(logger: Any, processors: Any, context: Any) -> Any:
        return guarded(levels.of(getattr(logger, "name", DEFAULT_NAME)))(logger, processors, context)

    return bound_logger


def _guarded(filtering: type[Any], chain: Sequence[Processor]) -> type[Any]:
    # The one function that all of its methods call. Structlog's own cannot take a field `method_name`.
    def _proxy_to_logger(self: Any, method_name: str, event: Any = None, /, **fields: Any) -> Any:
        try:
            arguments, named = self._process_event(method_name, event, fields)
            return getattr(self._logger, method_name)(*arguments, **named)
        except structlog.DropEvent:
            return None
        except Exception as error:  # noqa: BLE001 -- a log call must not fail
            given = {**self._context, **fields, "event": event, FAULT: type_name(type(error))}
            line = run(chain, self._logger, method_name, given)
            return getattr(self._logger, method_name)(line)

    return type(filtering.__name__, (filtering,), {"_proxy_to_logger": _of_structlog(_proxy_to_logger)})
