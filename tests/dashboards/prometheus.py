"""A real Prometheus on a free loopback port that scrapes one target, and what else a test wants, every second."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from loadtest.programs import free_port
from tests.alerts.programs import require
from tests.plain_http import plain
from tests.process.service import wait_for

JOB = "the-service"
ITSELF = "itself"


@dataclass(frozen=True)
class Prometheus:
    """A client of the HTTP API of a running Prometheus."""

    url: str

    def ask(self, path: str, **parameters: Any) -> Any:
        """Return the data of an API response. Fail the test on an error."""
        answer = plain.post(f"{self.url}/api/v1/{path}", data=parameters, timeout=30)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def values(self, selector: str, label: str, start: float) -> list[str]:
        """Return the values that Grafana's label_values(selector, label) lists."""
        found = plain.get(
            f"{self.url}/api/v1/label/{label}/values", params={"match[]": selector, "start": start}, timeout=30
        )
        found.raise_for_status()
        return list(found.json()["data"])

    def errors(self) -> dict[str, str]:
        """Return the last error of each job whose scrape fails."""
        found = plain.get(f"{self.url}/api/v1/targets", timeout=30)
        found.raise_for_status()
        targets = found.json()["data"]["activeTargets"]
        return {one["labels"]["job"]: one["lastError"] for one in targets if one["lastError"]}

    def ready(self) -> bool:
        try:
            return plain.get(f"{self.url}/-/ready", timeout=5).is_success
        except httpx.TransportError:
            return False

    def scrapes(self) -> int:
        """Return the number of successful scrapes of the target."""
        found = self.ask("query", query=f'sum_over_time(up{{job="{JOB}"}}[1h])')["result"]
        return int(float(found[0]["value"][1])) if found else 0


def program() -> str:
    """Return the path of the prometheus command. Without one, skip the test, or fail it in CI."""
    return require("prometheus")


def _static(target: str, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {"targets": [target], **({"labels": dict(labels)} if labels else {})}


@contextmanager
def prometheus(
    directory: Path,
    target: str,
    *flags: str,
    command: str = "",
    jobs: Sequence[Mapping[str, Any]] = (),
    others: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    **configuration: Any,
) -> Iterator[Prometheus]:
    """Yield a Prometheus that is ready, and stop it on exit, also after an error.

    `command` is its path, by default that of the one on PATH. `jobs` are further jobs that scrape the target, which has
    `labels`; `others` are the addresses of other targets by job, and ITSELF among them is its own. `configuration` has
    further keys of prometheus.yml.
    """
    command, own = command or program(), f"127.0.0.1:{free_port()}"
    found = [{**job, "static_configs": [_static(target, labels)]} for job in ({"job_name": JOB}, *jobs)]
    addresses = {name: own if address == ITSELF else address for name, address in (others or {}).items()}
    found += [{"job_name": name, "static_configs": [_static(address)]} for name, address in addresses.items()]
    file = directory / "prometheus.yml"
    times = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    file.write_text(yaml.safe_dump({"global": times, "scrape_configs": found, **configuration}))
    log = directory / "prometheus.log"
    flags = (
        f"--config.file={file}",
        f"--web.listen-address={own}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        *flags,
    )
    with log.open("wb") as output:
        process = subprocess.Popen([command, *flags, "--log.level=warn"], stdout=output, stderr=subprocess.STDOUT)
    try:
        started = Prometheus(f"http://{own}")

        def ready() -> bool:
            assert process.poll() is None, log.read_text()
            return started.ready()

        wait_for(ready, "Prometheus")
        yield started
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
