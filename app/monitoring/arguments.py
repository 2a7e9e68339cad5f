"""The options of one service as the arguments of the signals' `configure`."""

from typing import Any

from .options import Options
from .redaction.configuration import portable

ENVIRONMENT_OF_DEVELOPERS = "development"


def logging_arguments(options: Options) -> dict[str, Any]:
    """Return the arguments of `logging.configure`, as JSON can hold them."""
    automatic = "console" if options.environment == ENVIRONMENT_OF_DEVELOPERS else "json"
    return {
        "renderer": options.log_format or automatic,
        "level": options.log_level,
        "service": options.service,
        "version": options.version,
        "environment": options.environment,
        **redaction_arguments(options),
    }


def redaction_arguments(options: Options) -> dict[str, Any]:
    """Return the arguments of `logging.configure` for redaction, as JSON can hold them."""
    return {"redaction_packs": portable(options.redaction_packs), "redacted_keys": list(options.redacted_keys)}


def tracing_arguments(options: Options) -> dict[str, Any]:
    """Return the arguments of `tracing.configure`."""
    return {
        "exporter": options.exporter,
        "endpoint": options.otlp_endpoint,
        "ratio": options.sample_ratio,
        "service": options.service,
        "version": options.version,
        "environment": options.environment,
        # Services that name none would all be of one namespace.
        "namespace": None if options.namespace == Options.namespace else options.namespace,
        "timeout": options.otlp_timeout,
        "queue": options.span_queue,
        "batch": options.span_batch,
        "max_forced_samples": options.max_forced_samples,
        "trusted_upstreams": options.trusted_upstreams,
    }
