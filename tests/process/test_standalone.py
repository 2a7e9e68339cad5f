"""Workers without gunicorn: `uvicorn --workers` with the exporter as a sidecar, in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from app.monitoring.multiprocess import slots
from app.monitoring.refusal import BOOT_ERROR
from loadtest.programs import free_port
from tests.plain_http import plain
from tests.process.service import ROOT, gone, total, wait_for

APPLICATION = """
from fastapi import FastAPI

from app.monitoring import Observability

observability = Observability("shop", namespace="shop").start_worker()
orders = observability.counter("orders_total", "Orders.", ["country"])
app = FastAPI()


@app.get("/orders/{number}")
async def order(number: int) -> dict[str, int]:
    orders.labels("id").inc()
    return {"number": number}


observability.instrument(app)
"""
UVICORN = ["uvicorn", "shop.main:app", "--workers", "2"]


class Standalone:
    """One started process manager; `output` is what it and its workers have printed."""

    def __init__(self, directory: Path, environment: dict[str, str], command: list[str]) -> None:
        self.port, self._log = free_port(), directory / f"output-{free_port()}.log"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command, "--port", str(self.port)],
                cwd=directory,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def get(self) -> bool:
        try:
            return plain.get(f"http://127.0.0.1:{self.port}/orders/7", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    def records(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.output.splitlines() if line.startswith('{"')]

    def workers(self) -> set[object]:
        """Return the worker processes named in the output."""
        return {r["worker"] for r in self.records() if r["event"] == "Application startup complete."}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "main.py").write_text(APPLICATION)
    (tmp_path / "metrics").mkdir()
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        "METRICS_NAMESPACE": "shop",
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_TRACES_SAMPLER_ARG": "1",
    }


@contextmanager
def started(directory: Path, environment: dict[str, str], command: list[str]) -> Iterator[Standalone]:
    one = Standalone(directory, environment, command)
    family: list[psutil.Process] = []
    try:
        wait_for(lambda: len(one.workers()) == 2, "two workers")
        family = psutil.Process(one.process.pid).children(recursive=True)
        yield one
    finally:
        one.process.terminate()
        status = one.process.wait(30)
        for process in family:
            if not gone([process]):
                process.kill()
    assert status == 0, one.output


@contextmanager
def sidecar(environment: dict[str, str]) -> Iterator[str]:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "app.monitoring.exporter", "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            yield f"http://127.0.0.1:{port}/metrics"
        finally:
            process.terminate()
            assert process.wait(30) == 0


def test_uvicorns_workers_count_exactly_through_a_kill_and_leave_cleanly(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with sidecar(environment) as metrics:
        with started(tmp_path, environment, UVICORN) as one:
            wait_for(one.get, "the application")
            asked = 1 + sum(one.get() for _ in range(20))
            psutil.Process(int(str(next(iter(one.workers()))))).kill()
            wait_for(lambda: len(one.workers()) == 3, "a worker in place of the killed one")
            asked += sum(one.get() for _ in range(20))
            text = plain.get(metrics, timeout=10).text
            assert total(text, "shop_orders_total") == asked
            assert total(text, "http_requests_total", handler="/orders/{number}", status="200") == asked
            for slot in ("0", "1", "exporter"):
                assert total(text, "process_resident_memory_bytes", worker=slot) > 0
            assert total(text, "process_resident_memory_bytes", worker="2") == 0
            assert {r["route"] for r in one.records() if r["logger"] == "access"} == {"/orders/{number}"}
            assert all(r["trace_id"] for r in one.records() if r["logger"] == "access")
        assert total(plain.get(metrics, timeout=10).text, "shop_orders_total") == asked
    assert one.output.count('"http.route": "/orders/{number}"') > 0
    assert "Application shutdown complete." in {record["event"] for record in one.records()}


def test_a_step_of_the_system_clock_keeps_the_totals(tmp_path: Path, environment: dict[str, str]) -> None:
    stepped = tmp_path / "stepped"
    # The time of day at which a process has started is computed from the clock, so it moves with the clock.
    (tmp_path / "shop" / "main.py").write_text(
        f"""
import pathlib
import psutil

