"""A sink that passes loguru's records on to structlog, so they go through the chain: redaction, JSON, levels by name.

Without a reference to loguru itself: only `app.monitoring.logging.adopt_loguru` imports it.
"""

from typing import Any, Final

import structlog

# Fields that mean something to structlog's methods. A caller's field of such a name gets an underscore behind it.
_RESERVED: Final = frozenset({"self", "event", "exc_info", "stack_info"})
_STANDARD_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


class LoguruSink:
    """A callable for `loguru.logger.add`. Keeps level, logger name, extra fields and exception of a record.

    Levels of loguru's own count as the standard level below them; the line has their name in `level_name`.
    """

    def __call__(self, message: Any) -> None:
        try:
            self._log(message.record)
        except Exception as error:  # noqa: BLE001 -- loguru would print the record, which is not redacted
            structlog.get_logger("loguru").error("loguru_record_not_readable", error=type(error).__name__)

    @staticmethod
    def _log(record: dict[str, Any]) -> None:
        fields = {f"{key}_" if key in _RESERVED else key: value for key, value in record["extra"].items()}
        level = record["level"]
        if level.name not in _STANDARD_LEVELS:
            fields["level_name"] = level.name
        logger = structlog.get_logger(record["name"] or "loguru").bind(**fields)
        exception = record["exception"]
        exc_info = {} if exception is None or exception.type is None else {"exc_info": tuple(exception)}
        getattr(logger, _method(level.no))(record["message"], **exc_info)


def _method(number: int) -> str:
    for limit, name in ((50, "critical"), (40, "error"), (30, "warning"), (20, "info")):
        if number >= limit:
            return name
    return "debug"
