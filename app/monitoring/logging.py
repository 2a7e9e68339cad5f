"""Logging set-up: structlog with JSON lines through orjson in production, a console renderer in development.

Records of the standard library (uvicorn, gunicorn, libraries) go through the same chain of processors, so all lines
have the same fields. docs/decisions/0008-logging.md describes how lines reach standard output.
"""

import contextlib
import io
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Literal, TextIO

import orjson
import structlog
from structlog.types import EventDict, Processor

from . import standard_streams
from .companion import no_fork
from .logs import chain as log_chain
from .logs.bound import wrapper_class
from .logs.console import Console
from .logs.deduplication import not_logged_yet
from .logs.hooks import install_hooks
from .logs.interpolation import message_of
from .logs.levels import Levels, parse_levels
from .logs.line import encode
from .logs.loguru_sink import LoguruSink, add_sinks_of_sentry
from .logs.named import NamedLogger, Write, addressed, run
from .logs.writer import Writer
from .redaction import RedactionPack
from .redaction import configure as configure_redaction

__all__ = ["Levels", "LoguruSink", "adopt_loguru", "configure", "get_logger", "parse_levels"]

Enqueue = Callable[[Callable[[Any], bytes], Any], object]

SERVERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn.error", "gunicorn.access")
# Their records at INFO repeat metrics and spans. LOG_LEVEL can name them.
CHATTY = ("httpx", "httpcore")
_RECORD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class _Handler(logging.Handler):
    """A handler that sends the standard library's records through the chain."""

    def __init__(self, write: Write, chain: Sequence[Processor], levels: Levels) -> None:
        super().__init__()
        self._write = write
        self._chain = chain
        self.levels = levels
        self.addFilter(not_logged_yet)

    def createLock(self) -> None:  # noqa: N802 -- the name is the base class's
        """Use no lock: none is needed, and a thread killed at interpreter exit would leave it locked."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Write `record` unless a filter rejects it."""
        accepted = bool(self.filter(record))
        if accepted:
            self.emit(record)
        return accepted

    def emit(self, record: logging.LogRecord) -> None:
        """Write `record`."""
        logger = NamedLogger(self._write, self._chain, record.name)
        self._write(run(self._chain, logger, record.levelname.lower(), _event(record)))


def _event(record: logging.LogRecord) -> EventDict:
    found = message_of(record)
    event = {key: value for key, value in vars(record).items() if key not in _RECORD_FIELDS}
    event = {**found, **event, "event": found["event"]}
    if record.exc_info:
        event["exc_info"] = record.exc_info
    elif record.exc_text:
        event["exception"] = record.exc_text
    if record.stack_info:
        event["stack"] = record.stack_info
    return event


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger whose lines have `name` in the `logger` field. It is configured at its first call."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


@dataclass(frozen=True)
class _FastPath:
    """The path of trusted lines, which bypass the chain."""

    chain: Sequence[Any]
    stamp: log_chain.Stamp
    enqueue: Enqueue
    levels: Levels
    _enabled: dict[str, bool] = field(default_factory=dict)

    def is_enabled(self, name: str) -> bool:
        """Return True if the logger `name` is enabled for INFO."""
        known = self._enabled.get(name)
        if known is None:
            known = self._enabled[name] = int(logging.getLevelName(self.levels.of(name))) <= logging.INFO
        return known

    def is_current(self) -> bool:
        """Return True if structlog still uses this chain; tests that capture events replace it."""
        return bool(self.chain) and self.chain[-1] is _render_json


@dataclass
class _State:
    """The current configuration."""

    fast_path: _FastPath | None = None
    chain: Sequence[Processor] = ()


_state = _State()


