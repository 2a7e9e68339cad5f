"""structlog's wrapped logger. It also takes what a chain of the application's own has rendered.

Constraint: no call raises, whatever the last processor returned: the request that logs would fail.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson
import structlog
from structlog.types import EventDict, Processor

from ..tracebacks import raised, type_name
from .line import Line

DEFAULT_NAME: Final = "app"
Write = Callable[[bytes], object]
# Fields with which structlog's ProcessorFormatter finds the logger again.
_OF_FORMATTER: Final = frozenset({"_logger", "_name"})
FAULT: Final = "log_fault"
"""Field of a line whose event could not be rendered as it was given: the type of what was raised."""


class NamedLogger:
    """A name, and the function that writes rendered lines.

    `chain` renders events that another chain has rendered already, and so redacts them. Attributes that are not here,
    such as `isEnabledFor`, are those of the standard library's logger of that name: structlog.stdlib reads them.
    """

    __slots__ = ("_chain", "_write", "name")

    def __init__(self, write: Write, chain: Sequence[Processor] = (), name: str = DEFAULT_NAME) -> None:
        self._write = write
        self._chain = chain
        self.name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(logging.getLogger(self.name), name)

    def _take(self, level: str, arguments: tuple[Any, ...], fields: dict[str, Any]) -> None:
        if len(arguments) == 1 and type(arguments[0]) is Line:
            self._write(arguments[0])
            return
        try:
            event = _event(arguments, fields)
        except Exception as error:  # noqa: BLE001 -- a log call must not fail
            event = {"event": "log_event_not_readable", "error": type(error).__name__}
        self._write(run(self._chain, self, level, event))

    def debug(self, *arguments: Any, **fields: Any) -> None:
        """Write a line of the level DEBUG."""
        self._take("debug", arguments, fields)

    def info(self, *arguments: Any, **fields: Any) -> None:
        """Write a line of the level INFO."""
        self._take("info", arguments, fields)

    def warning(self, *arguments: Any, **fields: Any) -> None:
        """Write a line of the level WARNING."""
        self._take("warning", arguments, fields)

    def error(self, *arguments: Any, **fields: Any) -> None:
        """Write a line of the level ERROR."""
        self._take("error", arguments, fields)

    def critical(self, *arguments: Any, **fields: Any) -> None:
        """Write a line of the level CRITICAL."""
        self._take("critical", arguments, fields)

    msg = log = notset = info
    warn = warning
    exception = failure = err = error
    fatal = critical


def run(chain: Sequence[Processor], logger: Any, method: str, event: EventDict) -> Any:
    """Return what the last processor of `chain` returns for `event`, or a line that names the fault if one raises."""
    name, exc_info = event.get("event"), event.get("exc_info")
    try:
        return _run(chain, logger, method, event)
    except Exception as error:  # noqa: BLE001 -- a log call must not fail
        return _line_of_fault(chain, logger, method, _without_values(name, exc_info, error))


def _run(chain: Sequence[Processor], logger: Any, method: str, event: EventDict) -> Any:
    line: Any = event
    for processor in chain:
        line = processor(logger, method, line)
    return line


def _without_values(name: Any, exc_info: Any, error: Exception) -> EventDict:
    """Return the event `name` with its exception's type and `error`, in place of fields that cannot be rendered."""
    event: EventDict = {"event": name if type(name) is str else "log_event_not_readable"}
    try:
        found = raised(exc_info)
        if found is not None:
            event["exception"] = type_name(found[0])
    except Exception:  # noqa: BLE001, S110 -- the fault is reported below
        pass
    event[FAULT] = type_name(type(error))
    return event


def _line_of_fault(chain: Sequence[Processor], logger: Any, method: str, event: EventDict) -> Any:
    try:
        return _run(chain, logger, method, dict(event))
    except Exception:  # noqa: BLE001 -- the chain fails for any event, so nothing of this one may be shown
        line = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "level": method,
            "event": "log_event_not_readable",
            "logger": str(getattr(logger, "name", DEFAULT_NAME)),
            FAULT: event[FAULT],
        }
        return addressed(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE), logger)


def addressed(line: bytes, logger: object) -> Line | bytes | str:
    """Return a rendered line, which ends in a newline, in the type that `logger` takes."""
    if isinstance(logger, NamedLogger):
        return Line(line)
    # A logger factory of the application's own, whose loggers add the newline.
    return line[:-1] if isinstance(logger, structlog.BytesLogger) else line[:-1].decode()


def _event(arguments: tuple[Any, ...], fields: dict[str, Any]) -> EventDict:
    """Return the event in the arguments of a logger, as structlog's renderers give them: text, JSON or fields."""
    event = dict(fields)
    extra = event.pop("extra", None)
    if isinstance(extra, Mapping):
        event.update((key, value) for key, value in extra.items() if key not in _OF_FORMATTER)
    if "msg" in event:
        event.setdefault("event", event.pop("msg"))
    if arguments:
        rendered, *more = arguments
        decoded = _decoded(rendered)
        event.update(decoded if isinstance(decoded, Mapping) else {"event": decoded})
        if more:
            event["arguments"] = more
    return event


def _decoded(rendered: Any) -> Any:
    """Return the mapping or the text that was rendered. Fields of JSON are redacted by their names, too."""
    if isinstance(rendered, bytes | bytearray):
        rendered = rendered.decode(errors="replace")
    if not isinstance(rendered, str):
        return rendered if isinstance(rendered, Mapping) else str(rendered)
    text = rendered.strip()
    if text.startswith("{"):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text
