"""structlog for everything: JSON lines through orjson in production, a readable console in development.

The standard library's records (uvicorn, gunicorn, libraries) go through the same chain of processors, so every line
has the same fields whoever wrote it.
"""

import functools
import json
import logging
import os
import sys
from typing import Any, Literal, TextIO

import orjson
import structlog
from gunicorn.glogging import Logger as GunicornBaseLogger
from opentelemetry import trace
from structlog.types import EventDict, Processor, WrappedLogger

from app.monitoring.redaction import redact_event

Renderer = Literal["json", "console"]
# What ProcessorFormatter keeps in an event, and takes out before the line is written.
_PROCESSOR_FORMATTER = frozenset({"_record", "_from_structlog"})


def _trace_context(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The ids of the current span, also of one that is not sampled: they lead from the log to the trace and back."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = format(context.trace_id, "032x")
        event["span_id"] = format(context.span_id, "016x")
    return event


def _service_fields(fields: dict[str, str]) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.update(fields)
        event["worker"] = os.getpid()
        return event

    return add


def _redaction(renderer: Renderer) -> Processor:
    def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        # A console escapes nothing: there no text may begin a line of its own.
        return redact_event(event, one_line=renderer == "console", untouched=_PROCESSOR_FORMATTER)

    return redact


def _name_logger(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A record of the standard library carries its logger's name; ours know it themselves."""
    record = event.get("_record")
    event["logger"] = record.name if record is not None else logger.name
    return event


def _drop_color_message(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """uvicorn repeats its message with terminal colours in an extra field."""
    event.pop("color_message", None)
    return event


def _shared_processors(fields: dict[str, str], renderer: Renderer) -> list[Processor]:
    chain: list[Processor] = [
        structlog.contextvars.merge_contextvars,  # what the request bound: request_id first of all
        structlog.processors.add_log_level,
        _name_logger,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _trace_context,
        _drop_color_message,
    ]
    if renderer == "json":
        chain.append(_service_fields(fields))
    # A traceback becomes text before redaction, so that what an exception quotes is redacted too.
    return [*chain, structlog.processors.format_exc_info, _redaction(renderer)]


def _to_json(event: EventDict, **_options: Any) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError):  # a lone surrogate, a number over 64 bits, a key or object of another kind
        return json.dumps(_plain(event))


def _plain(value: Any) -> Any:
    """`value` in what JSON has; an object that cannot even say what it is becomes its type's name."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str | int | None):
        return value
    try:
        return str(value)
    except Exception:  # noqa: BLE001 -- a line is worth more than what one object of it says
        return type(value).__name__


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger that writes `name` into every line's `logger` field. It is set up when it first writes."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


class _NamedLogger(structlog.WriteLogger):
    """Writes to `file`, and knows its name."""

    def __init__(self, file: TextIO, name: str = "app") -> None:
        super().__init__(file)
        self.name = name


def configure(
    *,
    renderer: Renderer,
    level: str,
    service: str,
    version: str,
    environment: str,
    stream: TextIO | None = None,
) -> None:
    """Set up logging of this process; calling it again replaces the set-up.

    Lines go to `stream`, standard output by default. `level` is a name of the logging module's.
    """
    output = stream or sys.stdout
    fields = {"service": service, "version": version, "environment": environment}
    shared = _shared_processors(fields, renderer)
    final: Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if renderer == "json"
        else structlog.dev.ConsoleRenderer(colors=output.isatty(), exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[*shared, final],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=functools.partial(_NamedLogger, output),
        cache_logger_on_first_use=stream is None,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.PositionalArgumentsFormatter(),
                structlog.stdlib.ExtraAdder(),
                *shared,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    adopt_server_loggers()
    # One line a request is ours, with the route and the duration; uvicorn's would be a second one without them.
    logging.getLogger("uvicorn.access").disabled = True
    # Their records at INFO repeat what metrics and spans say.
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def adopt_server_loggers() -> None:
    """Have the servers' loggers pass their records on to the root's handler in place of their own."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
        logger.setLevel(logging.NOTSET)


class GunicornLogger(GunicornBaseLogger):  # type: ignore[misc]
    """gunicorn's logger on our handler. The configuration file has called `configure` before gunicorn makes it."""

    def setup(self, _cfg: Any) -> None:
        """Leave gunicorn's own handlers out."""
        self.loglevel = logging.getLogger().getEffectiveLevel()
        adopt_server_loggers()
