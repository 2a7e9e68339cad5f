"""The listings of docs/adopting.md, run with the built wheel."""

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from app.settings import ROOT
from loadtest.programs import free_port
from tests.alerts.programs import require
from tests.listings import blocks
from tests.plain_http import plain
from tests.process.service import total, wait_for

PAGE = (ROOT / "docs" / "adopting.md").read_text()
BIN = Path(sys.executable).parent


def written(form: str) -> str:
    """Return the one inline command of the page that has this form."""
    (found,) = set(re.findall(rf"`({form})`", PAGE.replace("\n", " ")))
    return str(found)


START, ASK, ALONE, GENERATE, LOAD, WATCH = blocks("adopting.md", "sh")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel, as an installer would lay it out."""
    directory = tmp_path_factory.mktemp("wheel")
    command = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(directory),
        str(ROOT / "app/monitoring"),
    ]
    subprocess.run([sys.executable, *command], check=True, timeout=120)
    with zipfile.ZipFile(next(directory.glob("*.whl"))) as wheel:
        wheel.extractall(directory / "site")
    return directory / "site"


class Shop:
    """A repository with the listings of the page, and nothing of this one."""

    def __init__(self, directory: Path, installed: Path) -> None:
        self.directory, self.port, self.metrics_port = directory, free_port(), free_port()
        self.metrics = directory / "metrics"
        self.prometheus_port = free_port()
        for listing in (*blocks("adopting.md", "python"), *blocks("adopting.md", "yaml")):
            if listing.startswith("# in "):
                continue
            file = directory / listing.splitlines()[0].removeprefix("# ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(listing)
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{installed}{os.pathsep}{directory}",
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            "PROMETHEUS_MULTIPROC_DIR": str(self.metrics),
            "WEB_CONCURRENCY": "2",
        }

    def adapted(self, commands: str) -> str:
        """The commands with this test's ports and directory."""
        own: dict[str, object] = {"8000": self.port, "9090": self.metrics_port, "9091": self.prometheus_port}
        own["/dev/shm/shop-metrics"] = self.metrics  # noqa: S108
        return re.sub(r"\b(?:8000|909[01])\b|/dev/shm/shop-metrics", lambda found: str(own[found[0]]), commands)

    @contextmanager
    def running(self, commands: str) -> Iterator[None]:
        """The commands in a shell whose last one is replaced by the server itself."""
        *before, last = self.adapted(commands).strip().splitlines()
        script = "\n".join([*before, f"echo ${{!:-}} > {self.directory}/background", f"exec {last}"])
        with (self.directory / "output.log").open("wb") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-euc", script],
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
            if background := (self.directory / "background").read_text().strip():
                os.kill(int(background), 15)
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

    def workers(self) -> list[int]:
        """Return every worker process that has started."""
        records = [json.loads(line) for line in self.output.splitlines() if line.startswith('{"')]
        return [record["worker"] for record in records if record["event"] == "Application startup complete."]

    def ask(self) -> str:
        done = subprocess.run(
            ["/bin/sh", "-euc", self.adapted(ASK)], env=self.environment, capture_output=True, text=True, check=True
        )
        name, _, exposition = done.stdout.partition("}")
        assert name == '{"name":"kite"'
        return exposition


@pytest.fixture
def shop(tmp_path: Path, installed: Path) -> Shop:
    return Shop(tmp_path, installed)


def test_the_five_minutes_make_a_service_with_exact_metrics(shop: Shop) -> None:
    with shop.running(START):
        text = shop.ask()
        assert total(text, "http_requests_total", handler="/things/{name}") == 2
        assert total(text, "shop_workers", state="live") == 2
        assert total(text, "shop_system_memory_used_bytes") > 0
    assert '"event":"hook_failed"' not in shop.output
    assert "doctor_finding" not in shop.output
    assert '"route":"/things/{name}"' in shop.output


@pytest.mark.parametrize("command", ["uvicorn", "fastapi run"])
def test_the_step_without_gunicorn_counts_exactly_through_a_kill(shop: Shop, command: str) -> None:
    *before, uvicorn = ALONE.strip().splitlines()
    last = uvicorn if command == "uvicorn" else written(rf"{command} .+?")
    with shop.running("\n".join([*before, f"{last} --port 8000"])):
        wait_for(lambda: len(shop.workers()) == 2, "two workers")
        asked = 1 + sum(shop.gets() for _ in range(20))
        psutil.Process(shop.workers()[0]).kill()
        wait_for(lambda: len(shop.workers()) == 3, "a worker in place of the killed one")
        asked += sum(shop.gets() for _ in range(20))
        text = shop.ask()
        assert total(text, "http_requests_total", handler="/things/{name}", status="200") == asked + 1
        assert total(text, "process_resident_memory_bytes", worker="1") > 0
        assert total(text, "shop_system_memory_used_bytes") > 0
    assert '"route":"/things/{name}"' in shop.output
    assert "doctor_finding" not in shop.output


def in_the_clone(shop: Shop, commands: str) -> subprocess.CompletedProcess[str]:
    """Run the commands of a listing where this repository is the clone."""
    environment = {**shop.environment, "OUTPUT": str(shop.directory), "SHOP": str(shop.directory)}
    script = shop.adapted(commands).replace(".venv/bin/python", sys.executable)
    return subprocess.run(
        ["/bin/sh", "-euc", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_dashboards_and_rules_are_made_and_accepted(shop: Shop) -> None:
    require("promtool")
    done = in_the_clone(shop, GENERATE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((shop.directory / "dashboards").iterdir())) == 2


def test_the_load_test_finds_the_metrics_of_the_listing_right(shop: Shop) -> None:
    with shop.running(START):
        done = in_the_clone(shop, LOAD.replace("--seconds 30", "--seconds 4"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed  each bucket agrees with the clients' times" in done.stdout
    assert done.stdout.count("passed") == 5


def test_the_load_test_finds_requests_that_its_users_name_wrongly(shop: Shop) -> None:
    users = shop.directory / "shop/locustfile.py"
    users.write_text(users.read_text().replace('name="/things/{name}"', 'name="/things"'))
    with shop.running(START):
        done = in_the_clone(shop, LOAD.replace("--seconds 30", "--seconds 2"))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED  each request is counted once" in done.stdout


def test_the_load_test_sees_that_no_alert_but_watchdog_fires(shop: Shop) -> None:
    require("promtool")
    require("prometheus")
    assert in_the_clone(shop, GENERATE).returncode == 0
    quicker = shop.directory / "prometheus.yml"
    quicker.write_text(shop.adapted(quicker.read_text()).replace("15s", "1s"))
    with shop.running(START):
        # The listing leaves Prometheus running.
        done = in_the_clone(shop, "trap 'kill $!; wait' EXIT\n" + WATCH.replace("--seconds 600", "--seconds 4"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed  nothing but Watchdog fires: fired: ['Watchdog']" in done.stdout


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
