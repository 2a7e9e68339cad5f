"""Fixtures that parse the Dockerfile, the compose file (by `docker-compose config`) and gunicorn_conf.py."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT

BIN = Path(sys.executable).parent
COMPOSE, HADOLINT = BIN / "docker-compose", BIN / "hadolint"
SECRETS = {
    "POSTGRES_PASSWORD": "a-password",
    "REDIS_PASSWORD": "one-more",
    "GRAFANA_ADMIN_PASSWORD": "another-one",
}
STANDIN = Path("tests/deploy/compose.standin.yaml")
OTLP_RECEIVER = "--web.enable-otlp-receiver"
Run = subprocess.CompletedProcess[str]
Service = dict[str, Any]
Answering = Callable[[int], tuple[int, list[str]]]


def run(*command: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 60) -> Run:
    """Run a program in the repository with a minimal environment plus `environment`. Do not check its exit status."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "DOCKER_HOST") if name in os.environ}
    argv = [str(part) for part in command]
    return subprocess.run(
        argv, cwd=ROOT, env=kept | dict(environment or {}), capture_output=True, text=True, timeout=timeout, check=False
    )


def gunicorn(environment: dict[str, str]) -> dict[str, str]:
    """Return the output of `gunicorn --print-config` in an environment, by setting."""
    done = run(BIN / "gunicorn", "--print-config", "-c", "gunicorn_conf.py", environment=environment)
    assert done.returncode == 0, done.stderr
    pairs = (line.partition("=") for line in done.stdout.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def compose_config(*files: str | Path, **environment: str) -> dict[str, Any]:
    """Return the output of `docker-compose config` for the compose files."""
    named = [part for file in files for part in ("-f", file)]
    # An empty file replaces .env, which holds the developer's own settings.
    done = run(
        COMPOSE, "--env-file", os.devnull, *named, "config", "--format", "json", environment=SECRETS | environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a warning is a finding"
    config: dict[str, Any] = json.loads(done.stdout)
    return config


def mounts(service: Service) -> dict[str, str]:
    """Return paths in the repository by their mount point in the container."""
    bound = (volume for volume in service.get("volumes", []) if volume["type"] == "bind")
    return {volume["target"]: str(Path(volume["source"]).relative_to(ROOT)) for volume in bound}


@pytest.fixture(scope="session")
def compose() -> dict[str, Any]:
    """Return the configuration of the shipped compose file."""
    return compose_config("docker-compose.yaml")


@pytest.fixture(scope="session")
def services(compose: dict[str, Any]) -> dict[str, Service]:
    """Return the services of the shipped compose file by name."""
    found: dict[str, Service] = compose["services"]
    return found


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments, with comments removed and lines joined."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [
        (name.upper(), " ".join(rest.split())) for name, _, rest in (line.strip().partition(" ") for line in joined)
    ]


@pytest.fixture(scope="session")
def dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the backend's Dockerfile."""
    return instructions(ROOT / "Dockerfile")


@pytest.fixture(scope="session")
def image_environment(dockerfile: list[tuple[str, str]]) -> dict[str, str]:
    """Return the variables that the last stage of the image sets."""
    last = len(dockerfile) - [name for name, _ in reversed(dockerfile)].index("FROM")
    words = [word for name, rest in dockerfile[last:] if name == "ENV" for word in rest.split()]
    return dict(word.split("=", 1) for word in words)


@pytest.fixture
def production(image_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets this process's environment to the image's and the given variables."""

    def set_environment(**given: str) -> None:
        for name, value in (image_environment | given).items():
            if name != "PATH":
                monkeypatch.setenv(name, value)

    return set_environment


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Yield a function that starts a server with a fixed status and returns its port and the requested paths."""
    servers = []

    def start(status: int) -> tuple[int, list[str]]:
        paths: list[str] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                paths.append(self.path)
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Do not log."""

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        return server.server_port, paths

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
