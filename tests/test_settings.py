"""Defaults, accepted values and error messages of every settings variable."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.settings import ROOT, Settings, SettingsError, get_settings, load_settings

SECRETS = ["DATABASE_URL", "REDIS_URL", "AI_API_KEY", "ADMIN_API_KEY"]
PRODUCTION = {"ENVIRONMENT": "production", "DATABASE_URL": "postgresql://db/x", "REDIS_URL": "redis://cache"}
DEFAULTS = {
    "environment": "development",
    "host": "127.0.0.1",
    "port": 8000,
    "metrics_host": "127.0.0.1",
    "metrics_port": 9090,
    "web_concurrency": max(2, min(4, os.cpu_count() or 2)),
    "max_requests": 0,
    "max_requests_jitter": 0,
    "max_surge": 1,
    "graceful_timeout": 25,
    "stop_delay": 0.5,
    "kill_timeout": None,
    "worker_timeout": 30,
    "keepalive": 75,
    "max_header_bytes": 65536,
    "max_header_fields": 100,
    "header_timeout": 10,
    "body_timeout": 30,
    "min_body_rate": 500,
    "max_connections": 1000,
    "overload_exempt_paths": ("/health", "/metrics"),
    "forwarded_allow_ips": "127.0.0.1",
    "request_id_pattern": None,
    "database_url": None,
    "data_directory": ROOT / ".data",
    "database_pool_size": 10,
    "max_in_flight": None,
    "redis_url": None,
    "ai_base_url": None,
    "ai_api_key": None,
    "ai_model": "gpt-4o-mini",
    "ai_timeout": 20.0,
    "admin_api_key": None,
    "allowed_metrics_ips": tuple(map(ip_network, ("127.0.0.1", "10.0.0.0/8", "172.16.0.0/12"))),
    "max_series_per_metric": 10_000,
    "log_level": "INFO",
    "rate_limit_writes": "30/minute",
    "rate_limit_ai": "20/minute",
    "rate_limit_keys": "10/minute",
    "idempotency_key_lifetime": 86_400,
    "max_forced_samples": 10.0,
    "trusted_upstreams": (),
    "otel_sdk_disabled": False,
    "otel_service_name": "baliblissed-backend",
    "otel_traces_exporter": None,
    "otel_exporter_otlp_endpoint": None,
    "otel_exporter_otlp_traces_endpoint": None,
    "otel_bsp_max_queue_size": 2048,
    "otel_bsp_max_export_batch_size": 512,
    "otel_traces_sampler_arg": None,
    "otel_exporter_otlp_timeout": 5.0,
    "otel_python_fastapi_excluded_urls": "^https?://[^/]+/(health|metrics)(/|[?]|$)",
}
TAKEN: list[tuple[str, str, Any]] = [
    ("ENVIRONMENT", "Test", "test"),
    ("HOST", "::", "::"),
    ("PORT", "65535", 65535),
    ("METRICS_HOST", "0.0.0.0", "0.0.0.0"),  # noqa: S104
    ("METRICS_PORT", "1", 1),
    ("WEB_CONCURRENCY", "256", 256),
    ("MAX_REQUESTS", "10000", 10_000),
    ("MAX_REQUESTS_JITTER", "5", 5),
    ("MAX_SURGE", "3", 3),
    ("GRACEFUL_TIMEOUT", "1", 1),
    ("STOP_DELAY", "0", 0.0),
    ("KILL_TIMEOUT", "40", 40.0),
    ("WORKER_TIMEOUT", "3600", 3600),
    ("KEEPALIVE", "5", 5),
    ("MAX_HEADER_BYTES", "8192", 8192),
    ("MAX_HEADER_FIELDS", "50", 50),
    ("HEADER_TIMEOUT", "1", 1),
    ("BODY_TIMEOUT", "1", 1),
    ("MIN_BODY_RATE", "1", 1),
    ("MAX_CONNECTIONS", "1", 1),
    ("OVERLOAD_EXEMPT_PATHS", "/a, /b/c,", ("/a", "/b/c")),
    ("OVERLOAD_EXEMPT_PATHS", "none", ()),
    ("FORWARDED_ALLOW_IPS", "*", "*"),
    ("REQUEST_ID_PATTERN", "edge-[0-9]+", "edge-[0-9]+"),
    ("DATABASE_URL", "postgres:///x?host=/run", SecretStr("postgres:///x?host=/run")),
    ("DATA_DIRECTORY", "/srv/data", Path("/srv/data")),
    ("DATABASE_POOL_SIZE", "200", 200),
    ("MAX_IN_FLIGHT", "0", 0),
    ("REDIS_URL", "unix:///run/redis.sock", SecretStr("unix:///run/redis.sock")),
    ("REDIS_URL", "rediss://cache:6380/1", SecretStr("rediss://cache:6380/1")),
    ("AI_BASE_URL", "https://ai.example/v1", "https://ai.example/v1"),
    ("AI_API_KEY", "sk-1", SecretStr("sk-1")),
    ("AI_MODEL", "m", "m"),
    ("AI_TIMEOUT", "0.5", 0.5),
    ("ADMIN_API_KEY", "k" * 16, SecretStr("k" * 16)),
    ("ALLOWED_METRICS_IPS", "10.1.2.3/8, fd00::/8,", (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))),
    ("PROMETHEUS_MULTIPROC_DIR", "/run/metrics", Path("/run/metrics")),
    ("MAX_SERIES_PER_METRIC", "1", 1),
    ("LOG_LEVEL", "debug", "DEBUG"),
    ("LOG_LEVEL", "info, app.cache=debug", "INFO,app.cache=DEBUG"),
    ("LOG_LEVEL", "access=WARNING", "INFO,access=WARNING"),
    ("RATE_LIMIT_WRITES", "5 per 10 seconds", "5 per 10 seconds"),
    ("RATE_LIMIT_AI", "1/hour", "1/hour"),
    ("RATE_LIMIT_KEYS", "5/hour", "5/hour"),
    ("IDEMPOTENCY_KEY_LIFETIME", "60", 60),
    ("MAX_FORCED_SAMPLES", "0.5", 0.5),
    ("TRUSTED_UPSTREAMS", "ai.internal, *.mesh:8443,[::1]", ("ai.internal", "*.mesh:8443", "::1")),
    ("OTEL_TRACES_EXPORTER", " OTLP ", "otlp"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "[::1]:4317", "[::1]:4317"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "unix:/run/collector", "unix:/run/collector"),
    ("OTEL_SDK_DISABLED", "true", True),
    ("OTEL_SERVICE_NAME", "bali", "bali"),
    ("OTEL_TRACES_EXPORTER", "console", "console"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317", "http://collector:4317"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "collector:4317"),
    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:4317", "https://traces:4317"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "60", 60.0),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "1", 1),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4096", 4096),
    ("OTEL_TRACES_SAMPLER_ARG", "0", 0.0),
    ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "/x", "/x"),
]
REFUSED = [
    ("ENVIRONMENT", "staging", "'development', 'production' or 'test'"),
    ("PORT", "0", "greater than or equal to 1"),
    ("PORT", "65536", "less than or equal to 65535"),
    ("PORT", "http", "integer"),
    ("METRICS_PORT", "-1", "greater than or equal to 1"),
    ("WEB_CONCURRENCY", "0", "greater than or equal to 1"),
    ("WEB_CONCURRENCY", "many", "integer"),
    ("MAX_REQUESTS", "-1", "greater than or equal to 0"),
    ("MAX_REQUESTS_JITTER", "x", "integer"),
    ("MAX_SURGE", "0", "greater than or equal to 1"),
    ("GRACEFUL_TIMEOUT", "0", "greater than or equal to 1"),
    ("STOP_DELAY", "601", "less than or equal to 600"),
    ("KILL_TIMEOUT", "0", "greater than 0"),
    ("WORKER_TIMEOUT", "3601", "less than or equal to 3600"),
    ("KEEPALIVE", "0", "greater than or equal to 1"),
    ("MAX_IN_FLIGHT", "-1", "greater than or equal to 0"),
    ("MAX_HEADER_BYTES", "1023", "greater than or equal to 1024"),
    ("MAX_HEADER_FIELDS", "7", "greater than or equal to 8"),
    ("HEADER_TIMEOUT", "0", "greater than or equal to 1"),
    ("BODY_TIMEOUT", "0", "greater than or equal to 1"),
    ("MIN_BODY_RATE", "0", "greater than or equal to 1"),
    ("MAX_CONNECTIONS", "0", "greater than or equal to 1"),
    ("OVERLOAD_EXEMPT_PATHS", "health", "want paths such as /health, comma separated, or none"),
    ("OVERLOAD_EXEMPT_PATHS", "/", "want paths such as /health, comma separated, or none"),
    ("DATABASE_POOL_SIZE", "201", "less than or equal to 200"),
    ("AI_TIMEOUT", "0", "greater than 0"),
    ("ALLOWED_METRICS_IPS", "10.0.0.0/33", "want addresses or networks such as 10.0.0.0/8"),
    ("FORWARDED_ALLOW_IPS", "10.0.0.7/8", "want addresses or networks such as 10.0.0.0/8"),
    ("FORWARDED_ALLOW_IPS", "*, 10.0.0.7", "want addresses or networks such as 10.0.0.0/8"),
    ("ALLOWED_METRICS_IPS", "office", "want addresses or networks such as 10.0.0.0/8"),
    ("MAX_SERIES_PER_METRIC", "0", "greater than or equal to 1"),
    ("LOG_LEVEL", "loud", "'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'"),
    ("LOG_LEVEL", "INFO,app.cache:DEBUG", "want 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL', then NAME=LEVEL"),
    ("LOG_LEVEL", "INFO,a b=DEBUG", "such as INFO,app.cache=DEBUG: 'a b' is no logger's name"),
    ("RATE_LIMIT_WRITES", "often", "want a count and a period such as 30/minute"),
    ("TRUSTED_UPSTREAMS", "https://ai.internal", "want hosts such as ai.internal, ai.internal:8443 or *.internal"),
    ("TRUSTED_UPSTREAMS", "*", "want hosts such as ai.internal, ai.internal:8443 or *.internal"),
    ("RATE_LIMIT_AI", "0/minute", "want a count and a period such as 30/minute"),
    ("RATE_LIMIT_AI", "1/minute;2/hour", "want a count and a period such as 30/minute"),
    ("RATE_LIMIT_AI", "20", "want a count and a period such as 30/minute"),
    ("RATE_LIMIT_KEYS", "never", "want a count and a period such as 30/minute"),
    ("IDEMPOTENCY_KEY_LIFETIME", "59", "greater than or equal to 60"),
    ("OTEL_SDK_DISABLED", "perhaps", "boolean"),
    ("OTEL_TRACES_EXPORTER", "jaeger", "'otlp', 'console' or 'none'"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "greater than 0"),
    ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "greater than or equal to 1"),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0", "greater than or equal to 1"),
    ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "/a,(", "want regular expressions, comma separated"),
    ("REQUEST_ID_PATTERN", "(a+)+", "may try very many ways"),
    ("OTEL_TRACES_SAMPLER_ARG", "1.1", "less than or equal to 1"),
]
SECRET_REFUSED = [
    ("DATABASE_URL", "mysql://u:hunter2@db/x", "want a URL that starts with postgresql:// or postgres://"),
    ("DATABASE_URL", "postgresql:", "want a URL that starts with postgresql:// or postgres://"),
    ("DATABASE_URL", "postgresql://u:hunter2@db:port/x", "want a URL that starts with postgresql:// or postgres://"),
    ("DATABASE_URL", "postgresql://u:hunter2@db/x?sslmode=on", "want an sslmode of disable, allow, prefer, require"),
    ("REDIS_URL", "http://:hunter2@cache", "want a URL that starts with redis:// or rediss:// or unix://"),
    ("REDIS_URL", "redis://:hunter2@cache:port", "want a URL that starts with redis:// or rediss:// or unix://"),
    ("AI_BASE_URL", "ftp://u:hunter2@ai.example", "want a URL that starts with http:// or https://"),
    ("AI_BASE_URL", "ai.example/v1", "want a URL that starts with http:// or https://"),
    ("AI_BASE_URL", "https:/ai.example/v1", "want a URL that starts with http:// or https://"),
    ("AI_BASE_URL", "http://[::1/v1", "want a URL that starts with http:// or https://"),
    ("AI_API_KEY", "hunter2-ü", "want a key of ASCII characters"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "tcp://u:hunter2@collector", "want a URL that starts with http:// or https://"),
    ("ADMIN_API_KEY", "hunter2", "want 16 characters or more"),
]
Load = Callable[..., Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return `load(PORT="80")`, which loads settings from an environment with only these settings variables."""

    def set_and_load(**variables: str) -> Settings:
        for name in Settings.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return set_and_load