class TrustedLogger:
    """A logger that bypasses redaction and the chain, at a tenth of their cost. For the line of each request.

    Only for events whose fields all come from the service: templates, numbers, ids of a validated form.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger = get_logger(name)

    def info(self, event: str, members: Callable[[Any], str], values: Any, *, plain: bool) -> None:
        """Log `event`. `members(values)` returns members of a JSON object, such as `"status":200,"code":null`.

        Pass `plain=False` if other fields are bound to the context: they need redaction, so the line takes the chain.
        """
        fast_path = _state.fast_path
        if fast_path is None or not plain or not fast_path.is_current():
            self._logger.info(event, **orjson.loads(f"{{{members(values)}}}"))
        elif fast_path.is_enabled(self._name):
            fast_path.enqueue(fast_path.stamp.render_trusted, (time.time_ns(), self._name, event, members, values))


def configure(
    *,
    renderer: Literal["json", "console"],
    level: str,
    service: str,
    version: str,
    environment: str,
    stream: TextIO | None = None,
    user_key: bytes | None = None,
    redaction_packs: Iterable[RedactionPack | str | Mapping[str, Any]] | None = None,
    redacted_keys: Sequence[str] = (),
) -> None:
    """Set up logging of this process, replacing an earlier set-up.

    Lines go to `stream`, by default standard output. `level` has the form of `parse_levels`. With `user_key`, a secret
    of 16 bytes or more, user ids become pseudonyms; without it they are redacted. Uncaught exceptions are logged too.

    With `redaction_packs`, those packs and `redacted_keys` replace the rules of redaction for all signals of the
    process; without it the rules stay as they are, at first all shipped packs. Raise PackError if a pack is unknown.
    """
    if redaction_packs is not None:
        configure_redaction(redaction_packs, redacted_keys)
    standard_streams.open_closed()
    output = stream or sys.stdout
    levels = parse_levels(level)
    json = renderer == "json"
    fields = {"service": service, "version": version, "environment": environment} if json else {}
    render: Processor = _render_json if json else partial(_render_text, Console(colors=output.isatty()))
    chain = [*log_chain.processors(fields, user_key), render]
    write, enqueue = _writers(output, [log_chain.Stamp(fields), render])

    structlog.configure(
        processors=chain,
        wrapper_class=wrapper_class(levels, chain),
        logger_factory=partial(NamedLogger, write, chain),
        cache_logger_on_first_use=stream is None,
    )
    _state.fast_path = _FastPath(chain, log_chain.Stamp(fields), enqueue, levels) if json else None
    _state.chain = tuple(chain)
    _configure_standard_library(_Handler(write, chain, levels))
    install_hooks()


def _configure_standard_library(handler: _Handler) -> None:
    root = logging.getLogger()
    for name in _current_levels().by_name:
        logging.getLogger(name).setLevel(logging.NOTSET)
    root.handlers[:] = [handler]
    levels = handler.levels
    root.setLevel(levels.default)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(levels.default)))
    for name, level in levels.by_name.items():
        logging.getLogger(name).setLevel(level)
    adopt_server_loggers()
    logging.captureWarnings(capture=True)


def is_configured() -> bool:
    """Return True if `configure` was called in this process."""
    return bool(_state.chain)


def is_handler(handler: logging.Handler) -> bool:
    """Return True if `handler` is one of ours, whose lines are redacted."""
    return isinstance(handler, _Handler)


def replaced_in_structlog() -> list[str]:
    """Return the arguments of `structlog.configure` that were replaced since `configure`.

    Processors may be added in front: the chain, from redaction to the renderer, has to come last.
    """
    current = structlog.get_config()
    last = current["processors"][-len(_state.chain) :]
    replaced = []
    if len(last) != len(_state.chain) or any(one is not ours for one, ours in zip(last, _state.chain, strict=True)):
        replaced.append("processors")
    if getattr(current["logger_factory"], "func", None) is not NamedLogger:
        replaced.append("logger_factory")
    return replaced


def _current_levels() -> Levels:
    handlers = logging.getLogger().handlers
    return next((handler.levels for handler in handlers if isinstance(handler, _Handler)), Levels())


def _render_json(logger: Any, _method: str, event: EventDict) -> bytes | str:
    return addressed(encode(event), logger)


def _render_text(console: Console, logger: Any, method: str, event: EventDict) -> bytes | str:
    return addressed(console(logger, method, event), logger)


def _writers(stream: TextIO, announcement: Sequence[Processor]) -> tuple[Write, Enqueue]:
    """Return the functions that write and enqueue a line. They write to the descriptor of `stream` if it has one."""
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        write = partial(_write_text, stream)
        return write, lambda render, values: write(render(values))
    stream.flush()
    file = os.fstat(descriptor)
    writer = _writer(descriptor, file.st_dev, file.st_ino)

    def announce(lines: int) -> bytes:
        event = {"event": "log_lines_dropped", "lines": lines}
        line: bytes = run(announcement, NamedLogger(writer.write, name="logging"), "warning", event)
        return line

    writer.announce = announce
    return writer.write, writer.enqueue


@cache
def _writer(descriptor: int, _device: int, _inode: int) -> Writer:
    """Return the writer of an open file. One for each, so that lines stay in order across set-ups."""
    return Writer(descriptor, report=count_dropped)


def _write_text(stream: TextIO, line: bytes) -> None:
    stream.write(line.decode())
    stream.flush()


def count_dropped(reason: str, lines: int) -> None:
    """Count `lines` in the catalogue, if this process has one."""
    # Imported late: prometheus-client selects at its import the storage of its values.
    from .metrics.catalogue import catalogue  # noqa: PLC0415

    # Called by the writer's thread: creating the catalogue here could race with the main thread.
    if catalogue.cache_info().currsize:
        with contextlib.suppress(Exception), no_fork():  # on a full disk only the announcement reports it
            catalogue().log_lines_dropped.labels(reason).inc(lines)


def adopt_server_loggers() -> None:
    """Replace the handlers of the servers' loggers by propagation to the root's handler."""
    levels = _current_levels().by_name
    for name in SERVERS:
        logger = logging.getLogger(name)
        logger.handlers = []
        logger.propagate = True
        logger.setLevel(levels.get(name, logging.NOTSET))
    # uvicorn's access line would duplicate ours, without route and duration. Without a handler uvicorn does not even
    # build it.
    access = logging.getLogger("uvicorn.access")
    access.disabled, access.propagate = True, False


def adopt_loguru() -> None:
    """Replace loguru's sinks by one that forwards its records. Call it after `configure`. Requires loguru.

    The sinks of Sentry's integration stay. Add others of your own afterwards.
    `loguru.logger.add(LoguruSink(), format=lambda _: "", catch=False)` adds the sink and keeps the others.
    """
    from loguru import logger  # noqa: PLC0415 -- optional

    logger.remove()
    add_sinks_of_sentry()
    # An empty format: the sink reads the record. With catch=True loguru would print records, unredacted.
    logger.add(LoguruSink(), level=0, format=lambda _record: "", diagnose=False, catch=False)
