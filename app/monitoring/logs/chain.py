"""The chain of structlog processors for every event, from structlog and from the standard library.

Constraint: everything from outside the process is redacted as soon as it is text; after redaction the chain only adds
fields of its own.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import orjson
import structlog
from opentelemetry import trace
from structlog.types import EventDict, Processor, WrappedLogger

from ..redaction import redact_event
from ..tracebacks import format_exception, raised
from .line import CUT, IDENTITY, MAX_LINE_BYTES, encode
from .named import DEFAULT_NAME, FAULT

_PACKAGE = __name__.rpartition(".logs")[0]
_stack = structlog.processors.StackInfoRenderer(additional_ignores=[f"{_PACKAGE}.logs", f"{_PACKAGE}.logging"])

# Redaction scans whole texts, so their length is limited; no line could hold longer ones.
MAX_TEXT_LENGTH = 32_768
# Characters removed on each side of a cut: they may be part of a private value that no pattern matches any more.
CUT_MARGIN = 4_096
# More than a line has room for.
MAX_FIELDS = 256
_FIRST = (*IDENTITY, "event", "exception", "stack", FAULT)


def processors(fields: dict[str, str], user_key: bytes | None = None) -> list[Processor]:
    """Return the chain up to the renderer. `fields` are added to every line. Without `user_key` user ids are hidden."""
    return [
        structlog.contextvars.merge_contextvars,  # fields bound by the request, such as request_id
        _tracebacks,  # before redaction: tracebacks quote values
        partial(_redact, user_key),
        Stamp(fields),
        _trace_context,
    ]


def _tracebacks(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replace `exc_info` and `stack_info` by the texts `exception` and `stack`."""
    found = raised(event.pop("exc_info", None))
    if found is not None:
        event["exception"] = format_exception(found)
    if event.get("stack_info") is not None:
        try:
            return _stack(logger, method, event)
        except Exception:  # noqa: BLE001 -- the line is worth more than its stack
            event.pop("stack_info", None)
    return event


def _redact(user_key: bytes | None, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    try:
        if len(event) > MAX_FIELDS:
            event = _first_fields(event)
        length = 0
        for value in event.values():
            if type(value) is str:
                length += len(value)
        if length > MAX_TEXT_LENGTH:
            return _redact_long(event, user_key)
        redacted: EventDict = redact_event(event, user_key=user_key)
    except Exception as error:  # noqa: BLE001 -- a log call must not fail, and nothing unredacted may be written
        return {"event": "log_event_not_readable", "error": type(error).__name__}
    return redacted


def _first_fields(event: EventDict) -> EventDict:
    """Return the fields that every line has, the first others up to MAX_FIELDS, and the number of the rest."""
    kept = {key: event[key] for key in _FIRST if key in event}
    for key in islice(event, MAX_FIELDS):
        kept.setdefault(key, event[key])
    kept["[cut]"] = f"{len(event) - len(kept)} fields"
    return kept


def _redact_long(event: EventDict, user_key: bytes | None) -> EventDict:
    """Redact an event, reducing long texts to their beginning and end, which are redacted separately.

    The fields that every line has come first: what redaction reads of one line is limited.
    """
    half = MAX_TEXT_LENGTH // 2
    ordered = {key: event[key] for key in (*(key for key in _FIRST if key in event), *event)}
    long = {key for key, value in ordered.items() if type(value) is str and len(value) > MAX_TEXT_LENGTH}
    parted = {key: [value[:half], value[-half:]] if key in long else value for key, value in ordered.items()}
    redacted: EventDict = redact_event(parted, user_key=user_key)
    for key in long & redacted.keys():
        if isinstance(redacted[key], list):
            head, tail = redacted[key]
            redacted[key] = head[:-CUT_MARGIN] + CUT + tail[CUT_MARGIN:]
    return redacted


class Stamp:
    """Prepend timestamp, level, event and logger; append the service fields. Callers cannot override them."""

    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields
        self._second = (0, "")
        self._last = f",{orjson.dumps(fields).decode()[1:-1]}{',' * bool(fields)}"

    def _time(self, nanoseconds: int) -> str:
        """Return a Unix time in UTC with six decimals, so lines sort as text. The part up to the second is cached."""
        second, nanoseconds = divmod(nanoseconds, 1_000_000_000)
        known, text = self._second
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second, text
        return f"{text}.{nanoseconds // 1000:06}Z"

    def render_trusted(self, entry: tuple[int, str, str, Callable[[Any], str], Any]) -> bytes:
        """Return the line of an event at INFO whose fields need no redaction and do not collide with the stamp's.

        `entry` is the time in nanoseconds, logger, event, a function that renders the fields as JSON, and its argument.
        """
        nanoseconds, name, event, members, values = entry
        line = (
            f'{{"timestamp":"{self._time(nanoseconds)}","level":"info","event":"{event}","logger":"{name}",'
            f'{members(values)}{self._last}"worker":{os.getpid()}}}\n'
        ).encode()
        return line if len(line) <= MAX_LINE_BYTES else encode(orjson.loads(line))

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        stamp = {
            "timestamp": self._time(time.time_ns()),
            "level": method,
            "event": event.pop("event", ""),
            "logger": getattr(logger, "name", DEFAULT_NAME),  # of another factory it may have none
        }
        stamped: EventDict = {**stamp, **event, **stamp, **self._fields}
        if self._fields:
            stamped["worker"] = os.getpid()
        return stamped


def _trace_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the ids of the current span, sampled or not, to correlate logs with traces."""
    if "trace_id" in event:
        return event  # a finished request has passed its own
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
        event["span_id"] = format(context.span_id, "016x")
    return event