def problems(load: Load, **variables: str) -> list[str]:
    """Return the problems that SettingsError reports for an invalid environment."""
    with pytest.raises(SettingsError) as caught:
        load(**variables)
    assert str(caught.value).splitlines() == caught.value.problems
    return caught.value.problems


def test_every_variable_has_its_default(load: Load) -> None:
    settings = load()
    found = {name: getattr(settings, name) for name in Settings.model_fields}
    found.pop("prometheus_multiproc_dir")
    assert found == DEFAULTS


def test_every_variable_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_variable_is_tried_below() -> None:
    assert {name.lower() for name, *_ in TAKEN} == Settings.model_fields.keys()


@pytest.mark.parametrize(("name", "text", "value"), TAKEN)
def test_a_variable_is_taken_over(load: Load, name: str, text: str, value: Any) -> None:
    assert getattr(load(**{name: text}), name.lower()) == value


@pytest.mark.parametrize("name", [name.upper() for name in Settings.model_fields])
def test_an_empty_variable_is_an_unset_one(load: Load, name: str) -> None:
    assert load(**{name: ""}) == load()


@pytest.mark.parametrize(("name", "value", "wanted"), REFUSED)
def test_a_wrong_value_is_refused_with_its_name_and_the_form_that_is_wanted(
    load: Load, name: str, value: str, wanted: str
) -> None:
    (problem,) = problems(load, **{name: value})
    assert problem.startswith(f"{name}={value!r}: ")
    assert wanted in problem


