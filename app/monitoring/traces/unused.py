"""OpenTelemetry's variables that have no effect here, although others set them for every service.

An operator, a chart or a base image sets them; the service starts, and says once what it does not do.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from .limits import LENGTH, SPAN_LENGTH

# Values that ask for nothing, or for what the package does anyway.
_SATISFIED: Final = {
    "OTEL_METRICS_EXPORTER": {"none", "prometheus"},
    "OTEL_LOGS_EXPORTER": {"none", "console"},
    "OTEL_PYTHON_ID_GENERATOR": {"random"},
}
_OTHER_SIGNALS: Final = re.compile(
    "OTEL_(METRICS|LOGS)_EXPORTER|OTEL_EXPORTER_OTLP_(METRICS|LOGS)_.+|OTEL_METRICS?_EXPORT_.+|OTEL_BLRP_.+"
    "|OTEL_LOGRECORD_.+|OTEL_METRICS_EXEMPLAR_FILTER|OTEL_EXPORTER_PROMETHEUS_.+"
)
_UNREAD: Final = re.compile(
    "OTEL_(EXPERIMENTAL_)?CONFIG_FILE|OTEL_PYTHON_ID_GENERATOR|OTEL_PYTHON_(TRACER|METER|LOGGER)_CONFIGURATOR"
    "|OTEL_EXPORTER_(ZIPKIN|JAEGER)_.+"
)
# Addresses and headers carry passwords and keys.
_SECRET: Final = re.compile(".*_(HEADERS|ENDPOINT|USER|PASSWORD)")


def unused_variables(environ: Mapping[str, str], max_length: int) -> Iterator[tuple[str, str, str]]:
    """Yield what is set, what follows, and what to do instead; values are cut at `max_length` characters anyway."""
    given = {name: environ[name].strip() for name in sorted(environ) if name.startswith("OTEL_")}
    given = {name: value for name, value in given.items() if value and value.lower() not in _SATISFIED.get(name, ())}
    if others := [_shown(name, value) for name, value in given.items() if _OTHER_SIGNALS.fullmatch(name)]:
        yield (
            ", ".join(others),
            "metrics and logs do not leave by OTLP: Prometheus scrapes the exporter, and lines go to standard output",
            "OTEL_METRICS_EXPORTER=none and OTEL_LOGS_EXPORTER=none, without the variables of these signals",
        )
    if unread := [_shown(name, value) for name, value in given.items() if _UNREAD.fullmatch(name)]:
        yield ", ".join(unread), "the package does not read it", "the variables of docs/opentelemetry.md"
    for name in (LENGTH, SPAN_LENGTH):
        value = given.get(name, "")
        if value.lower() == "unset" or (value.isdecimal() and int(value[:20]) > max_length):
            yield (
                _shown(name, value),
                f"longer values are cut at about {max_length} characters all the same, to bound the cost of redaction",
                f"{name}={max_length} or less",
            )


def _shown(name: str, value: str) -> str:
    return name if _SECRET.fullmatch(name) else f"{name}={value!r}"