if pathlib.Path({str(stepped)!r}).exists():
    create_time = psutil.Process.create_time
    psutil.Process.create_time = lambda process: create_time(process) + 3600
{APPLICATION}"""
    )
    with sidecar(environment) as metrics, started(tmp_path, environment, UVICORN) as one:
        wait_for(one.get, "the application")
        stepped.touch()
        for number in one.workers():
            psutil.Process(int(str(number))).kill()
        wait_for(lambda: len(one.workers()) == 4, "successors of both workers")
        assert total(plain.get(metrics, timeout=10).text, "shop_orders_total") == 1


def test_a_second_start_begins_at_zero_and_a_second_service_is_refused(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with sidecar(environment) as metrics:
        with started(tmp_path, environment, UVICORN) as one:
            assert wait_for(one.get, "the application")
        with started(tmp_path, environment, UVICORN) as other:
            wait_for(other.get, "the application")
            assert total(plain.get(metrics, timeout=10).text, "shop_orders_total") == 1
            done = subprocess.run(
                [sys.executable, "-c", "import shop.main"],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 1
            # The line of an exception that nothing caught.
            assert (
                f"process {other.process.pid} counts there: want a directory of its own" in done.stdout
            )  # the line of an exception that nothing caught


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"OTEL_PROPAGATORS": "b4"}, "OTEL_PROPAGATORS='b4': 'b4' is not installed; want none or any of baggage, "),
        ({"OTEL_TRACES_SAMPLER": "some"}, "OTEL_TRACES_SAMPLER='some': want one of always_on, "),
    ],
)
def test_a_variable_of_opentelemetry_that_cannot_be_honoured_ends_uvicorn_with_one_line(
    tmp_path: Path, environment: dict[str, str], variables: dict[str, str], line: str
) -> None:
    # FastAPI imports opentelemetry.propagate, which raises, so the call comes first.
    imported = "from fastapi import FastAPI\n"
    (tmp_path / "shop" / "main.py").write_text(
        APPLICATION.replace(imported, "").replace("orders =", f"{imported}orders =", 1)
    )
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "shop.main:app", "--no-proxy-headers", "--port", str(free_port())],
        cwd=tmp_path,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == BOOT_ERROR
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith(line)


def answers(url: str) -> bool:
    try:
        return plain.get(url, timeout=10).is_success
    except httpx.ConnectError:
        return False


def test_the_exporter_counts_live_and_configured_workers(tmp_path: Path, environment: dict[str, str]) -> None:
    with sidecar(environment) as metrics:

        def workers() -> tuple[float, float]:
            text = plain.get(metrics, timeout=10).text
            return total(text, "shop_workers", state="live"), total(text, "shop_workers", state="configured")

        wait_for(lambda: answers(metrics), "the exporter")
        assert "shop_workers{" not in plain.get(metrics, timeout=10).text
        with started(tmp_path, environment, UVICORN) as one:
            wait_for(lambda: workers() == (2, 2), "both workers")
            # A manager that is stopped replaces nobody.
            manager = psutil.Process(one.process.pid)
            manager.suspend()
            psutil.Process(int(str(next(iter(one.workers()))))).kill()
            wait_for(lambda: workers() == (1, 2), "the end of one")
            manager.resume()
            wait_for(lambda: workers() == (2, 2), "its successor")
        wait_for(lambda: workers() == (0, 2), "the end of both")


@pytest.mark.parametrize(
    ("variables", "command", "configured"),
    [
        ({"WEB_CONCURRENCY": "2"}, ["uvicorn", "shop.main:app"], 2),
        ({"UVICORN_WORKERS": "2", "WEB_CONCURRENCY": "3"}, ["uvicorn", "shop.main:app"], 2),
        ({"UVICORN_WORKERS": "3"}, ["uvicorn", "shop.main:app", "--workers=2"], 2),
    ],
)
def test_the_number_of_workers_is_taken_from_the_command_or_the_environment(
    tmp_path: Path, environment: dict[str, str], variables: dict[str, str], command: list[str], configured: int
) -> None:
    with started(tmp_path, environment | variables, command):
        found = slots.count(tmp_path / "metrics")
    assert found == slots.Workers(live=2, configured=configured)


@pytest.mark.parametrize(
    ("command", "peer"),
    [
        ([*UVICORN, "--no-proxy-headers"], "127.0.0.0/24"),
        (["fastapi", "run", "shop/main.py", "--workers", "2", "--no-proxy-headers"], "127.0.0.0/24"),
        # Uvicorn's own middleware replaces it before the layer; the doctor warns.
        (UVICORN, "203.0.113.0/24"),
        (["fastapi", "run", "shop/main.py", "--workers", "2"], "203.0.113.0/24"),
    ],
)
def test_the_peer_of_a_span_is_the_sockets_without_uvicorns_proxy_headers(
    tmp_path: Path, environment: dict[str, str], command: list[str], peer: str
) -> None:
    with started(tmp_path, environment, command) as one:
        wait_for(one.get, "the application")
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        answer = plain.get(f"http://127.0.0.1:{one.port}/orders/8", headers=forwarded, timeout=10)
        assert answer.status_code == 200
    assert '"client.address": "203.0.113.0/24"' in one.output
    found = [record["code"] for record in one.records() if record["event"] == "doctor_finding"]
    assert ("proxy-headers" in found) == ("--no-proxy-headers" not in command)
    (span,) = [text for text in one.output.split('"name": "') if '"url.path": "/orders/8"' in text]
    assert f'"network.peer.address": "{peer}"' in span


def test_variables_of_uvicorns_command_do_not_count_for_another_program() -> None:
    program = "from app.monitoring.server.uvicorn_command import configured_workers; print(configured_workers())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "UVICORN_WORKERS": "4"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "1\n"


def test_workers_and_exporter_load_without_gunicorn() -> None:
    program = (
        "import sys; sys.modules.update(dict.fromkeys(('gunicorn', 'gunicorn.glogging', 'uvicorn_worker')));"
        "import app.monitoring.exporter, app.monitoring.instrumentation, app.monitoring.server.standalone"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