@pytest.mark.parametrize(("name", "value", "wanted"), SECRET_REFUSED)
def test_what_is_said_of_a_secret_does_not_repeat_it(load: Load, name: str, value: str, wanted: str) -> None:
    (problem,) = problems(load, **{name: value})
    assert problem.startswith(f"{name}: {wanted}")
    assert "hunter2" not in problem


def test_a_key_of_staff_has_sixteen_characters_or_more(load: Load) -> None:
    assert load(ADMIN_API_KEY="k" * 16).admin_api_key is not None
    assert problems(load, ADMIN_API_KEY="k" * 15) == ["ADMIN_API_KEY: want 16 characters or more"]


def test_each_wrong_variable_has_a_line(load: Load) -> None:
    said = problems(load, PORT="x", LOG_LEVEL="loud", ADMIN_API_KEY="short")
    assert sorted(re.split("[=:]", line)[0] for line in said) == ["ADMIN_API_KEY", "LOG_LEVEL", "PORT"]


@pytest.mark.parametrize("name", SECRETS)
def test_settings_that_are_printed_show_no_secret(load: Load, name: str) -> None:
    values = {"DATABASE_URL": "postgresql://u:hunter2-hunter2@db", "REDIS_URL": "redis://:hunter2-hunter2@cache"}
    assert "hunter2" not in repr(load(**{name: values.get(name, "hunter2-hunter2-hunter2")}))


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_production_needs_real_servers(load: Load, name: str) -> None:
    variables = {key: value for key, value in PRODUCTION.items() if key != name}
    assert problems(load, **variables) == [f"{name} is not set: production has no embedded server"]
    assert load(**PRODUCTION).environment == "production"


