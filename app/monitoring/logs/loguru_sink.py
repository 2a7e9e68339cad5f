"""A sink that forwards loguru's records to structlog's chain: redaction, JSON, levels by name.

loguru is optional: only `logging.adopt_loguru` imports it.
"""

import sys
from typing import Any, Final

import structlog

# Parameters of structlog's methods. A field of such a name gets a trailing underscore.
_RESERVED: Final = frozenset({"self", "event", "exc_info", "stack_info"})
_STANDARD_LEVELS: Final = frozenset({"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"})


class LoguruSink:
    """A callable for `loguru.logger.add` that keeps level, logger name, extra fields and exception of a record.

    A non-standard level is mapped to the standard level below it; the field `level_name` has its name.
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


def add_sinks_of_sentry() -> None:
    """Have Sentry's integration add its sinks again, where this process uses it. Nothing is imported for that."""
    integration = sys.modules.get("sentry_sdk.integrations.loguru")
    sentry = sys.modules.get("sentry_sdk")
    if integration is None or sentry is None:
        return
    if sentry.get_client().get_integration(integration.LoguruIntegration) is not None:
        integration.LoguruIntegration.setup_once()


def _method(number: int) -> str:
    for limit, name in ((50, "critical"), (40, "error"), (30, "warning"), (20, "info")):
        if number >= limit:
            return name
    return "debug"
