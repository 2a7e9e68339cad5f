"""The settings that gunicorn and the tracing of each worker receive."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.process.service import ROOT

PRODUCTION = {
    "ENVIRONMENT": "production",
    "DATABASE_URL": "postgresql://host/database",
    "REDIS_URL": "redis://host",
    "ADMIN_API_KEY": "x" * 32,
}
TRACING_OF_A_WORKER = """
import json
from types import SimpleNamespace
import gunicorn_conf
from app.monitoring import tracing
given = {}
tracing.configure = lambda **options: given.update(options)
gunicorn_conf.post_fork(None, SimpleNamespace(slot=0))
print(json.dumps(given))
"""
START = """
import json
from types import SimpleNamespace
from gunicorn.config import Config
import gunicorn_conf
from app.monitoring.server import configuration, master
given = []
for module, *names in (
    (master, "take_ports_and_directory", "note_build", "start_exporter", "supervise_exporter"),
    (configuration, "import_before_forks"),
    (configuration.RollingArbiter, "adopt"),
    (gunicorn_conf, "import_libraries"),
    (gunicorn_conf.embedded, "start_missing", "wait_until_ready"),
):
    for name in names:
        setattr(module, name, lambda *given_, name=name, **by_name: given.append([name, given_, by_name]) or {})
cfg = Config()
for name in cfg.settings.keys() & vars(gunicorn_conf).keys():
    cfg.set(name, getattr(gunicorn_conf, name))
gunicorn_conf.on_starting(SimpleNamespace(cfg=cfg))
print(json.dumps(given, default=str))
"""
CONFIGURATION = """
import json
import gunicorn_conf
plain = (str, int, float, bool, type(None))
print(json.dumps({name: value for name, value in vars(gunicorn_conf).items() if isinstance(value, plain)}))
"""


def told(script: str, **environment: str) -> Any:
    """Return the output of `script` in an environment."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**PRODUCTION, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_gunicorn_gets_what_the_settings_say() -> None:
    found = told(
        CONFIGURATION,
        PORT="8123",
        WEB_CONCURRENCY="3",
        MAX_REQUESTS="1000",
        MAX_REQUESTS_JITTER="77",
        WORKER_TIMEOUT="41",
        GRACEFUL_TIMEOUT="17",
        KEEPALIVE="91",
        FORWARDED_ALLOW_IPS="10.1.2.3",
    )
    expected = {
        "bind": "127.0.0.1:8123",
        "workers": 3,
        "max_requests": 1000,
        "max_requests_jitter": 77,
        "timeout": 41,
        "graceful_timeout": 17,
        "keepalive": 91,
        "forwarded_allow_ips": "10.1.2.3",
        "control_socket_disable": True,
        "worker_tmp_dir": "/dev/shm",  # noqa: S108
    }
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(("host", "bind"), [("::1", "[::1]:8000"), ("0.0.0.0", "0.0.0.0:8000")])  # noqa: S104
def test_an_address_of_ipv6_is_bound_in_brackets(host: str, bind: str) -> None:
    assert told(CONFIGURATION, HOST=host, PORT="8000")["bind"] == bind


def test_the_tracing_of_a_worker_gets_what_the_settings_say() -> None:
    found = told(
        TRACING_OF_A_WORKER,
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4317",
        OTEL_EXPORTER_OTLP_TIMEOUT="1.5",
        OTEL_TRACES_SAMPLER_ARG="0.25",
        OTEL_SERVICE_NAME="bali",
        OTEL_BSP_MAX_QUEUE_SIZE="300",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="20",
        TRUSTED_UPSTREAMS="AI.internal",
        MAX_FORCED_SAMPLES="3",
    )
    del found["version"]
    assert found == {
        "exporter": "otlp",
        "endpoint": "http://collector:4317",
        "timeout": 1.5,
        "ratio": 0.25,
        "service": "bali",
        "environment": "production",
        "namespace": "baliblissed",
        "queue": 300,
        "batch": 20,
        "max_forced_samples": 3.0,
        "trusted_upstreams": ["ai.internal"],
    }


def test_a_worker_whose_sdk_is_switched_off_has_no_tracing() -> None:
    assert told(TRACING_OF_A_WORKER, OTEL_SDK_DISABLED="true") == {}


def test_a_start_takes_the_directory_first_and_starts_the_exporter_last() -> None:
    found = told(
        START,
        MAX_SERIES_PER_METRIC="123",
        PROMETHEUS_MULTIPROC_DIR="/run/metrics",
        METRICS_PORT="9123",
        REDACTED_KEYS="loyalty_number, room",
    )
    assert [name for name, *_ in found] == [
        "take_ports_and_directory",
        "note_build",
        "start_missing",
        "import_libraries",
        "wait_until_ready",
        "start_exporter",
        "import_before_forks",
        "adopt",
        "supervise_exporter",
    ]
    given = {name: (by_place, by_name) for name, by_place, by_name in found}
    assert given["take_ports_and_directory"][1] == {
        "api": [["127.0.0.1", 8000]],
        "metrics": ["127.0.0.1", 9123],
        "directory": "/run/metrics",
        "user": None,
    }
    assert given["note_build"][0][1] == "production"
    collectors, logging, max_series = given["start_exporter"][0]
    assert (collectors, logging["renderer"], max_series) == (["app.managers.metrics:collect"], "json", 123)
    assert logging["redaction_packs"] == ["indonesia", "world"]
    assert logging["redacted_keys"] == ["loyalty_number", "room"]
