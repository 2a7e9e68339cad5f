"""OpenTelemetry's environment variables for traces: read, checked, or refused with one line.

Imports nothing of OpenTelemetry, so `check_environment` can run before `opentelemetry.propagate`, which raises at its
import if OTEL_PROPAGATORS names an unknown propagator.
"""

import importlib.util
import os
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from ..options import Options

Protocol = Literal["grpc", "http/protobuf"]
GRPC_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.grpc.trace_exporter"
HTTP_EXPORTER: Final = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
HTTP_DISTRIBUTION: Final = "opentelemetry-exporter-otlp-proto-http"
INSTRUMENTATION: Final = "opentelemetry-instrumentation-fastapi"
DEFAULT_EXPORT_TIMEOUT: Final = 5.0
SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)
_FILES: Final = ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")


class TracingConfigurationError(ValueError):
    """An environment variable for traces has a value that cannot be honoured."""

    def __init__(self, name: str, value: str, wanted: str) -> None:
        super().__init__(f"{name}={value!r}: {wanted}")
        self.name, self.value, self.wanted = name, value, wanted


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
    name = _value("OTEL_TRACES_SAMPLER").lower()
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
    name, value = _first("PROTOCOL")
    if value in {"", "grpc"}:
        return "grpc"
    if value != "http/protobuf":
        raise TracingConfigurationError(name, value, "want grpc or http/protobuf")
    if not _is_installed(HTTP_EXPORTER):
        raise TracingConfigurationError(name, value, f"install {HTTP_DISTRIBUTION}, or use grpc")
    return "http/protobuf"


def otlp_endpoint(default: str | None, protocol: Protocol) -> str | None:
    """Return the collector's address: OTEL_EXPORTER_OTLP_TRACES_ENDPOINT as it is, else `default`.

    `default` is the base address of all signals, to which http/protobuf adds the path of traces.
    """
    own = _value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if own or not default or protocol == "grpc":
        return own or default
    return f"{default.rstrip('/')}/v1/traces"


def otlp_timeout(default: float | None) -> float:
    """Return the seconds for one export: OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, `default`, or the generic variable."""
    own = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"
    name, value = (own, _value(own)) if default is not None else _first("TIMEOUT")
    if not value:
        return DEFAULT_EXPORT_TIMEOUT if default is None else default
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 60:  # noqa: PLR2004 -- a longer export outlives every grace period
        raise TracingConfigurationError(name, value, "want seconds, more than 0 and at most 60")
    return seconds


def check_options(options: "Options") -> None:
    """Raise TracingConfigurationError if a variable cannot be honoured that the spans of `options` need."""
    if not options.traced:
        return
    if options.tracing == "instrumentation":
        _check_instrumentation()
    if options.exporter != "none":
        check_environment(otlp=options.exporter == "otlp")


def _check_instrumentation() -> None:
    if not _is_installed(INSTRUMENTATION.replace("-", ".")):
        raise TracingConfigurationError("tracing", "instrumentation", f"install {INSTRUMENTATION}")
    name = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
    disabled = _value(name)
    if not {part.strip() for part in disabled.split(",")}.isdisjoint({"fastapi", "*"}):
        raise TracingConfigurationError(name, disabled, "want a list without fastapi, or tracing='layer'")


def check_environment(*, otlp: bool = True) -> None:
    """Raise TracingConfigurationError if a variable cannot be honoured; without `otlp`, skip those of its exporter.

    Call it in the master before the first fork, so that a wrong value stops the start and not each worker.
    """
    sampling(1.0)
    check_propagators()
    if otlp:
        otlp_protocol()
        otlp_timeout(None)
        otlp_timeout(DEFAULT_EXPORT_TIMEOUT)
        _check_transport()


def exit_for_unknown_propagator() -> None:
    """Exit with one line if `opentelemetry.propagate` would raise at its import, whether there are spans or not.

    Call it before anything imports that module. Once it is imported, its propagators are known to be good.
    """
    if "opentelemetry.propagate" in sys.modules:
        return
    try:
        check_propagators()
    except TracingConfigurationError as error:
        sys.exit(str(error))


def check_propagators() -> None:
    """Raise TracingConfigurationError if OTEL_PROPAGATORS names one that is not installed."""
    installed = {point.name for point in entry_points(group="opentelemetry_propagator")}
    value = _value("OTEL_PROPAGATORS")
    for part in value.split(",") if value else ():
        name = part.strip()
        if name.lower() == "none":
            return  # OpenTelemetry then reads no further
        if name not in installed:
            wanted = f"{name!r} is not installed; want none or any of {', '.join(sorted(installed))}"
            raise TracingConfigurationError("OTEL_PROPAGATORS", value, wanted)


def _check_transport() -> None:
    """The exporter itself would read a wrong flag as false, and a missing file as the system's certificates."""
    for prefix in ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"):
        name = f"{prefix}INSECURE"
        flag = _value(name)
        if flag.lower() not in {"", "true", "false"}:
            raise TracingConfigurationError(name, flag, "want true or false")
        for part in _FILES:
            path = _value(f"{prefix}{part}")
            if path and not os.access(path, os.R_OK):
                raise TracingConfigurationError(f"{prefix}{part}", path, "want the path of a readable PEM file")


def _ratio() -> float:
    value = _value("OTEL_TRACES_SAMPLER_ARG")
    try:
        ratio = float(value or 1.0)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise TracingConfigurationError("OTEL_TRACES_SAMPLER_ARG", value, "want a share of 0 to 1")
    return ratio


def _first(part: str) -> tuple[str, str]:
    """Return name and value of the variable for traces if it is set, else of the one for all signals."""
    own, generic = f"OTEL_EXPORTER_OTLP_TRACES_{part}", f"OTEL_EXPORTER_OTLP_{part}"
    return (own, _value(own)) if _value(own) else (generic, _value(generic))


def _value(name: str) -> str:
    """Return the variable's value; an empty one counts as unset, as OpenTelemetry defines it."""
    return os.environ.get(name, "").strip()


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a parent package is missing
        return False
