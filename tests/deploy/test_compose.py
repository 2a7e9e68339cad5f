"""docker-compose.yaml as docker-compose reads it, against the settings, the image and the files it mounts."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app import __version__
from app.api import health
from app.monitoring.health import GRACE_SECONDS
from app.settings import ROOT, Settings, load_settings
from tests.deploy.conftest import (
    COMPOSE,
    OTLP_RECEIVER,
    SECRETS,
    STANDIN,
    Answering,
    Service,
    compose_config,
    gunicorn,
    mounts,
    run,
)

Services = dict[str, Service]
WATCHING = {"otel-collector", "jaeger", "prometheus", "alertmanager", "alert-receiver", "victorialogs", "grafana"}
SERVING = {"backend", "postgres", "redis"}


def test_the_parts_are_the_service_its_databases_and_what_watches_it(services: Services) -> None:
    assert services.keys() == SERVING | WATCHING


LOOPBACK = {
    ("prometheus", 9090),
    ("alertmanager", 9093),
    ("alert-receiver", 9095),
    ("victorialogs", 9428),
    ("victorialogs", 5140),
}


def published(services: Services) -> set[tuple[str, str, int]]:
    """Return services with the address and the port that each is published on."""
    return {
        (name, port["host_ip"], int(port["published"]))
        for name, service in services.items()
        for port in service.get("ports", [])
    }


def test_what_is_published_is_on_the_loopback_address(services: Services) -> None:
    chosen = {("backend", Settings().port), ("grafana", 3000)}
    assert published(services) == {(name, "127.0.0.1", port) for name, port in chosen | LOOPBACK}


def test_the_address_of_the_api_and_grafana_is_a_choice_and_no_others() -> None:
    elsewhere = published(compose_config("docker-compose.yaml", PUBLISH_ADDRESS="0.0.0.0")["services"])  # noqa: S104
    assert {name for name, address, _ in elsewhere if address == "0.0.0.0"} == {"backend", "grafana"}  # noqa: S104
    assert {(name, port) for name, address, port in elsewhere if address == "127.0.0.1"} == LOOPBACK


def test_the_backend_waits_for_postgres_and_redis_and_for_nothing_that_watches(services: Services) -> None:
    waits = services["backend"]["depends_on"]
    assert {name: wait["condition"] for name, wait in waits.items()} == {
        "postgres": "service_healthy",
        "redis": "service_healthy",
    }
    assert not any("depends_on" in services[name] for name in waits)


def test_every_image_is_pinned_to_a_release(services: Services) -> None:
    for service in services.values():
        assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+(\.\d+)?", service["image"]), service["image"]
    assert services["backend"]["image"] == f"baliblissed/backend:{__version__}"
    assert services["postgres"]["image"].startswith("postgres:18.")
    assert services["redis"]["image"].startswith("redis:8.")
    assert services["prometheus"]["image"].startswith("prom/prometheus:v3.")


def test_no_service_has_more_rights_or_room_than_it_needs(services: Services) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name


def test_every_service_comes_back_after_a_crash_and_a_reboot(services: Services) -> None:
    assert {service["restart"] for service in services.values()} == {"unless-stopped"}


def test_postgresql_has_connections_for_every_worker_and_time_to_stop(services: Services) -> None:
    defaults = Settings.model_fields
    command = services["postgres"]["command"]
    most = int(command[command.index("-c") + 1].removeprefix("max_connections="))
    workers = 16  # of a large machine, in the one container there is
    assert most - 3 >= workers * defaults["database_pool_size"].default
    assert duration(services["postgres"]["stop_grace_period"]) >= 30, "a killed server recovers before it answers"


def duration(text: str) -> int:
    """Return the seconds of a duration as docker-compose prints it, such as 1m0s."""
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert found, text
    return 60 * int(found[1] or 0) + int(found[2] or 0)


def test_the_databases_are_reached_by_the_backend_only(compose: dict[str, Any], services: Services) -> None:
    within = {
        network: {name for name, service in services.items() if network in service["networks"]}
        for network in compose["networks"]
    }
    assert within == {"data": SERVING, "monitoring": services.keys() - {"postgres", "redis"}}
    assert compose["networks"]["data"]["internal"] is True, "a way out"
    # An engine publishes nothing of an internal network.
    assert {name for name, _, _ in published(services)} <= within["monitoring"]


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_a_password_that_is_not_set_stops_the_start_and_is_named(missing: str) -> None:
    given = {name: value for name, value in SECRETS.items() if name != missing}
    done = run(COMPOSE, "--env-file", "/dev/null", "-f", "docker-compose.yaml", "config", "--quiet", environment=given)
    assert done.returncode != 0
    assert missing in done.stderr


def test_the_service_accepts_what_it_is_given(services: Services, production: Callable[..., None]) -> None:
    given = services["backend"]["environment"]
    assert {name.lower() for name in given} <= Settings.model_fields.keys()
    production(**{name: value for name, value in given.items() if value is not None})
    settings = load_settings()
    assert settings.traces_exporter == "otlp"
    assert [str(network) for network in settings.allowed_metrics_ips] == ["127.0.0.1/32"]


def test_what_is_not_set_is_not_passed_on_as_an_empty_value(services: Services) -> None:
    # gunicorn itself reads WEB_CONCURRENCY, and an empty one ends it with a traceback.
    assert services["backend"]["environment"]["WEB_CONCURRENCY"] is None
    assert "" not in services["backend"]["environment"].values()


def test_the_document_names_every_variable_that_is_passed_on(services: Services) -> None:
    document = (ROOT / "docs" / "deploy-docker.md").read_text()
    (sentence,) = re.findall(r"^(`WEB_CONCURRENCY`.+?) reach the service", document, re.MULTILINE | re.DOTALL)
    passed_on = {name for name, value in services["backend"]["environment"].items() if value is None}
    assert set(re.findall(r"`(\w+)`", sentence)) == passed_on
    asked_for = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "docker-compose.yaml").read_text()))
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", document, re.MULTILINE)) == asked_for


def test_a_password_for_the_url_can_be_encoded_apart() -> None:
    backend = compose_config("docker-compose.yaml", POSTGRES_PASSWORD="p@ss", POSTGRES_PASSWORD_URL="p%40ss")
    url = backend["services"]["backend"]["environment"]["DATABASE_URL"]
    assert url == "postgresql://baliblissed:p%40ss@postgres:5432/baliblissed"
    assert backend["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"] == "p@ss"


def test_the_backend_can_write_to_its_metrics_and_temporary_directories_only(
    services: Services, image_environment: dict[str, str], dockerfile: list[tuple[str, str]]
) -> None:
    backend = services["backend"]
    places = {mount.partition(":")[0] for mount in backend["tmpfs"]}
    assert backend["read_only"] is True
    assert places == {image_environment["PROMETHEUS_MULTIPROC_DIR"], "/tmp"}  # noqa: S108 -- in the container
    assert "volumes" not in backend
    assert all("size=" in mount for mount in backend["tmpfs"]), "memory without a limit"
    (metrics,) = (mount for mount in backend["tmpfs"] if mount.startswith("/run/metrics:"))
    user, _, group = dict(dockerfile)["USER"].partition(":")
    assert {"mode=0700", f"uid={user}", f"gid={group}"} <= set(metrics.partition(":")[2].split(","))
    assert backend["ulimits"]["nofile"] == {"soft": 16384, "hard": 16384}, "one a connection"


def test_ports_and_times_are_those_of_gunicorn(
    services: Services, image_environment: dict[str, str], tmp_path: Path
) -> None:
    backend = services["backend"]
    given = {name: value for name, value in backend["environment"].items() if value is not None}
    image = {name: value for name, value in image_environment.items() if name != "PATH"}
    shown = gunicorn(image | given | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)})
    assert shown["bind"] == f"['0.0.0.0:{backend['ports'][0]['target']}']"
    grace = float(backend["stop_grace_period"].removesuffix("s"))
    assert grace == float(given["KILL_TIMEOUT"]) > float(shown["graceful_timeout"])


def test_the_backend_is_healthy_when_it_is_ready(services: Services) -> None:
    program = services["backend"]["healthcheck"]["test"][-1]
    assert "'/health/ready'" in program
    assert f", {Settings().port}, " in program
    assert "/health/ready" in {getattr(route, "path", None) for route in health.router.routes}


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_backend_s_health_check_says_what_readiness_says(
    services: Services, answering: Answering, status: int, code: int
) -> None:
    (python, *arguments) = services["backend"]["healthcheck"]["test"][1:]
    assert python == "python"
    port, paths = answering(status)
    done = run(sys.executable, *(argument.replace(f", {Settings().port}, ", f", {port}, ") for argument in arguments))
    assert done.returncode == code
    assert paths == ["/health/ready"]


def test_the_backend_s_health_check_waits_longer_than_readiness_may_take(services: Services) -> None:
    check = services["backend"]["healthcheck"]
    (own,) = re.findall(r", timeout=(\d+)\)", check["test"][-1])
    slowest = max(health.DATABASE_TIMEOUT, health.REDIS_TIMEOUT, health.AI_TIMEOUT, health.LOCAL_TIMEOUT)
    assert slowest + GRACE_SECONDS < int(own) < duration(check["timeout"])


def test_postgres_is_asked_by_tcp_and_not_by_the_socket_of_its_set_up(services: Services) -> None:
    check = services["postgres"]["healthcheck"]["test"]
    assert check[1] == "pg_isready"
    assert "--host=127.0.0.1" in check


def test_everything_that_is_mounted_exists(services: Services) -> None:
    # An engine makes a directory of what is missing, and the program in the container fails on it in its own words.
    sources = {source for service in services.values() for source in mounts(service).values()}
    assert {source for source in sources if not (ROOT / source).exists()} == set()


def test_every_volume_has_a_name_and_a_user(compose: dict[str, Any], services: Services) -> None:
    used = {
        volume["source"]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume["type"] == "volume"
    }
    assert used == compose["volumes"].keys()


def test_what_is_kept_is_written_to_a_volume(services: Services) -> None:
    places = {
        name: [volume["target"] for volume in service["volumes"] if volume["type"] == "volume"]
        for name, service in services.items()
        if name in {"postgres", "prometheus", "alertmanager", "victorialogs", "grafana"}
    }
    assert places == {
        # The image of 18 keeps its data in a directory of the release below this one: a mount further down stays empty.
        "postgres": ["/var/lib/postgresql"],
        "prometheus": ["/prometheus"],
        "alertmanager": ["/alertmanager"],
        "victorialogs": ["/victoria-logs-data"],
        "grafana": ["/var/lib/grafana"],
    }
    assert "--storage.tsdb.path=/prometheus" in services["prometheus"]["command"]
    assert "--storage.path=/alertmanager" in services["alertmanager"]["command"]
    assert "-storageDataPath=/victoria-logs-data" in services["victorialogs"]["command"]


def test_the_stand_ins_keep_commands_limits_and_health_checks(services: Services) -> None:
    standins = compose_config("docker-compose.yaml", STANDIN)["services"]
    assert standins.keys() == SERVING | {"prometheus", "alertmanager", "alert-receiver"}
    for name, service in standins.items():
        for part in ("volumes", "tmpfs", "read_only", "cap_drop", "mem_limit"):
            assert service.get(part) == services[name].get(part), (name, part)
        command = [word for word in services[name].get("command") or [] if word != OTLP_RECEIVER]
        assert (service.get("command") or []) == command, name
        if name != "prometheus":
            assert service["healthcheck"] == services[name]["healthcheck"], name
