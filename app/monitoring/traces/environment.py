"""OpenTelemetry's environment variables for traces: read, checked, or refused with one line.

Imports nothing of OpenTelemetry, so `check_environment` can run before `opentelemetry.propagate`, which raises at its
import if OTEL_PROPAGATORS names an unknown propagator. docs/opentelemetry.md lists every variable.
"""

import importlib.util
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .limits import Limits, check_first_read
from .transport import Protocol, check_transport
from .variables import (
    TracingConfigurationError,
    check_installed,
    drop_empty,
    of_otlp,
    value_of,
    whole_number,
)

if TYPE_CHECKING:
    from ..options import Options

__all__ = ["Sampling", "TracingConfigurationError", "check_environment", "check_options", "sampling"]

GRPC_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
HTTP_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
HTTP_DISTRIBUTION: Final = "opentelemetry-exporter-otlp-proto-http"
INSTRUMENTATION: Final = "opentelemetry-instrumentation-fastapi"
SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
# The distributions of OpenTelemetry's other propagators.
PROPAGATORS: Final = {
    "b3": "opentelemetry-propagator-b3",
    "b3multi": "opentelemetry-propagator-b3",
    "jaeger": "opentelemetry-propagator-jaeger",
    "ottrace": "opentelemetry-propagator-ot-trace",
    "xray": "opentelemetry-propagator-aws-xray",
}
MAX_MILLISECONDS: Final = 3_600_000
_CAPTURE: Final = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_"
# Regular expressions that instrumentations compile when they are made.
_EXPRESSIONS: Final = (
    "OTEL_PYTHON_EXCLUDED_URLS",
    "OTEL_PYTHON_HTTPX_EXCLUDED_URLS",
    *(f"{_CAPTURE}{side}_{part}" for side in ("SERVER", "CLIENT") for part in ("REQUEST", "RESPONSE")),
    f"{_CAPTURE}SANITIZE_FIELDS",
)
# Read by OpenTelemetry's API at its first use. This package installs the tracer provider itself.
_TRACER_PROVIDER: Final = "OTEL_PYTHON_TRACER_PROVIDER"


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampler that OTEL_TRACES_SAMPLER names."""

    ratio: float
    """Share of the traces that are sampled, 0 to 1."""
    parent_based: bool = True
    """Take over the decision of a caller that sends one."""
    keep_failures: bool = True
    """Keep unsampled requests that fail or are slow."""


def sampling(default_ratio: float) -> Sampling:
    """Return the sampler of OTEL_TRACES_SAMPLER; without it a parent-based one with `default_ratio`.

    OTEL_TRACES_SAMPLER_ARG counts for the two `traceidratio` samplers, as OpenTelemetry defines it.
    """
    name = value_of("OTEL_TRACES_SAMPLER").lower()
    if not name:
        return Sampling(default_ratio)
    if name not in SAMPLERS:
        raise TracingConfigurationError("OTEL_TRACES_SAMPLER", name, f"want one of {', '.join(SAMPLERS)}")
    if name.endswith("always_on"):
        ratio = 1.0
    elif name.endswith("always_off"):
        ratio = 0.0
    else:
        ratio = _ratio()
    return Sampling(ratio, parent_based=name.startswith("parentbased_"), keep_failures=name != "always_off")


def otlp_protocol() -> Protocol:
    """Return the protocol of OTEL_EXPORTER_OTLP_TRACES_PROTOCOL or OTEL_EXPORTER_OTLP_PROTOCOL, default grpc."""
    name, value = of_otlp("PROTOCOL")
    if value in {"", "grpc"}:
        return "grpc"
    if value != "http/protobuf":
        raise TracingConfigurationError(name, value, "want grpc or http/protobuf")
    if not _is_installed(HTTP_EXPORTER):
        raise TracingConfigurationError(name, value, f"install {HTTP_DISTRIBUTION}, or use grpc")
    return "http/protobuf"


def schedule_delay() -> int | None:
    """Return the milliseconds between exports, OTEL_BSP_SCHEDULE_DELAY; None if it is unset."""
    return whole_number("OTEL_BSP_SCHEDULE_DELAY", 1, MAX_MILLISECONDS, "milliseconds")


def batch_timeout(seconds: float) -> float:
    """Return the seconds for the export of a batch: `seconds`, and at most OTEL_BSP_EXPORT_TIMEOUT."""
    milliseconds = whole_number("OTEL_BSP_EXPORT_TIMEOUT", 1, MAX_MILLISECONDS, "milliseconds")
    return seconds if milliseconds is None else min(seconds, milliseconds / 1000)


def general_exclusions() -> str:
    """Return the expressions of OTEL_PYTHON_EXCLUDED_URLS if the variable for FastAPI is unset."""
    return "" if value_of("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS") else value_of("OTEL_PYTHON_EXCLUDED_URLS")


def check_options(options: "Options") -> None:
    """Raise TracingConfigurationError if a variable cannot be honoured that the spans of `options` need."""
    if not options.traced:
        return
    if options.tracing == "instrumentation":
        _check_instrumentation()
    if options.exporter != "none":
        check_environment(otlp=options.exporter == "otlp")
    else:
        _check_provider()


def _check_instrumentation() -> None:
    if not _is_installed(INSTRUMENTATION.replace("-", ".")):
        raise TracingConfigurationError("tracing", "instrumentation", f"install {INSTRUMENTATION}")
    name = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    disabled = value_of(name)
    if not {part.strip() for part in disabled.split(",")}.isdisjoint({"fastapi", "*"}):
        raise TracingConfigurationError(name, disabled, "want a list without fastapi, or tracing='layer'")


def check_environment(*, otlp: bool = True) -> None:
    """Raise TracingConfigurationError if a variable cannot be honoured; without `otlp`, skip those of its exporter.

    Call it in the master before the first fork, so that a wrong value stops the start and not each worker.
    """
    _check_provider()
    _check_resource()
    _check_expressions()
    schedule_delay()
    batch_timeout(1.0)
    if otlp:
        check_transport(otlp_protocol())


def _check_provider() -> None:
    """Check what the provider needs, whether its spans are exported or not."""
    drop_empty()
    sampling(1.0)
    check_imports()
    Limits.read()


def exit_for_failing_import() -> None:
    """Exit with one line if OpenTelemetry's modules would raise at their import, whether there are spans or not.

    Call it before anything imports them. Once they are imported, what they have read is known to be good.
    """
    drop_empty()
    if "opentelemetry.propagate" in sys.modules:
        return
    try:
        check_imports()
    except TracingConfigurationError as error:
        sys.exit(str(error))


def check_imports() -> None:
    """Raise TracingConfigurationError if a variable cannot be honoured that OpenTelemetry reads at an import."""
    check_propagators()
    check_first_read()
    for name, group in (
        ("OTEL_PYTHON_CONTEXT", "opentelemetry_context"),
        ("OTEL_PYTHON_METER_PROVIDER", "opentelemetry_meter_provider"),
    ):
        if value := value_of(name):
            check_installed(name, group, [value])
    if value := value_of(_TRACER_PROVIDER):
        raise TracingConfigurationError(_TRACER_PROVIDER, value, "want it unset: each worker has a provider of its own")


def check_propagators() -> None:
    """Raise TracingConfigurationError if OTEL_PROPAGATORS names one that is not installed."""
    parts = [part.strip() for part in value_of("OTEL_PROPAGATORS").split(",")]
    names = [part.lower() for part in parts]
    if "none" in names:
        parts = parts[: names.index("none")]  # OpenTelemetry reads no further
    check_installed("OTEL_PROPAGATORS", "opentelemetry_propagator", parts if any(names) else (), PROPAGATORS)


def _check_resource() -> None:
    """OpenTelemetry logs a wrong pair in each worker, and a wrong detector with a traceback."""
    name = "OTEL_RESOURCE_ATTRIBUTES"
    value = value_of(name)
    for pair in value.split(",") if value else ():
        key, equals, percent = pair.partition("=")
        wrong = re.search("%(?![0-9a-fA-F]{2})", percent)
        if pair.strip() and (not key.strip() or not equals or wrong):
            raise TracingConfigurationError(
                name, value, f"{pair.strip()!r}: want key=value pairs, percent-encoded, separated by commas"
            )
    name = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"
    detectors = {part.strip() for part in value_of(name).split(",")} - {"", "*"}
    check_installed(name, "opentelemetry_resource_detector", sorted(detectors))


def _check_expressions() -> None:
    for name in _EXPRESSIONS:
        value = value_of(name)
        for expression in value.split(",") if value else ():
            try:
                re.compile(expression.strip())
            except re.error as error:
                wanted = f"{expression.strip()!r}: {error}: want regular expressions separated by commas"
                raise TracingConfigurationError(name, value, wanted) from error
            if not expression.strip():
                wanted = "an empty expression matches everything: want regular expressions separated by commas"
                raise TracingConfigurationError(name, value, wanted)


def _ratio() -> float:
    value = value_of("OTEL_TRACES_SAMPLER_ARG")
    try:
        ratio = float(value or 1.0)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise TracingConfigurationError("OTEL_TRACES_SAMPLER_ARG", value, "want a share of 0 to 1")
    return ratio


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
