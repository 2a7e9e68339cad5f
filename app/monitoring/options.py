"""The options of `Observability`: arguments first, then documented environment variables, then defaults."""

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

if TYPE_CHECKING:
    from opentelemetry.instrumentation.asgi.types import ClientRequestHook, ClientResponseHook, ServerRequestHook

from . import option_checks as checks
from .redaction import RedactionPack
from .redaction.configuration import SHIPPED, checked_keys, checked_packs
from .requests import request_ids

DEFAULT_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = (
    ip_network("127.0.0.1"),
    ip_network("10.0.0.0/8"),
    ip_network("172.16.0.0/12"),
)
EXCLUDED_URLS = "^https?://[^/]+/(health|metrics)(/|[?]|$)"
NONE = "none"
TRACING = ("layer", "instrumentation", "none")
LIBRARIES = ("asyncpg", "httpx", "redis", "sqlalchemy")


class OptionsError(ValueError):
    """An option has a wrong value; the message names it, shows the value and says what is wanted."""


class SpanOptions(TypedDict, total=False):
    """Arguments of `Observability.instrument` for opentelemetry-instrumentation-fastapi; see its documentation."""

    server_request_hook: "ServerRequestHook"
    """Called with a request's span and ASGI scope."""
    client_request_hook: "ClientRequestHook"
    """Called with the span of a received message, the scope and the message."""
    client_response_hook: "ClientResponseHook"
    """Called with the span of a sent message, the scope and the message."""
    request_headers: list[str]
    """Headers to capture; without it, those of OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST."""
    response_headers: list[str]
    """Likewise of the response; without it, those of OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE."""
    sanitize_fields: list[str]
    """Captured headers whose values are replaced; without it, those of
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS."""


class OptionArguments(TypedDict, total=False):
    """The options as arguments of `Observability`, by the names of `Options`. None is the same as not given."""

    version: str | None
    namespace: str | None
    environment: str | None
    host: str | None
    port: int | None
    metrics_host: str | None
    metrics_port: int | None
    workers: int | None
    max_requests: int | None
    max_requests_jitter: int | None
    max_surge: int | None
    graceful_timeout: int | None
    stop_delay: float | None
    kill_timeout: float | None
    worker_timeout: int | None
    keepalive: int | None
    max_in_flight: int | None
    max_queued_requests: int | None
    queue_timeout: float | None
    max_header_bytes: int | None
    max_header_fields: int | None
    header_timeout: int | None
    body_timeout: int | None
    min_body_rate: int | None
    max_connections: int | None
    overload_exempt_paths: Iterable[str] | None
    forwarded_allow_ips: str | None
    request_id_pattern: str | None
    metrics_directory: Path | str | None
    max_series: int | None
    allowed_metrics_ips: Iterable[IPv4Network | IPv6Network | str] | None
    log_level: str | None
    log_format: Literal["json", "console"] | None
    redaction_packs: Iterable[RedactionPack | str] | None
    redacted_keys: Iterable[str] | None
    tracing_disabled: bool | None
    tracing: Literal["layer", "instrumentation", "none"] | None
    instrument_libraries: Iterable[str] | None
    trusted_upstreams: Iterable[str] | None
    traces_exporter: Literal["otlp", "console", "none"] | None
    otlp_endpoint: str | None
    otlp_timeout: float | None
    sample_ratio: float | None
    max_forced_samples: float | None
    span_queue: int | None
    span_batch: int | None
    excluded_urls: str | None


def _names(text: str) -> tuple[str, ...]:
    return () if text.strip() == NONE else checks.split(text)


def _word(text: str) -> str:
    """Return a variable's word; OpenTelemetry's are the same in any case."""
    return text.strip().lower()


def _of(variable: str, default: Any, check: checks.Check, read: Callable[[str], Any] | None = None) -> Any:
    """Declare an option that `variable` can give. `read` converts the variable's text for `check`."""
    return field(default=default, metadata={"variable": variable, "check": check, "read": read})


