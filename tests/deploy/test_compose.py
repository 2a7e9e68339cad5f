"""docker-compose.yaml as docker-compose reads it, against the settings, the image and the files it mounts."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app import __version__
from app.api import health
from app.monitoring.health import GRACE_SECONDS
from app.settings import ROOT, Settings, load_settings
from tests.deploy.conftest import COMPOSE, SECRETS, STANDIN, Answering, Service, compose_config, gunicorn, run

Services = dict[str, Service]
WATCHING = {"otel-collector", "jaeger", "prometheus", "alertmanager", "alert-receiver", "grafana"}
SERVING = {"backend", "postgres", "redis"}
OTLP_RECEIVER = "--web.enable-otlp-receiver"
# In Jaeger's memory, of a request with eight spans (4.9 KB as OTLP): measured on Jaeger 2.13 with 40,000 of them.
TRACE_BYTES = 15 * 1024


def mounts(service: Service) -> dict[str, str]:
    """Return paths in the repository by their mount point in the container."""
    bound = (volume for volume in service.get("volumes", []) if volume["type"] == "bind")
    return {volume["target"]: str(Path(volume["source"]).relative_to(ROOT)) for volume in bound}


def test_the_parts_are_the_service_its_databases_and_what_watches_it(services: Services) -> None:
    assert services.keys() == SERVING | WATCHING


LOOPBACK = {("prometheus", 9090), ("alertmanager", 9093), ("alert-receiver", 9095)}


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


def test_links_of_notifications_lead_to_the_published_ports(services: Services) -> None:
    for name, port in (("prometheus", 9090), ("alertmanager", 9093)):
        assert f"--web.external-url=http://localhost:{port}" in services[name]["command"]


def test_prometheus_keeps_the_error_budgets_window_within_a_size(services: Services) -> None:
    command = services["prometheus"]["command"]
    (time,) = [word.partition("time=")[2] for word in command if word.startswith("--storage.tsdb.retention.time=")]
    assert int(time.removesuffix("d")) >= 32, "the error budget is of 30 days"
    (size,) = [word.partition("size=")[2] for word in command if word.startswith("--storage.tsdb.retention.size=")]
    assert re.fullmatch(r"\d+GB", size)


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


def test_the_collector_is_the_release_that_the_slim_one_is_built_from(services: Services) -> None:
    manifest = yaml.safe_load((ROOT / "monitoring/otel-collector/builder-config.yaml").read_text())
    version = manifest["dist"]["version"]
    assert services["otel-collector"]["image"] == f"otel/opentelemetry-collector-contrib:{version}"


def test_every_service_has_a_health_check(services: Services) -> None:
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name


def test_no_service_has_more_rights_or_room_than_it_needs(services: Services) -> None:
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        assert service["logging"]["options"]["max-size"], name
        assert int(service["logging"]["options"]["max-file"]) <= 5, name


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


def test_grafana_takes_its_password_and_address_and_nobody_signs_up(services: Services) -> None:
    environment = services["grafana"]["environment"]
    assert environment["GF_SECURITY_ADMIN_PASSWORD"] == SECRETS["GRAFANA_ADMIN_PASSWORD"]
    assert environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    other = compose_config("docker-compose.yaml", GRAFANA_ROOT_URL="https://grafana.example/")["services"]["grafana"]
    assert other["environment"]["GF_SERVER_ROOT_URL"] == "https://grafana.example/"


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


def test_prometheus_scrapes_the_metrics_port_and_reaches_alertmanager(services: Services) -> None:
    service = services["prometheus"]
    assert mounts(service) == {
        "/etc/prometheus/prometheus.yml": "monitoring/prometheus.yml",
        "/etc/prometheus/rules": "monitoring/rules",
    }
    assert "--config.file=/etc/prometheus/prometheus.yml" in service["command"]
    assert "--enable-feature=exemplar-storage" in service["command"]
    config = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())
    targets = {
        target for job in config["scrape_configs"] for group in job["static_configs"] for target in group["targets"]
    }
    assert f"backend:{Settings().metrics_port}" in targets
    hosts = {target.partition(":")[0] for target in targets} - {"localhost"}
    assert hosts <= services.keys(), "a target that is no service here"
    (peers,) = config["alerting"]["alertmanagers"][0]["static_configs"]
    assert peers["targets"] == ["alertmanager:9093"]


def test_spans_go_to_the_collector_and_from_there_to_jaeger(services: Services) -> None:
    endpoint = services["backend"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert endpoint == "http://otel-collector:4317"
    place, file = next(iter(mounts(services["otel-collector"]).items()))
    assert f"--config={place}" in services["otel-collector"]["command"]
    assert f"--config={place}" in services["otel-collector"]["healthcheck"]["test"]
    config = (ROOT / file).read_text()
    assert ":4317" in config
    assert "jaeger:4317" in config


def test_the_traces_that_jaeger_keeps_fit_into_its_memory(services: Services) -> None:
    jaeger = services["jaeger"]
    (place, file), *_ = mounts(jaeger).items()
    assert jaeger["command"] == [f"--config={place}"]
    config = yaml.safe_load((ROOT / file).read_text())
    name = config["exporters"]["jaeger_storage_exporter"]["trace_storage"]
    kept = config["extensions"]["jaeger_storage"]["backends"][name]["memory"]["max_traces"]
    limit, go = int(jaeger["mem_limit"]), int(jaeger["environment"]["GOMEMLIMIT"].removesuffix("MiB")) * 2**20
    assert kept * 2 * TRACE_BYTES <= go < 0.8 * limit
    assert config["extensions"]["jaeger_query"]["storage"]["traces"] == name


def test_jaeger_listens_where_the_collector_grafana_and_its_health_check_ask(services: Services) -> None:
    config = yaml.safe_load((ROOT / "monitoring/jaeger/config.yaml").read_text())
    assert config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"] == "0.0.0.0:4317"
    sources = yaml.safe_load((ROOT / "monitoring/grafana/provisioning/datasources/datasources.yaml").read_text())
    (source,) = [source for source in sources["datasources"] if source["type"] == "jaeger"]
    assert (
        source["url"] == f"http://jaeger:{config['extensions']['jaeger_query']['http']['endpoint'].partition(':')[2]}"
    )
    health = config["extensions"]["healthcheckv2"]["http"]["endpoint"].replace("0.0.0.0", "127.0.0.1")  # noqa: S104
    assert services["jaeger"]["healthcheck"]["test"][-1] == f"http://{health}/status"


def test_span_metrics_go_to_prometheus_which_takes_them(services: Services) -> None:
    config = yaml.safe_load((ROOT / "monitoring/otel-collector/config.yaml").read_text())
    assert config["exporters"]["otlp_http"]["endpoint"] == "http://prometheus:9090/api/v1/otlp"
    assert OTLP_RECEIVER in services["prometheus"]["command"]


def test_grafana_finds_its_provisioning_and_the_dashboards(services: Services) -> None:
    assert mounts(services["grafana"]) == {
        "/etc/grafana/provisioning": "monitoring/grafana/provisioning",
        "/etc/grafana/dashboards": "monitoring/grafana/dashboards",
    }


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
        if name in {"postgres", "prometheus", "alertmanager", "grafana"}
    }
    assert places == {
        # The image of 18 keeps its data in a directory of the release below this one: a mount further down stays empty.
        "postgres": ["/var/lib/postgresql"],
        "prometheus": ["/prometheus"],
        "alertmanager": ["/alertmanager"],
        "grafana": ["/var/lib/grafana"],
    }
    assert "--storage.tsdb.path=/prometheus" in services["prometheus"]["command"]
    assert "--storage.path=/alertmanager" in services["alertmanager"]["command"]


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
