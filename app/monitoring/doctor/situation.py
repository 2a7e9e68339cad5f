"""The configuration of the service, as far as the checks need it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from ..multiprocess.values import DIRECTORY
from ..options import Options

# Values of OTEL_TRACES_SAMPLER_ARG and OTEL_TRACES_SAMPLER that ask for no traces.
_NO_TRACES = frozenset({"", "0", "0.0", "always_off", "parentbased_always_off"})


@dataclass(frozen=True)
class Situation:
    """The configuration that the service starts with. `None` stands for a variable that is not set."""

    workers: int = 1
    bind: tuple[str, ...] = ("127.0.0.1:8000",)
    """Addresses as gunicorn takes them: host:port, [host]:port, unix:path."""
    forwarded_allow_ips: str | None = None
    tracing_disabled: bool = False
    traces_exporter: str | None = None
    traces_sampled: bool = False
    """A sampler or a ratio of traces was asked for, or the instrumentation of requests."""
    endpoint: str | None = None
    directory: Path | None = None
    paths: tuple[str, ...] = ("/metrics",)
    """Paths that the package serves on the application's port."""
    graceful_timeout: float | None = None
    """Seconds that the service has to stop; None under a server that does not know GRACEFUL_TIMEOUT."""
    kill_timeout: float | None = None
    """Seconds until the platform kills it."""
    otlp_timeout: float | None = None
    otel_variables: Mapping[str, str] = field(default_factory=dict)
    """OpenTelemetry's variables as they are set."""
    peers_rewritten: bool = False
    """The server evaluates X-Forwarded-* before the package's layer."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the documented variables. An invalid number counts as unset: the settings report it."""
        given = os.environ if environ is None else environ
        workers, directory = given.get("WEB_CONCURRENCY", ""), given.get(DIRECTORY)
        host, port = given.get("HOST") or "127.0.0.1", given.get("PORT") or "8000"
        return cls(
            workers=int(workers) if workers.isdecimal() else 1,
            bind=(f"[{host}]:{port}" if ":" in host else f"{host}:{port}",),
            forwarded_allow_ips=given.get("FORWARDED_ALLOW_IPS") or None,
            tracing_disabled=given.get("TRACING") == "none"
            or given.get("OTEL_SDK_DISABLED", "").strip().lower() in {"true", "1", "yes", "on"},
            traces_exporter=given.get("OTEL_TRACES_EXPORTER") or None,
            traces_sampled=any(
                given.get(name, "").strip().lower() not in _NO_TRACES
                for name in ("OTEL_TRACES_SAMPLER_ARG", "OTEL_TRACES_SAMPLER")
            )
            or given.get("TRACING") == "instrumentation",
            endpoint=given.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            or given.get("OTEL_EXPORTER_OTLP_ENDPOINT")
            or None,
            directory=Path(directory) if directory else None,
            graceful_timeout=_seconds(given.get("GRACEFUL_TIMEOUT")) or Options.graceful_timeout,
            kill_timeout=_seconds(given.get("KILL_TIMEOUT")),
            otlp_timeout=_seconds(given.get("OTEL_EXPORTER_OTLP_TIMEOUT")),
            otel_variables={name: value for name, value in given.items() if name.startswith("OTEL_")},
        )

    @classmethod
    def of_options(cls, options: Options, bind: Sequence[str]) -> Self:
        """Return the situation of a service with these options, that listens on `bind`."""
        environment = cls.from_environment()
        return cls(
            workers=options.workers,
            bind=tuple(bind),
            forwarded_allow_ips=options.forwarded_allow_ips,
            tracing_disabled=not options.traced,
            traces_exporter=options.traces_exporter,
            traces_sampled=environment.traces_sampled
            or options.sample_ratio not in {0.0, Options.sample_ratio}
            or options.tracing == "instrumentation",
            endpoint=options.otlp_endpoint or environment.endpoint,
            directory=options.directory,
            graceful_timeout=options.graceful_timeout,
            kill_timeout=options.kill_timeout,
            otlp_timeout=options.otlp_timeout,
            otel_variables=environment.otel_variables,
        )


def _seconds(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
