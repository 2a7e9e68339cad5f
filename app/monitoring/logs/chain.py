"""What an event goes through before it is written, whoever logged it: structlog's processors, in their order.

The constraint to know: what came from outside the process is redacted as soon as it is text, and only what this module
knows by itself is added after that.
"""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import structlog
from opentelemetry import trace
from structlog.types import EventDict, Processor, WrappedLogger

from ..redaction import redact_event
from .line import CUT, LIMIT, encode

# Redaction reads a text as a whole, so nobody's megabyte may reach it: no line shows that much anyway.
MAX_TEXT_LENGTH = 32_768
# What stands next to a cut may be a part of something private, which no pattern knows any more.
BORDER = 4_096


def processors(fields: dict[str, str], user_key: bytes | None = None) -> list[Processor]:
    """The chain up to the renderer; `fields` are in every line. Without `user_key` no user's id is, in any form."""
    return [
        structlog.contextvars.merge_contextvars,  # what the request bound: request_id first of all
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,  # a traceback quotes values, so it has to be text before redaction
        partial(_redact, user_key),
        Stamp(fields),
        _trace_context,
    ]


def _redact(user_key: bytes | None, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    try:
        for value in event.values():
            if isinstance(value, str) and len(value) > MAX_TEXT_LENGTH:
                return _redact_long(event, user_key)
        redacted: EventDict = redact_event(event, user_key=user_key)
    except Exception as error:  # noqa: BLE001 -- a log call must not fail, and nothing unredacted may leave
        return {"event": "log_event_not_readable", "error": type(error).__name__}
    return redacted


def _redact_long(event: EventDict, user_key: bytes | None) -> EventDict:
    """Redact with long texts in two parts, their beginning and their end."""
    half = MAX_TEXT_LENGTH // 2
    long = {key for key, value in event.items() if isinstance(value, str) and len(value) > MAX_TEXT_LENGTH}
    parted = {key: [value[:half], value[-half:]] if key in long else value for key, value in event.items()}
    redacted: EventDict = redact_event(parted, user_key=user_key)
    for key in long & redacted.keys():
        if isinstance(redacted[key], list):
            head, tail = redacted[key]
            redacted[key] = head[:-BORDER] + CUT + tail[BORDER:]
    return redacted


class Stamp:
    """Adds when, how grave and who in front, and the service's fields behind; nothing of a caller's hides them."""

    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields
        self._second = (0, "")
        self._last = f",{orjson.dumps(fields).decode()[1:-1]}{',' * bool(fields)}"

    def _time(self, nanoseconds: int) -> str:
        """A Unix time in UTC, always to the microsecond: lines sort as they are. The text of a second is made once."""
        second, nanoseconds = divmod(nanoseconds, 1_000_000_000)
        known, text = self._second
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second, text
        return f"{text}.{nanoseconds // 1000:06}Z"

    def trusted(self, entry: tuple[int, str, str, Callable[[Any], str], Any]) -> bytes:
        """The line of an event at INFO whose other fields hide nothing and hold nothing private.

        `entry` is the time in nanoseconds, the logger, the event, and a function with what it makes those fields of.
        """
        nanoseconds, name, event, members, of = entry
        line = (
            f'{{"timestamp":"{self._time(nanoseconds)}","level":"info","event":"{event}","logger":"{name}",'
            f'{members(of)}{self._last}"worker":{os.getpid()}}}\n'
        ).encode()
        return line if len(line) <= LIMIT else encode(orjson.loads(line))

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        stamp = {
            "timestamp": self._time(time.time_ns()),
            "level": method,
            "event": event.pop("event", ""),
            "logger": logger.name,
        }
        stamped: EventDict = {**stamp, **event, **stamp, **self._fields}
        if self._fields:
            stamped["worker"] = os.getpid()
        return stamped


def _trace_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The ids of the current span, also of one that is not sampled: they lead from the log to the trace and back."""
    if "trace_id" in event:
        return event  # of a request that is over
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
        event["span_id"] = format(context.span_id, "016x")
    return event
