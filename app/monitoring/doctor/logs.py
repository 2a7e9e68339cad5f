"""Checks of logging: what the application has set up itself, so that its lines are not redacted.

They are warnings: private data in logs makes no number wrong. Without `logging.configure` there is nothing to replace.
"""

import io
import logging
import os
import sys
from collections.abc import Iterator
from logging import handlers
from typing import Any

from .. import logging as ours
from ..logs.loguru_sink import LoguruSink
from .declared import PACKAGE, module_globals
from .finding import Finding, listed

# Handlers that write a record somewhere by themselves. Others pass it on, as those of Sentry and OpenTelemetry do.
WRITING = (
    logging.StreamHandler,
    handlers.SocketHandler,
    handlers.SysLogHandler,
    handlers.HTTPHandler,
    handlers.SMTPHandler,
    handlers.QueueHandler,
    handlers.MemoryHandler,
)
# Loggers of libraries with a handler that cannot be left out: Sentry's writes in its debug mode only, the other one is
# the process manager's.
SPARED = frozenset({"sentry_sdk.errors", "fastapi_cli"})
LEAVE_IT = f"leave it to {PACKAGE}"


def replaced_handlers() -> Iterator[Finding]:
    """Find a root logger without our handler, loggers with handlers of their own, and disabled loggers of servers."""
    if not ours.is_configured():
        return
    root = logging.getLogger()
    if not any(map(ours.is_handler, root.handlers)):
        names = listed(type(handler).__name__ for handler in root.handlers) or "none"
        yield Finding(
            "root-handler",
            "warning",
            f"the handlers of the root logger were replaced by {names}",
            "lines of the standard library, of the server too, are not redacted or are lost",
            f"{LEAVE_IT}: remove basicConfig(force=True), and root and handlers in dictConfig; LOG_LEVEL sets levels",
        )
    loggers = {"root": root, **{name: one for name, one in _loggers() if name not in SPARED}}
    writing = [
        f"{name} ({type(handler).__name__})"
        for name, logger in loggers.items()
        for handler in logger.handlers
        if _writes(handler)
    ]
    if writing:
        yield Finding(
            "logger-handler",
            "warning",
            f"loggers with handlers that write by themselves: {listed(writing)}",
            "their lines are not redacted there, and may be written twice",
            f"{LEAVE_IT}: remove these handlers and propagate=False",
        )
    disabled = [name for name in ours.SERVERS if name != "uvicorn.access" and logging.getLogger(name).disabled]
    if disabled:
        yield Finding(
            "disabled-logger",
            "warning",
            f"disabled loggers: {listed(disabled)}",
            "the lines of the server, its errors too, are lost",
            "'disable_existing_loggers': False in dictConfig, whose default is True",
        )


def replaced_structlog() -> Iterator[Finding]:
    """Find a configuration of structlog that does not end in our chain, or makes other loggers."""
    replaced = ours.replaced_in_structlog() if ours.is_configured() else []
    if replaced:
        yield Finding(
            "structlog-configuration",
            "warning",
            f"structlog.configure() has replaced {' and '.join(replaced)}",
            "lines of structlog may not be redacted, or have other fields",
            f"{LEAVE_IT}; processors of your own go in front: "
            "structlog.configure(processors=[own, *structlog.get_config()['processors']])",
        )


def loguru_sinks() -> Iterator[Finding]:
    """Find sinks of loguru that write by themselves, such as its first one, which writes to standard error."""
    loguru = sys.modules.get("loguru")
    if loguru is None or not ours.is_configured() or not _uses(loguru):
        return
    # No public accessor of sinks exists.
    sinks = [(handler, handler._sink) for handler in loguru.logger._core.handlers.values()]  # noqa: SLF001
    names = [str(handler._name) for handler, sink in sinks if _is_output(sink)]  # noqa: SLF001
    if names:
        yield Finding(
            "loguru-sinks",
            "warning",
            f"loguru writes to {listed(names)}",
            "its lines are not redacted",
            f"call {PACKAGE}.logging.adopt_loguru() where the application is made",
        )


def _uses(loguru: Any) -> bool:
    """Return whether a module has a logger of loguru. Sentry imports loguru wherever it is installed."""
    kind = type(loguru.logger)
    return any(
        value is loguru or type(value) is kind
        for module, _, value in module_globals()
        if module.partition(".")[0] not in {"loguru", "sentry_sdk"}
    )


def _loggers() -> Iterator[tuple[str, logging.Logger]]:
    for name, logger in list(logging.getLogger().manager.loggerDict.items()):
        if isinstance(logger, logging.Logger):  # else a place for children that exist
            yield name, logger


def _writes(handler: logging.Handler) -> bool:
    if ours.is_handler(handler):
        return False
    stream = getattr(handler, "stream", None)
    if isinstance(stream, io.StringIO) or getattr(stream, "name", None) == os.devnull:  # as in tests
        return False
    # Rich's handler has no base of the standard library's but Handler.
    of_rich = any(kind.__module__.startswith("rich.") for kind in type(handler).__mro__)
    return isinstance(handler, WRITING) or of_rich


def _is_output(sink: Any) -> bool:
    """Return whether a sink of loguru writes to a stream or a file. Functions may do anything, but few print."""
    kind = type(sink).__name__
    if kind == "StandardSink":
        return _writes(sink._handler)  # noqa: SLF001
    if kind in {"CallableSink", "AsyncSink"}:
        function = sink._function  # noqa: SLF001
        if isinstance(function, LoguruSink):
            return False
        return function is print or isinstance(getattr(function, "__self__", None), io.IOBase)
    return True
