"""The steps of docs/adopting.md after the first one, on the shop."""

import os
import signal
from pathlib import Path

import psutil
import pytest

from loadtest.programs import free_port
from tests.adoption import page
from tests.adoption.running import Shop, running, send, serving
from tests.adoption.totals import ORDER, ROUND, check_totals
from tests.alerts.programs import require
from tests.process.service import gone, wait_for
from tests.wheel.environment import Environment


def adapted(commands: str, shop: Shop, prometheus_port: int = 9091) -> str:
    """Return the commands for this shop."""
    metrics = Path(shop.options["env"]["PROMETHEUS_MULTIPROC_DIR"])
    return page.adapted(
        commands, port=shop.port, metrics_port=shop.metrics_port, prometheus_port=prometheus_port, metrics=metrics
    )


class Alone(Shop):
    """A shop on Uvicorn's workers. `process` is their manager, and the exporter runs beside it."""

    size = 2

    def __init__(self, directory: Path, environment: Environment, variables: dict[str, str], commands: str) -> None:
        path = f"{environment.directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
        super().__init__(directory, environment, {**variables, "PATH": path})
        self.background = directory / "background"
        self.command = page.as_script(adapted(f"{commands.strip()} --port 8000", self), self.background)

    def workers(self) -> list[psutil.Process]:
        """Return the living processes that have logged the end of their start."""
        started = [line["worker"] for line in self.lines() if line["event"] == "Application startup complete."]
        living = [psutil.Process(pid) for pid in started if psutil.pid_exists(pid)]
        return [process for process in living if not gone([process])]

    def stop(self) -> int:
        """End the manager, then the exporter; return the status of the first."""
        status = super().stop()
        os.kill(int(self.background.read_text()), signal.SIGTERM)
        return status


@pytest.mark.parametrize("manager", ["uvicorn", "fastapi run"])
def test_without_gunicorn_totals_are_exact_through_a_kill(
    shop_directory: Path, shop_environment: Environment, stores: dict[str, str], manager: str
) -> None:
    (call,) = (line for line in page.listing("shop/alone.py").splitlines() if "start_worker()" in line)
    # The module that `instrument` stands in is the one for gunicorn, too.
    (shop_directory / "shop" / "alone.py").write_text(
        f"from prefork_observability import Observability\n\n{call}\n\nfrom shop.main import app\n"
    )
    *before, uvicorn = page.ALONE.strip().splitlines()
    last = uvicorn if manager == "uvicorn" else page.written(rf"{manager} .+?")
    if manager != "uvicorn":
        shop_environment.add("fastapi-cli")
    with serving(Alone(shop_directory, shop_environment, stores, "\n".join([*before, last]))) as shop:
        send(shop, ROUND)
        check_totals(shop, 1)
        victim = shop.workers()[0]
        victim.kill()
        wait_for(lambda: gone([victim]) and len(shop.workers()) == shop.size, "a worker in place of the killed one")
        send(shop, ROUND)
        check_totals(shop, 2)
        assert shop.total("process_resident_memory_bytes", worker="1") > 0
        assert shop.total("shop_system_memory_used_bytes") > 0
        assert shop.stop() == 0
    assert {line["route"] for line in shop.lines() if line["event"] == "request"} >= {ORDER, "/staff/shifts/{day}"}
    # The shop's own, of its Info and Enum.
    assert {line["code"] for line in shop.lines() if line["event"] == "doctor_finding"} == {"lost-kind"}


def test_the_load_test_finds_the_metrics_right_and_no_alert_but_watchdog(
    shop_directory: Path, shop_environment: Environment, stores: dict[str, str]
) -> None:
    require("promtool")
    require("prometheus")
    made = page.in_the_clone(page.GENERATE, shop_directory, os.environ)
    assert made.returncode == 0, made.stdout + made.stderr
    assert len(list((shop_directory / "dashboards").glob("*.json"))) == 6
    users = page.listing("shop/locustfile.py").replace('get("/things/kite"', 'post("/api/v1/orders/mask"')
    # A lower rate than the page's: on a busy machine an order takes longer than half a second, and the next is late.
    users = users.replace("constant_throughput(2)", "constant_throughput(0.5)").replace("/things/{name}", ORDER)
    (shop_directory / "shop" / "locustfile.py").write_text(users)
    port = free_port()
    with running(shop_directory, shop_environment, **stores) as shop:
        configuration = adapted(page.listing("prometheus.yml", "yaml"), shop, port).replace("15s", "1s")
        (shop_directory / "prometheus.yml").write_text(configuration)
        # The listing leaves Prometheus running.
        commands = "trap 'kill $!; wait' EXIT\n" + page.WATCH.replace("--seconds 600", "--seconds 4")
        done = page.in_the_clone(adapted(commands, shop, port), shop_directory, os.environ)
        assert shop.stop() == 0
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed  each bucket agrees with the clients' times" in done.stdout
    assert "passed  nothing but Watchdog fires: fired: ['Watchdog']" in done.stdout
