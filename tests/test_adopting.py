"""The listings of docs/adopting.md, with the package installed as the page says; tests/adoption has its later steps."""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from loadtest.programs import free_port
from tests.adoption import page
from tests.listings import blocks
from tests.plain_http import plain
from tests.process.service import total, wait_for
from tests.wheel import environment
from tests.wheel.environment import SOURCE, Environment, plain_environment


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Return an environment in which the page's command has installed the package from a repository of these files."""
    repository = tmp_path_factory.mktemp("repository")
    shutil.copytree(SOURCE, repository / "app" / "monitoring", ignore=shutil.ignore_patterns("__pycache__"))
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "The package."]):
        command = ["git", "-c", "user.name=Shop", "-c", "user.email=shop@example.com", *arguments]
        subprocess.run(command, cwd=repository, check=True)
    made = environment.make(tmp_path_factory.mktemp("wheel"), extras=["gunicorn"])
    # The wheel's dependencies stay, so that pip needs no index; it builds with the installed back end.
    made.add("hatchling", "pip")
    assert made.run("-m", "pip", "uninstall", "--yes", "prefork-observability", cwd=repository).returncode == 0
    (requirement,) = re.findall(r'^pip install "(.+)"$', page.INSTALL, re.MULTILINE)
    address = re.sub(r"git\+https://[^#]+", f"git+{repository.as_uri()}", requirement)
    done = made.run("-m", "pip", "install", "--no-index", "--no-build-isolation", address, cwd=repository)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Successfully installed prefork-observability" in done.stdout
    return made


class Shop:
    """A repository with the listings of the page, and nothing of this one."""

    def __init__(self, directory: Path, installed: Environment) -> None:
        self.directory, self.port, self.metrics_port = directory, free_port(), free_port()
        self.metrics = directory / "metrics"
        for listing in (*blocks("adopting.md", "python"), *blocks("adopting.md", "yaml")):
            if listing.startswith("# in "):
                continue
            file = directory / listing.splitlines()[0].removeprefix("# ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(listing)
        self.environment = {
            **plain_environment(),
            "PATH": f"{installed.directory / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics),
            "WEB_CONCURRENCY": "2",
        }

    def adapted(self, commands: str) -> str:
        """Return the commands with this test's ports and directory."""
        return page.adapted(commands, port=self.port, metrics_port=self.metrics_port, metrics=self.metrics)

    @contextmanager
    def running(self, command: str) -> Iterator[None]:
        """Run the command in a shell that the server itself replaces."""
        with (self.directory / "output.log").open("wb") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-euc", f"exec {self.adapted(command).strip()}"],
                cwd=self.directory,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_for(lambda: self.answers(process), "the service")
            yield
        finally:
            process.terminate()
            status = process.wait(30)
        assert status == 0, self.output

    @property
    def output(self) -> str:
        return (self.directory / "output.log").read_text()

    def answers(self, process: subprocess.Popen[bytes]) -> bool:
        assert process.poll() is None, self.output
        return self.gets()

    def gets(self) -> bool:
        try:
            return plain.get(f"http://127.0.0.1:{self.port}/things/kite", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def ask(self) -> str:
        done = subprocess.run(
            ["/bin/sh", "-euc", self.adapted(page.ASK)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        name, _, exposition = done.stdout.partition("}")
        assert name == '{"name":"kite"'
        return exposition


@pytest.fixture
def shop(tmp_path: Path, installed: Environment) -> Shop:
    return Shop(tmp_path, installed)


def test_the_package_comes_from_the_repository(installed: Environment) -> None:
    (record,) = installed.packages.glob("prefork_observability-*.dist-info/direct_url.json")
    origin = json.loads(record.read_text())
    assert origin["vcs_info"]["vcs"] == "git"
    assert origin["subdirectory"] == "app/monitoring"


def test_the_five_minutes_make_a_service_with_exact_metrics(shop: Shop) -> None:
    with shop.running(page.START):
        text = shop.ask()
        assert total(text, "http_requests_total", handler="/things/{name}") == 2
        assert total(text, "shop_workers", state="live") == 2
        assert total(text, "shop_system_memory_used_bytes") > 0
    assert '"event":"hook_failed"' not in shop.output
    assert "doctor_finding" not in shop.output
    assert '"route":"/things/{name}"' in shop.output


def test_the_load_test_finds_requests_that_its_users_name_wrongly(shop: Shop) -> None:
    users = shop.directory / "shop/locustfile.py"
    users.write_text(users.read_text().replace('name="/things/{name}"', 'name="/things"'))
    with shop.running(page.START):
        load = shop.adapted(page.LOAD.replace("--seconds 30", "--seconds 2"))
        done = page.in_the_clone(load, shop.directory, os.environ)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED  each request is counted once" in done.stdout


def get(shop: Shop, path: str) -> httpx.Response:
    return plain.get(f"http://127.0.0.1:{shop.port}{path}", timeout=10)


def test_the_pod_s_command_with_its_variables_answers_the_probes(shop: Shop) -> None:
    (fragment,) = [one for one in blocks("adopting.md", "python") if one.startswith("# in shop/main.py")]
    main = shop.directory / "shop/main.py"
    above, below = main.read_text().split("app = FastAPI()\n")
    main.write_text(f"{above}app = FastAPI()\n{fragment}{below}")
    deployment, *_ = yaml.safe_load_all((shop.directory / "shop.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    with socket.create_server(("127.0.0.1", 0)) as database:
        address = f"postgresql://127.0.0.1:{database.getsockname()[1]}/shop"
        shop.environment |= given | {"PROMETHEUS_MULTIPROC_DIR": str(shop.metrics), "DATABASE_URL": address}
        with shop.running(shlex.join(container["command"])):
            asked = {container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
            assert {path: get(shop, path).status_code for path in asked} == dict.fromkeys(asked, 200)
            database.close()
            answer = get(shop, "/health/ready")
            assert answer.status_code == 503
            assert answer.json()["checks"]["database"]["error"] == "the database cannot be reached"
            assert get(shop, "/health/live").status_code == 200
            assert total(shop.ask(), "shop_workers", state="live") == int(given["WEB_CONCURRENCY"])
    assert "doctor_finding" not in shop.output
