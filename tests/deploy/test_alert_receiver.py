"""The receiver of notifications, run as docker-compose.yaml gives it, with messages in Alertmanager's format."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.settings import ROOT
from loadtest.programs import free_port
from monitoring.notifications import receiver
from tests.deploy.conftest import Service, run
from tests.plain_http import plain
from tests.process.service import PATIENCE, wait_for

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LABELS = {"alertname": "HighErrorRate", "severity": "critical", "service": "baliblissed"}
ANNOTATIONS = {
    "summary": "5% <b>fail</b>",
    "description": "7.1% of the requests",
    "runbook_url": "https://runbooks.example/HighErrorRate",
    "dashboard_url": "javascript:alert(1)",
}


def message(status: str = "firing", **labels: str) -> dict[str, Any]:
    """Return a message in the format of Alertmanager's webhooks (version 4)."""
    alert = {
        "status": status,
        "labels": LABELS | labels,
        "annotations": ANNOTATIONS,
        "startsAt": "2026-11-28T11:59:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://localhost:9090/graph?g0.expr=up",
        "fingerprint": "1",
    }
    return {"version": "4", "status": status, "receiver": "alerts", "alerts": [alert]}


class Running:
    """A started receiver: its address, and what it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process, self.url, self._log = process, url, log

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]


@pytest.fixture(scope="module")
def running(services: dict[str, Service], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Yield the receiver, started by the container's command in the environment that the container has."""
    service = services["alert-receiver"]
    (volume,) = service["volumes"]
    port, log = free_port(), tmp_path_factory.mktemp("receiver") / "output.log"
    (python, *arguments) = service["command"]
    assert python == "python"
    here = [volume["source"] if word == volume["target"] else word for word in arguments]
    environment = {**service["environment"], "PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, *here], env=environment, cwd="/", stdout=output)
    started = Running(process, f"http://127.0.0.1:{port}", log)
    try:
        wait_for(lambda: _answers(started.url), "the receiver")
        yield started
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def _answers(url: str) -> bool:
    try:
        return plain.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_a_notification_is_a_line_of_the_log_and_a_row_of_the_page(running: Running) -> None:
    for status in ("firing", "resolved"):
        assert plain.post(f"{running.url}/pages", json=message(status)).status_code == httpx.codes.NO_CONTENT
    lines = [line for line in running.lines() if line["alert"] == "HighErrorRate"]
    assert [line["event"] for line in lines] == ["alert_firing", "alert_resolved"]
    assert lines[0]["labels"] == LABELS
    assert lines[0]["annotations"]["description"] == "7.1% of the requests"
    page = plain.get(running.url)
    assert page.text.count("HighErrorRate</td>") == 2
    assert page.text.index('class="resolved"') < page.text.index('class="firing"'), "the newest is first"
    assert "5% &lt;b&gt;fail&lt;/b&gt;" in page.text
    assert '<a href="https://runbooks.example/HighErrorRate">runbook</a>' in page.text
    assert "javascript:" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_a_heartbeat_is_a_line_of_its_own_kind_and_no_row(running: Running) -> None:
    beat = message(alertname="Watchdog")
    assert plain.post(f"{running.url}/heartbeat", json=beat).status_code == httpx.codes.NO_CONTENT
    (line,) = [line for line in running.lines() if line["alert"] == "Watchdog"]
    assert (line["event"], line["level"]) == ("heartbeat", "info")
    page = plain.get(running.url).text
    assert "Last heartbeat: " in page
    assert "Watchdog" not in page


def test_the_health_check_asks_the_receiver(running: Running, services: dict[str, Service]) -> None:
    (_, _, *arguments) = services["alert-receiver"]["healthcheck"]["test"]
    port = running.url.rpartition(":")[2]
    assert run(sys.executable, *(word.replace("9095", port) for word in arguments)).returncode == 0
    assert run(sys.executable, *(word.replace("9095", str(free_port())) for word in arguments)).returncode != 0


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"content": b"{"}, 400),
        ({"content": b'{"alerts": [1]}'}, 400),
        ({"content": b'{"alerts": [{"labels": {}}]}'}, 400),
        ({"content": b"[" * 100_000}, 400),
        ({"content": b" " * (receiver.MAX_BODY_BYTES + 1)}, 413),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
    ],
)
def test_what_is_no_notification_is_refused_and_not_shown(running: Running, given: dict[str, Any], status: int) -> None:
    before = running.lines()
    headers = {"Content-Type": "application/json"} | given.get("headers", {})
    assert plain.post(f"{running.url}/pages", content=given["content"], headers=headers).status_code == status
    assert running.lines() == before
    assert plain.get(f"{running.url}/elsewhere").status_code == httpx.codes.NOT_FOUND


def test_alertmanager_sends_to_the_ports_and_paths_of_the_receiver(services: dict[str, Service]) -> None:
    configuration = yaml.safe_load((ROOT / "monitoring/alertmanager.yml").read_text())
    hooks = {hook["url"] for one in configuration["receivers"] for hook in one.get("webhook_configs", [])}
    port = services["alert-receiver"]["environment"]["PORT"]
    assert hooks == {
        f"http://alert-receiver:{port}{path}" for path in (receiver.PAGES, receiver.TICKETS, receiver.HEARTBEAT)
    }


def test_the_page_says_when_heartbeats_stop() -> None:
    received = receiver.Received(NOW)
    assert "No heartbeat in 60 s." in received.page(NOW + timedelta(seconds=60))
    received.take(receiver.HEARTBEAT, message(alertname="Watchdog"), NOW)
    assert "Last heartbeat: 60 s ago." in received.page(NOW + timedelta(seconds=60))
    late = received.page(NOW + timedelta(seconds=receiver.LATE_SECONDS + 1))
    assert "<strong>Last heartbeat: 301 s ago. It should come every minute" in late
    assert "Watchdog" not in late, "heartbeats would push the alerts off the page"


def test_the_latest_notifications_are_kept_and_no_more() -> None:
    received = receiver.Received(NOW)
    for number in range(receiver.KEPT + 10):
        received.take(receiver.TICKETS, message(alertname=f"Alert{number}"), NOW)
    page = received.page(NOW)
    assert page.count("<tr class=") == receiver.KEPT
    assert "Alert9<" not in page
    assert f"Alert{receiver.KEPT + 9}<" in page
