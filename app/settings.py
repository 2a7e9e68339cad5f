"""Every environment variable of the service: typed, validated, documented.

The package app.monitoring reads the variables of options that app/observability.py does not set, and OpenTelemetry's.
`python -m app.settings` checks the values without starting anything.
"""

import os
import re
import sys
import tempfile
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from limits import parse_many
from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from redis.asyncio.connection import parse_url as parse_redis_url

from app.monitoring import Options, OptionsError
from app.monitoring.addresses import parse_network
from app.monitoring.logging import parse_levels

# Default of MAX_IN_FLIGHT for each database connection. A request holds one for only a part of its duration.
REQUESTS_A_CONNECTION = 4
ROOT = Path(__file__).resolve().parent.parent
Network = IPv4Network | IPv6Network
SECRET_VARIABLES = frozenset({"DATABASE_URL", "REDIS_URL", "AI_API_KEY", "ADMIN_API_KEY"})
# These values may carry a password or a key, so a message about them never repeats the value.
UNREPEATED_VARIABLES = SECRET_VARIABLES | {
    "AI_BASE_URL",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
}


class SettingsError(Exception):
    """One line a wrong variable: its name, its value unless that is secret, and the form that is wanted."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def _option(name: str, value: object) -> Any:
    """Return `value` as the package converts it for an option. Raise ValueError with the form that is wanted."""
    try:
        return getattr(Options(**{name: value}), name)  # type: ignore[arg-type]
    except OptionsError as error:
        raise ValueError(str(error.__cause__)) from error


class Settings(BaseSettings):
    """The configuration of one process. Field names are the variables' names in lower case."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    environment: Literal["development", "production", "test"] = Field(
        "development", description="development, production or test"
    )
    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(8000, ge=1, le=65535, description="port of the API")
    metrics_host: str = Field("127.0.0.1", description="address the metrics exporter listens on")
    metrics_port: int = Field(9090, ge=1, le=65535, description="port of the metrics exporter")
    web_concurrency: int = Field(
        max(2, min(4, os.cpu_count() or 2)),
        ge=1,
        le=256,
        description="worker processes; default 2 to 4 by CPUs",
    )
    max_requests: int = Field(0, ge=0, description="requests after which a worker is replaced; 0 is never")
    max_requests_jitter: int = Field(0, ge=0, description="random extra requests, so workers do not leave together")
    max_surge: int = Field(
        1, ge=1, le=256, description="workers above WEB_CONCURRENCY that may start together to replace others"
    )
    graceful_timeout: int = Field(25, ge=1, le=3600, description="seconds a stopping worker has to finish")
    stop_delay: float = Field(
        0.5,
        ge=0,
        le=600,
        description="seconds in which a service that stops still accepts requests; at most 0.21 of GRACEFUL_TIMEOUT",
    )
    kill_timeout: float | None = Field(
        None,
        gt=0,
        le=86_400,
        description="seconds from the stop signal to the platform's kill; the start warns if a stop takes longer",
    )
    worker_timeout: int = Field(30, ge=1, le=3600, description="seconds without a sign of life before a kill")
    keepalive: int = Field(75, ge=1, le=3600, description="seconds an idle connection stays; above the balancer's")
    max_header_bytes: int = Field(65536, ge=1024, le=1 << 20, description="bytes of a request's head; more is 431")
    max_header_fields: int = Field(100, ge=8, le=10_000, description="header lines of a request; more is 431")
    header_timeout: int = Field(
        10, ge=1, le=3600, description="seconds for a request's head from its first byte; then 408"
    )
    body_timeout: int = Field(30, ge=1, le=3600, description="seconds between pieces of a request's body; then 408")
    min_body_rate: int = Field(
        500,
        ge=1,
        le=1_000_000_000,
        description="bytes a second of a body on average, after BODY_TIMEOUT seconds; less is 408",
    )
    max_connections: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="connections of a worker; one more closes the longest idle one, if none is idle 503",
    )
    overload_exempt_paths: Annotated[tuple[str, ...], NoDecode] = Field(
        ("/health", "/metrics"), description="paths served under overload too, such as probes, comma separated"
    )
    forwarded_allow_ips: str = Field(
        "127.0.0.1", description="proxies whose X-Forwarded-For is trusted, comma separated, or *"
    )
    request_id_pattern: str | None = Field(
        None, description="further form of X-Request-ID to take over, beside UUID, ULID and hex: a regular expression"
    )
    database_url: SecretStr | None = Field(
        None, description="postgresql://...; unset starts an embedded server, except in production"
    )
    data_directory: Path = Field(ROOT / ".data", description="data of the embedded servers; default .data")
    database_pool_size: int = Field(10, ge=1, le=200, description="connections a worker may hold")
    max_in_flight: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="requests a worker handles at a time; unset is 4 times DATABASE_POOL_SIZE, 0 is unlimited",
    )
    redis_url: SecretStr | None = Field(
        None,
        description="redis://, rediss:// or unix://; unset starts an embedded server, except in production",
    )
    ai_base_url: str | None = Field(
        None, description="OpenAI-compatible API such as https://host/v1; unset uses the offline planner"
    )
    ai_api_key: SecretStr | None = Field(None, description="bearer key for AI_BASE_URL")
    ai_model: str = Field("gpt-4o-mini", min_length=1, description="model to ask for")
    ai_timeout: float = Field(20.0, gt=0, le=300, description="seconds the AI upstream has for one answer")
    admin_api_key: SecretStr | None = Field(
        None, description="X-API-Key for staff routes, 16 characters or more; unset closes them"
    )
    allowed_metrics_ips: Annotated[tuple[Network, ...], NoDecode] = Field(
        (ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("172.16.0.0/12")),
        description="networks that may read /metrics on the API port, comma separated",
    )
    prometheus_multiproc_dir: Path = Field(
        Path(tempfile.gettempdir()) / f"baliblissed-metrics-{os.getuid()}",
        description="directory of the workers' metric files; the default carries the user and the port",
    )
    max_series_per_metric: int = Field(10_000, ge=1, description="label sets a metric may have before they overflow")
    log_level: str = Field(
        "INFO", description="lowest level, then those of single loggers: INFO,app.cache=DEBUG,access=WARNING"
    )
    rate_limit_writes: str = Field("30/minute", description="reviews and inquiries a client may send, each")
    rate_limit_ai: str = Field("20/minute", description="AI requests a client may send")
    rate_limit_keys: str = Field(
        "10/minute", description="wrong X-API-Keys a client may send; past it every key, the right one too, gets 429"
    )
    idempotency_key_lifetime: int = Field(
        86_400, ge=60, le=2_592_000, description="seconds in which an Idempotency-Key gets its first answer again"
    )
    max_forced_samples: float = Field(
        10.0,
        ge=0,
        le=1_000_000,
        description="requests a second of a worker that callers may have sampled beyond the share of our own",
    )
    trusted_upstreams: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="hosts that get the redacted tracestate and baggage of callers, comma separated; others get ids"
    )
    otel_sdk_disabled: bool = Field(False, description="true switches tracing off")
    otel_service_name: str = Field("baliblissed-backend", min_length=1, description="service.name")
    otel_traces_exporter: Literal["otlp", "console", "none"] | None = Field(
        None, description="otlp, console or none; unset is otlp where an endpoint is set, else none"
    )
    otel_exporter_otlp_endpoint: str | None = Field(None, description="collector's gRPC address, http://host:4317")
    otel_exporter_otlp_traces_endpoint: str | None = Field(None, description="the same for traces only; it wins")
    otel_exporter_otlp_timeout: float = Field(5.0, gt=0, le=60, description="seconds for one export")
    otel_bsp_max_queue_size: int = Field(2048, ge=1, le=1_000_000, description="spans that may wait for the collector")
    otel_bsp_max_export_batch_size: int = Field(512, ge=1, description="spans sent at a time, at most the above")
    otel_traces_sampler_arg: float | None = Field(
        None, ge=0, le=1, description="share of traces kept; unset is 0.1 in production, else 1.0"
    )
    otel_python_fastapi_excluded_urls: str = Field(
        "^https?://[^/]+/(health|metrics)(/|[?]|$)", description="expressions of URLs without spans, comma separated"
    )

    @field_validator("allowed_metrics_ips", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return tuple(parse_network(part, strict=False) for part in value.split(",") if part.strip())
        except ValueError as error:
            raise ValueError(f"want addresses or networks such as 10.0.0.0/8: {error}") from error

    @field_validator("forwarded_allow_ips")
    @classmethod
    def _check_proxies(cls, value: str) -> str:
        return str(_option("forwarded_allow_ips", value))

    @field_validator("overload_exempt_paths", mode="before")
    @classmethod
    def _split_paths(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        paths = tuple(part.strip() for part in value.split(",") if part.strip())
        if paths == ("none",):
            return ()
        if not all(path.startswith("/") and path != "/" for path in paths):
            raise ValueError("want paths such as /health, comma separated, or none")
        return paths

    @field_validator("trusted_upstreams", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        return _option("trusted_upstreams", value)

    @field_validator("environment", "otel_traces_exporter", mode="before")
    @classmethod
    def _fold_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("log_level")
    @classmethod
    def _check_levels(cls, value: str) -> str:
        return str(parse_levels(value))

    @field_validator(
        "database_url",
        "redis_url",
        "ai_base_url",
        "otel_exporter_otlp_endpoint",
        "otel_exporter_otlp_traces_endpoint",
    )
    @classmethod
    def _check_url(cls, value: SecretStr | str | None, info: ValidationInfo) -> SecretStr | str | None:
        if value is not None:
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            _check_address(info.field_name or "", text)
        return value

    @field_validator("ai_api_key")
    @classmethod
    def _check_ai_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().isascii():
            raise ValueError("want a key of ASCII characters")
        return value

    @field_validator("request_id_pattern")
    @classmethod
    def _check_id_pattern(cls, value: str | None) -> str | None:
        return None if value is None else str(_option("request_id_pattern", value))

    @field_validator("otel_python_fastapi_excluded_urls")
    @classmethod
    def _check_expressions(cls, value: str) -> str:
        for expression in value.split(","):
            try:
                re.compile(expression)
            except re.error as error:
                raise ValueError(f"want regular expressions, comma separated: {error}") from error
        return value

    @field_validator("admin_api_key")
    @classmethod
    def _check_key(cls, value: SecretStr | None) -> SecretStr | None:
        shortest = 16
        if value is not None and len(value.get_secret_value()) < shortest:
            raise ValueError(f"want {shortest} characters or more")
        return value

    @field_validator("rate_limit_writes", "rate_limit_ai", "rate_limit_keys")
    @classmethod
    def _check_rate(cls, value: str) -> str:
        try:
            rules = parse_many(value)
        except ValueError:
            rules = []
        if len(rules) != 1 or rules[0].amount < 1:
            raise ValueError("want a count and a period such as 30/minute")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.metrics_port == self.port:  # on whatever addresses: one of them may be all of them
            raise ValueError(f"METRICS_PORT={self.metrics_port}: want a port other than PORT")
        if self.environment == "production":
            missing = [name.upper() for name in ("database_url", "redis_url") if getattr(self, name) is None]
            if missing:
                verb = "are" if len(missing) > 1 else "is"
                names = " and ".join(missing)
                raise ValueError(f"{names} {verb} not set: production has no embedded server")
        return self

    @property
    def metrics_directory(self) -> Path:
        """Directory of the metric files; without PROMETHEUS_MULTIPROC_DIR one a port, so services do not meet."""
        if "prometheus_multiproc_dir" in self.model_fields_set:
            return self.prometheus_multiproc_dir
        return self.prometheus_multiproc_dir.with_name(f"{self.prometheus_multiproc_dir.name}-{self.port}")

    @property
    def requests_in_flight(self) -> int:
        """The bound of requests in flight in a worker, with the default resolved."""
        if self.max_in_flight is not None:
            return self.max_in_flight
        return REQUESTS_A_CONNECTION * self.database_pool_size

    @property
    def traces_exporter(self) -> Literal["otlp", "console", "none"]:
        """The exporter of spans, with the default resolved."""
        if self.otel_sdk_disabled:
            return "none"
        endpoint = self.otel_exporter_otlp_traces_endpoint or self.otel_exporter_otlp_endpoint
        return self.otel_traces_exporter or ("otlp" if endpoint else "none")

    @property
    def trace_sample_ratio(self) -> float:
        """Share of root traces that are sampled, 0 to 1."""
        if self.otel_traces_sampler_arg is not None:
            return self.otel_traces_sampler_arg
        return 0.1 if self.environment == "production" else 1.0


# gRPC takes these as well.
GRPC_ADDRESS = re.compile(r"([\w.-]+|\[[\da-fA-F:.]+\]):\d{1,5}|unix:/\S+")
WANTED_SCHEMES = {
    "database_url": ("postgresql", "postgres"),
    "redis_url": ("redis", "rediss", "unix"),
    "ai_base_url": ("http", "https"),
    "otel_exporter_otlp_endpoint": ("http", "https"),
    "otel_exporter_otlp_traces_endpoint": ("http", "https"),
}


def _check_address(name: str, text: str) -> None:
    """Raise ValueError unless the clients that will get `text` can read it."""
    if name.startswith("otel_exporter_otlp_") and GRPC_ADDRESS.fullmatch(text):
        return
    wanted = f"want a URL that starts with {' or '.join(f'{scheme}://' for scheme in WANTED_SCHEMES[name])}"
    try:
        url = urlsplit(text)
        # urlsplit reads the port when it is asked for, and PostgreSQL's may be a list with one for each host.
        _ = url.port if "," not in url.netloc else None
        if name == "redis_url" and url.scheme in WANTED_SCHEMES[name]:
            parse_redis_url(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{wanted}, with a host and a port that can be read") from error
    somewhere = url.netloc if url.scheme in {"http", "https"} else url.netloc or url.query or url.path
    if url.scheme not in WANTED_SCHEMES[name] or not somewhere:
        raise ValueError(wanted)
    modes = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
    mode = parse_qs(url.query).get("sslmode", ["prefer"])[-1]
    if name == "database_url" and mode not in modes:
        raise ValueError(f"want an sslmode of {', '.join(modes)}")


def _describe(error: ValidationError) -> list[str]:
    problems = []
    for item in error.errors(include_url=False):
        message = item["msg"].removeprefix("Value error, ")
        name = str(item["loc"][0]).upper() if item["loc"] else ""
        if not name:
            problems.append(message)
        elif name in UNREPEATED_VARIABLES:
            problems.append(f"{name}: {message}")
        else:
            problems.append(f"{name}={os.environ.get(name, item['input'])!r}: {message}")
    return problems


def load_settings() -> Settings:
    """Settings from the environment as it is now; raises SettingsError."""
    try:
        return Settings()
    except ValidationError as error:
        raise SettingsError(_describe(error)) from error


@cache
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


if __name__ == "__main__":
    try:
        load_settings()
    except SettingsError as problem:
        sys.exit(str(problem))
