"""A start that cannot succeed prints its reason in one line and exits with a status other than 0."""

import socket
from pathlib import Path

import pytest

from tests.process.service import Service, service


def refused(tmp_path: Path, **environment: str) -> str:
    """Return the output of a service that must not start."""
    started = Service(tmp_path, environment)
    try:
        assert started.process.wait(30) != 0
    finally:
        started.stop()
    assert "Traceback" not in started.output
    return "\n".join(line for line in started.output.splitlines() if "Starting gunicorn" not in line)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"PORT": "eighty"}, "PORT='eighty': Input should be a valid integer"),
        ({"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY='0': Input should be greater than or equal to 1"),
        ({"ALLOWED_METRICS_IPS": "10.0.0.0/99"}, "ALLOWED_METRICS_IPS='10.0.0.0/99': want addresses or networks"),
        ({"OTEL_TRACES_SAMPLER_ARG": "2"}, "OTEL_TRACES_SAMPLER_ARG='2': Input should be less than or equal to 1"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_TRACES_SAMPLER": "some"},
            "OTEL_TRACES_SAMPLER='some': want one of always_on",
        ),
        ({"OTEL_PROPAGATORS": "b4"}, "OTEL_PROPAGATORS='b4': 'b4' is not installed; want none or any of baggage, "),
        (
            {"OTEL_PROPAGATORS": "b4", "OTEL_SDK_DISABLED": "true"},
            "OTEL_PROPAGATORS='b4': 'b4' is not installed; want none or any of baggage, ",
        ),
        (
            {"TRACING": "instrumentation", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis, fastapi"},
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS='redis, fastapi': want a list without fastapi, or tracing='layer'",
        ),
        ({"DATABASE_URL": "mysql://u:hidden@h/d"}, "DATABASE_URL: want a URL that starts with postgresql://"),
        ({"RATE_LIMIT_AI": "often"}, "RATE_LIMIT_AI='often': want a count and a period such as 30/minute"),
    ],
)
def test_a_bad_value_is_named_with_the_form_that_is_wanted(
    tmp_path: Path, addresses: dict[str, str], environment: dict[str, str], message: str
) -> None:
    output = refused(tmp_path, **{**addresses, **environment})
    assert output.startswith(message)
    assert output.count("\n") == 0
    assert "hidden" not in output


@pytest.mark.parametrize("name", ["DATABASE_URL", "REDIS_URL"])
def test_production_needs_an_address_of_each_server(tmp_path: Path, addresses: dict[str, str], name: str) -> None:
    output = refused(tmp_path, **{**addresses, name: ""})
    assert output == f"{name} is not set: production has no embedded server"


@pytest.mark.parametrize("name", ["PORT", "METRICS_PORT"])
def test_a_busy_port_is_named(tmp_path: Path, addresses: dict[str, str], name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        output = refused(tmp_path, **{**addresses, name: port})
    assert output == f"{name}={port}: Address already in use (127.0.0.1): want a free port"


def test_a_host_that_is_none_is_named(tmp_path: Path, addresses: dict[str, str]) -> None:
    output = refused(tmp_path, **addresses, METRICS_HOST="no host")
    assert output.startswith("METRICS_HOST='no host': ")


def test_one_port_cannot_be_both(tmp_path: Path, addresses: dict[str, str]) -> None:
    output = refused(tmp_path, **addresses, PORT="18999", METRICS_PORT="18999")
    assert output == "METRICS_PORT=18999: want a port other than PORT"


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path, addresses: dict[str, str]) -> None:
    (tmp_path / "file").write_text("")
    directory = str(tmp_path / "file" / "metrics")
    output = refused(tmp_path, **addresses, PROMETHEUS_MULTIPROC_DIR=directory)
    assert output == (
        f"error directory-not-writable: PROMETHEUS_MULTIPROC_DIR={directory!r} cannot be written to; "
        "no metric is stored; instead: a directory that the service's user owns"
    )


def test_the_service_has_no_finding_unless_spans_are_asked_for_without_a_collector(
    tmp_path: Path, addresses: dict[str, str]
) -> None:
    with service(tmp_path, **addresses) as running:
        assert running.stop() == 0
        assert "doctor_finding" not in running.output
    with service(tmp_path, **addresses, OTEL_TRACES_SAMPLER_ARG="0.5") as running:
        assert running.stop() == 0
        assert running.output.count('"event":"doctor_finding"') == 1
        assert '"code":"tracing-without-endpoint"' in running.output


def test_two_services_do_not_count_in_one_directory(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses) as running:
        second = tmp_path / "second"
        second.mkdir()
        directory = str(running.metrics_directory)
        output = refused(second, **addresses, PROMETHEUS_MULTIPROC_DIR=directory)
        assert output == (
            f"PROMETHEUS_MULTIPROC_DIR={directory!r}: another service counts there: want a directory of its own"
        )
        assert running.total("baliblissed_workers", state="live") == 2


def test_files_of_an_earlier_service_are_not_counted_again(tmp_path: Path, addresses: dict[str, str]) -> None:
    with service(tmp_path, **addresses) as running:
        for _ in range(5):
            running.get("/health/live")
        assert running.total("http_requests_total", handler="/health/live") == 5
    with service(tmp_path, **addresses) as running:
        assert running.total("http_requests_total", handler="/health/live") == 0


def test_embedded_servers_that_cannot_start_are_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("a file where the directory should be")
    output = refused(tmp_path, ENVIRONMENT="development", DATA_DIRECTORY=str(data))
    assert "File exists" in output
    assert output.count("\n") == 0