@dataclass(frozen=True)
class Options:
    """The configuration of one service. Times are in seconds."""

    service: str = _of("OTEL_SERVICE_NAME", "app", checks.name)
    """`service.name` of traces and the `service` field of log lines."""
    version: str = _of("SERVICE_VERSION", "", checks.text)
    """`service.version` of traces, the `version` field of log lines, and the label of `build_info`."""
    namespace: str = _of("METRICS_NAMESPACE", "app", checks.metric_prefix)
    """First word of the names of the package's own metrics, and of those that `Observability` makes. One other than the
    default is `service.namespace` of traces too."""
    environment: str = _of("ENVIRONMENT", "production", checks.text)
    """`deployment.environment.name` of traces; `development` logs to the console form."""
    host: str = _of("HOST", "127.0.0.1", checks.text)
    """Address that the application listens on."""
    port: int = _of("PORT", 8000, checks.number(1, 65535))
    """Port of the application."""
    metrics_host: str = _of("METRICS_HOST", "127.0.0.1", checks.text)
    """Address that the metrics exporter listens on."""
    metrics_port: int = _of("METRICS_PORT", 9090, checks.number(1, 65535))
    """Port of the metrics exporter."""
    workers: int = _of("WEB_CONCURRENCY", max(2, min(4, os.cpu_count() or 2)), checks.number(1, 256))
    """Worker processes."""
    max_requests: int = _of("MAX_REQUESTS", 0, checks.number(0, 1e9))
    """Requests after which a worker is replaced; 0 is never."""
    max_requests_jitter: int = _of("MAX_REQUESTS_JITTER", 0, checks.number(0, 1e9))
    """Random extra requests, so that workers are not replaced together."""
    max_surge: int = _of("MAX_SURGE", 1, checks.number(1, 256))
    """Workers above `workers` that may start at one time to replace others, at a reload or after `max_requests`. More
    make a reload shorter and need memory and CPU for as many starts together."""
    graceful_timeout: int = _of("GRACEFUL_TIMEOUT", 25, checks.number(1, 3600))
    """Seconds that a stopping worker has to finish."""
    stop_delay: float = _of("STOP_DELAY", 0.5, checks.number(0, 600, float))
    """Seconds in which a service that stops is not ready and still accepts requests, so that clients and load balancers
    learn of the stop. More than 0.21 of `graceful_timeout` is refused."""
    kill_timeout: float | None = _of("KILL_TIMEOUT", None, checks.number(0.001, 86_400, float))
    """Seconds from the stop signal until the platform kills the service, if known: Kubernetes'
    terminationGracePeriodSeconds less preStop, Compose's stop_grace_period. A start with a
    longer stop warns."""
    worker_timeout: int = _of("WORKER_TIMEOUT", 30, checks.number(1, 3600))
    """Seconds without a heartbeat after which a worker is killed; its boot counts as one."""
    keepalive: int = _of("KEEPALIVE", 75, checks.number(1, 3600))
    """Seconds that a connection may wait for a request. Must exceed the idle time-out of the load balancer in front."""
    max_in_flight: int = _of("MAX_IN_FLIGHT", 0, checks.number(0, 1e6))
    """Requests that a worker handles at a time; 0 is no bound. Further ones wait in a queue. Websockets and
    `overload_exempt_paths` do not count; streams of events count until they start. Without effect under
    `uvicorn --workers`."""
    max_queued_requests: int = _of("MAX_QUEUED_REQUESTS", 50, checks.number(0, 1e6))
    """Requests that may wait in a worker for one of `max_in_flight` to end; further ones are answered 503 at
    once."""
    queue_timeout: float = _of("QUEUE_TIMEOUT", 0.5, checks.number(0.01, 600, float))
    """Seconds that a request may wait in the queue before it is answered 503. Shortened to 0.21 of
    `graceful_timeout`."""
    max_header_bytes: int = _of("MAX_HEADER_BYTES", 65536, checks.number(1024, 1 << 20))
    """Bytes of a request's head; the answer to a larger one is 431. Without effect under `uvicorn --workers`, like
    `max_header_fields`, `header_timeout`, `body_timeout`, `min_body_rate`, `max_connections` and
    `overload_exempt_paths`."""
    max_header_fields: int = _of("MAX_HEADER_FIELDS", 100, checks.number(8, 10_000))
    """Header lines of a request; the answer to more is 431."""
    header_timeout: int = _of("HEADER_TIMEOUT", 10, checks.number(1, 3600))
    """Seconds for a request's head, from its first byte; then 408."""
    body_timeout: int = _of("BODY_TIMEOUT", 30, checks.number(1, 3600))
    """Seconds between two pieces of a request's body; then 408. Waits for the application do not
    count. Also the seconds in which a client may read nothing of a response; then the connection is reset."""
    min_body_rate: int = _of("MIN_BODY_RATE", 500, checks.number(1, 1e9))
    """Bytes a second that a request's body must have on average, after the first `body_timeout` seconds; else 408."""
    max_connections: int = _of("MAX_CONNECTIONS", 1000, checks.number(1, 1_000_000))
    """Connections of a worker. For one more, the connection that has waited longest for a request is closed. If none
    waits, only requests for `overload_exempt_paths` are served, others get 503, and then the worker stops accepting."""
    overload_exempt_paths: tuple[str, ...] = _of("OVERLOAD_EXEMPT_PATHS", ("/health", "/metrics"), checks.paths, _names)
    """Paths of probes and scrapes, and the paths below them, which are served under overload too. In the variable they
    are separated by commas; `none` is no path."""
    forwarded_allow_ips: str = _of("FORWARDED_ALLOW_IPS", "127.0.0.1", checks.proxies)
    """Proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted: addresses separated by commas, or `*`."""
    request_id_pattern: str | None = _of("REQUEST_ID_PATTERN", None, request_ids.checked)
    """A further form of `X-Request-ID` that is taken over, beside UUIDs, ULIDs and 8 to 64 hexadecimal digits: a
    regular expression for a whole id of up to 128 letters, digits and `._~:/+=@-`. An expression that could take long
    to match, as with a repetition inside another, is refused."""
    metrics_directory: Path | None = _of("PROMETHEUS_MULTIPROC_DIR", None, checks.directory)  # noqa: RUF009 -- makes a field
    """Directory of the workers' metric files; the default carries the service, the user and the port."""
    max_series: int = _of("MAX_SERIES_PER_METRIC", 10_000, checks.number(1, 1e9))
    """Label sets that a metric may have before new ones go to the overflow series."""
    allowed_metrics_ips: tuple[IPv4Network | IPv6Network, ...] = _of(
        "ALLOWED_METRICS_IPS", DEFAULT_NETWORKS, checks.networks
    )
    """Networks that may read /metrics on the application's port; empty denies all."""
    log_level: str = _of("LOG_LEVEL", "INFO", checks.levels)
    """The lowest level, then those of single loggers: `INFO,app.cache=DEBUG`."""
    log_format: Literal["json", "console"] | None = _of("LOG_FORMAT", None, checks.one_of("json", "console"))
    """None is console in development, else json."""
    redaction_packs: tuple[RedactionPack | str, ...] = _of("REDACTION_PACKS", tuple(SHIPPED), checked_packs, _names)
    """Locales whose private names and numbers are redacted beside the international ones: names of shipped packs, by
    default all, or packs of the service's own, as an argument only. Separated by commas in the variable, where `none`
    is the empty list."""
    redacted_keys: tuple[str, ...] = _of("REDACTED_KEYS", (), checked_keys, checks.split)
    """More names of fields whose values are replaced at any depth; separated by commas in the variable."""
    tracing_disabled: bool = _of("OTEL_SDK_DISABLED", default=False, check=checks.switch)
    """True switches tracing off."""
    tracing: Literal["layer", "instrumentation", "none"] = _of("TRACING", "layer", checks.one_of(*TRACING))
    """The maker of request spans: the layer of this package, opentelemetry-instrumentation-fastapi, or none. With
    `none` there are no spans at all."""
    instrument_libraries: tuple[str, ...] = _of("INSTRUMENT_LIBRARIES", LIBRARIES, checks.any_of(*LIBRARIES), _names)
    """Libraries that make spans below a request, if they and their instrumentations are installed, without those in
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS. Separated by commas in the variable, where `none` is the empty list."""
    trusted_upstreams: tuple[str, ...] = _of("TRUSTED_UPSTREAMS", (), checks.hosts, _names)
    """Hosts, with a port or without, or below a name such as `*.internal`, that get the redacted tracestate and baggage
    of a caller in calls of httpx. All others get ids only. Separated by commas in the variable."""
    traces_exporter: Literal["otlp", "console", "none"] | None = _of(
        "OTEL_TRACES_EXPORTER", None, checks.one_of("otlp", "console", "none"), _word
    )
    """None is otlp where an endpoint is set, else none."""
    otlp_endpoint: str | None = _of("OTEL_EXPORTER_OTLP_ENDPOINT", None, checks.collector, str.strip)
    """The collector's gRPC address, such as `http://host:4317`."""
    otlp_timeout: float = _of("OTEL_EXPORTER_OTLP_TIMEOUT", 5.0, checks.number(0.001, 600, float))
    """Seconds for one export."""
    sample_ratio: float = _of("OTEL_TRACES_SAMPLER_ARG", 0.1, checks.number(0, 1, float))
    """Share of traces kept."""
    max_forced_samples: float = _of("MAX_FORCED_SAMPLES", 10.0, checks.number(0, 1e6, float))
    """Requests a second of a worker that are sampled because their callers say so, beyond the share of `sample_ratio`:
    any client can say so with every request. 0 leaves all to the share."""
    span_queue: int = _of("OTEL_BSP_MAX_QUEUE_SIZE", 2048, checks.number(1, 1e6))
    """Spans that may wait for the exporter."""
    span_batch: int = _of("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, checks.number(1, 1e6))
    """Spans sent at a time."""
    excluded_urls: str = _of("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", EXCLUDED_URLS, checks.expressions)
    """Expressions of URLs without spans, separated by commas."""

    def __post_init__(self) -> None:
        """Check every value and convert it to the option's type. Raise OptionsError if one is wrong."""
        for option in fields(self):
            value = getattr(self, option.name)
            if value is not None or option.default is not None:
                object.__setattr__(self, option.name, _checked(option, option.name, value))

    @classmethod
    def read(cls, given: Mapping[str, object], environment: Mapping[str, str] | None = None) -> "Options":
        """Return the options of `given` and `environment`. Raise OptionsError if a value is wrong or a name unknown."""
        known = {option.name: option for option in fields(cls)}
        for name in given:
            if name not in known:
                raise OptionsError(checks.unknown(name, given[name], known, "option of Observability"))
        values = {name: value for name, value in given.items() if value is not None}
        environment = os.environ if environment is None else environment
        for name, option in known.items():
            text = environment.get(option.metadata["variable"])
            if name not in values and text:
                values[name] = _checked(option, option.metadata["variable"], text, option.metadata["read"])
        return cls(**cast("dict[str, Any]", values))

    @property
    def directory(self) -> Path:
        """The directory of the metric files."""
        default = Path(tempfile.gettempdir()) / f"{self.service}-metrics-{os.getuid()}-{self.port}"
        return self.metrics_directory or default

    @property
    def bind(self) -> str:
        """The address in gunicorn's form."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def exporter(self) -> Literal["otlp", "console", "none"]:
        """The exporter of spans. OTEL_EXPORTER_OTLP_TRACES_ENDPOINT counts as an endpoint: the exporter reads it."""
        endpoint = self.otlp_endpoint or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
        return self.traces_exporter or ("otlp" if endpoint else "none")

    @property
    def traced(self) -> bool:
        """True if there are spans."""
        return self.tracing != "none" and not self.tracing_disabled


def _checked(option: "Field[Any]", given_as: str, value: Any, read: Callable[[str], Any] | None = None) -> Any:
    """Return the value in the option's type. Raise OptionsError, which names it as it was given, if it is wrong."""
    try:
        return option.metadata["check"](read(value) if read else value)
    except ValueError as error:
        # An endpoint may carry a password.
        shown = "" if option.name == "otlp_endpoint" else f"={value!r}"
        raise OptionsError(f"{given_as}{shown}: {error}") from error
