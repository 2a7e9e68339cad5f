"""Locust itself against the real service on two workers, and the command's refusals."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.settings import ROOT
from loadtest import comparison
from loadtest.comparison import figures
from loadtest.fake_ai import fake_ai
from loadtest.ledger import Ledger
from loadtest.programs import Program, ProgramError, free_port, last, until
from loadtest.receiver import receiver
from loadtest.scenarios import PLAN
from loadtest.users import Export, users
from tests.process.service import service


async def test_the_service_counts_each_request_of_the_users_once(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    async with fake_ai() as fake:
        fake.text = PLAN
        addresses = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "AI_BASE_URL": fake.url}
        with service(tmp_path, **addresses) as running:
            export = Export(free_port(), "a-run", "a-scenario")
            async with users(tmp_path, running.url, 20, 60, export=export) as visitors:
                await last(4, [visitors.program])
                async with httpx.AsyncClient() as client:
                    exposed = (await client.get(f"http://127.0.0.1:{export.port}/metrics")).text
            seen = visitors.ledger

            def complete() -> bool:
                return sum(figures(running.scrape()).requests.values()) >= len(seen.requests)

            await until(complete, 5)
            served = figures(running.scrape())
    assert len(seen.requests) >= 30
    assert seen.tasks >= 30
    assert {status for status in seen.statuses() if status not in {200, 201}} == set()
    assert comparison.wrong_counts(served, seen) == []
    _check_exposed(exposed, seen)
    assert set(served.requests) >= {
        ("GET", "/api/v1/destinations", 200),
        ("POST", "/api/v1/assistant/chat", 200),
    }
    assert (tmp_path / "locust.html").is_file()


def _check_exposed(exposed: str, ledger: Ledger) -> None:
    """Check the metrics of the users, scraped some time before they left."""
    samples = [one for family in text_string_to_metric_families(exposed) for one in family.samples]
    assert {(one.labels["run"], one.labels["scenario"]) for one in samples} == {("a-run", "a-scenario")}
    counted = {
        (one.labels["method"], one.labels["handler"], int(one.labels["status"])): one.value
        for one in samples
        if one.name == "loadtest_requests_total"
    }
    assert 10 <= sum(counted.values()) <= len(ledger.requests)
    assert all(count <= ledger.counts()[key] for key, count in counted.items())
    (offered,) = [one.value for one in samples if one.name == "loadtest_offered_requests_per_second"]
    assert offered == 10 * 1.0 + 8 * 0.5 + 2 * 0.25, "20 users by the weights and rates of locustfile.py"


async def test_a_load_generator_that_ends_early_is_an_error_with_its_log(tmp_path: Path) -> None:
    broken = Program([sys.executable, "-c", "print('no such user'); raise SystemExit(3)"], tmp_path / "log")
    with pytest.raises(ProgramError, match=r"status 3(.|\n)*no such user"):
        await last(10, [broken])


async def test_the_receiver_writes_down_each_alert_of_a_message() -> None:
    def alert(name: str, status: str) -> dict[str, object]:
        return {"status": status, "labels": {"alertname": name}, "annotations": {"runbook_url": "r"}}

    async with receiver() as listening, httpx.AsyncClient() as client:
        message = {"alerts": [alert("A", "firing"), alert("B", "resolved")]}
        assert (await client.post(f"{listening.url}/pages", json=message)).status_code == 204
        assert (await client.post(f"{listening.url}/elsewhere", json=message)).status_code == 404
    assert [(one.alert, one.status, one.receiver) for one in listening.notifications] == [
        ("A", "firing", "pages"),
        ("B", "resolved", "pages"),
    ]
    assert listening.first("B", "firing") is None
    found = listening.first("A", "firing")
    assert found is not None
    assert found.annotations == {"runbook_url": "r"}


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m loadtest`; it has nothing to start."""
    return subprocess.run(
        [sys.executable, "-m", "loadtest", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such"], "'no-such' is no scenario: want healthy or errors"),
        (["--speed", "0.5"], "--speed 0.5: want 1 to 30"),
        (["--users", "3"], "--users 3: want 10 to 1000"),
        (["--workers", "0"], "--workers 0: want 1 to 64"),
        (["--speed", "nan"], "--speed nan: want 1 to 30"),
        (["--rules", "no-such.yml"], "no-such.yml cannot be read: "),
        (["--rules", "monitoring/slo.yaml"], "monitoring/slo.yaml has not the form that the campaign knows: "),
    ],
)
def test_a_wrong_argument_is_refused_with_what_is_wanted(arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_without_prometheus_the_command_says_what_is_missing() -> None:
    done = command("healthy", PATH=str(Path(sys.executable).parent))
    assert done.returncode == 2
    assert "prometheus is not on the PATH" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plan_names_a_place_of_the_catalogue() -> None:
    places = json.loads((ROOT / "app" / "database" / "seed" / "destinations.json").read_text())
    known = {place["slug"] for place in places}
    assert {slug for day in json.loads(PLAN)["days"] for slug in day} <= known