def test_the_exporter_needs_a_port_of_its_own(load: Load) -> None:
    assert problems(load, PORT="9000", METRICS_PORT="9000") == ["METRICS_PORT=9000: want a port other than PORT"]
    said = problems(load, PORT="9000", METRICS_PORT="9000", METRICS_HOST="127.0.0.2")
    assert said == ["METRICS_PORT=9000: want a port other than PORT"]


def test_the_metrics_directory_is_one_a_port_unless_it_is_set(load: Load) -> None:
    names = [load(PORT=port).metrics_directory.name for port in ("8001", "8002")]
    assert names == [f"baliblissed-metrics-{os.getuid()}-8001", f"baliblissed-metrics-{os.getuid()}-8002"]
    assert load(PROMETHEUS_MULTIPROC_DIR="/run/metrics").metrics_directory == Path("/run/metrics")


@pytest.mark.parametrize(
    ("variables", "ratio"),
    [
        ({}, 1.0),
        ({"ENVIRONMENT": "test"}, 1.0),
        (PRODUCTION, 0.1),
        ({**PRODUCTION, "OTEL_TRACES_SAMPLER_ARG": "0.5"}, 0.5),
        ({"OTEL_TRACES_SAMPLER_ARG": "0"}, 0.0),
    ],
)
def test_every_trace_is_kept_and_a_tenth_in_production(load: Load, variables: dict[str, str], ratio: float) -> None:
    assert load(**variables).trace_sample_ratio == ratio


@pytest.mark.parametrize(
    ("variables", "exporter"),
    [
        ({}, "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_TRACES_EXPORTER": "none"}, "none"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, "none"),
    ],
)
def test_spans_go_where_there_is_a_collector(load: Load, variables: dict[str, str], exporter: str) -> None:
    assert load(**variables).traces_exporter == exporter


def test_the_settings_of_a_process_are_read_once(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    load(PORT="8123")
    get_settings.cache_clear()
    try:
        first = get_settings()
        monkeypatch.setenv("PORT", "8124")
        assert get_settings() is first
        assert first.port == 8123
    finally:
        get_settings.cache_clear()


def test_a_value_in_code_is_checked_as_one_of_the_environment_is() -> None:
    assert Settings(environment="TEST", log_level="error").log_level == "ERROR"
    with pytest.raises(ValueError, match="log_level"):
        Settings(log_level=5)


@pytest.mark.parametrize(("port", "status"), [("8000", 0), ("http", 1)])
def test_the_environment_can_be_checked_without_a_start(port: str, status: int) -> None:
    environment = {**os.environ, "PORT": port}
    command = [sys.executable, "-m", "app.settings"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert done.stderr.startswith("PORT='http': ") is (status == 1)
    assert len(done.stderr.splitlines()) == status


def test_settings_cannot_be_changed(load: Load) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1  # type: ignore[misc]
