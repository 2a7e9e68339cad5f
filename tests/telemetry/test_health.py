"""The collector's container health check, run as docker-compose.yaml gives it against a real collector."""

import subprocess
from pathlib import Path

import pytest
import yaml

from app.settings import ROOT
from tests.telemetry.collector import CHANGES, SHIPPED, Collector, gateway

ASKED = "http://127.0.0.1:13133/"
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def container() -> dict[str, object]:
    """Return the collector's service of docker-compose.yaml."""
    found: dict[str, object] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["otel-collector"]
    return found


def check(container: dict[str, object], program: Path, collector: Collector) -> subprocess.CompletedProcess[str]:
    """Run the health check with this machine's program, files and port in place of the container's."""
    (kind, _, *arguments) = container["healthcheck"]["test"]  # type: ignore[index]
    assert kind == "CMD"
    here = {
        ASKED: f"http://127.0.0.1:{collector.ports['HEALTH_PORT']}/",
        "/etc/otelcol-contrib/config.yaml": str(SHIPPED),
    }
    replaced = [f"--config={here[word.removeprefix('--config=')]}" if "=" in word else word for word in arguments]
    return subprocess.run([program, *replaced], capture_output=True, text=True, check=False, timeout=60)


def test_the_health_check_asks_the_running_collector(
    container: dict[str, object], program: Path, tmp_path: Path
) -> None:
    with gateway(program, tmp_path) as running:
        assert check(container, program, running).returncode == 0
        running.stop()
        ended = check(container, program, running)
        assert ended.returncode != 0
        assert "connection refused" in ended.stderr


def test_the_health_check_asks_the_port_of_the_extension(container: dict[str, object]) -> None:
    extension = yaml.safe_load(SHIPPED.read_text())["extensions"]["health_check"]
    port = extension["endpoint"].rpartition(":")[2]
    assert f"http://127.0.0.1:{port}/" == ASKED
    assert f"--config={ASKED}" in container["healthcheck"]["test"]  # type: ignore[index]
    assert yaml.safe_load(extension["response_body"]["healthy"]) == {}, "an answer that is no empty configuration"
    assert "response_body" not in yaml.safe_load(CHANGES.read_text())["extensions"]["health_check"]


def test_the_container_has_room_above_the_limiter_for_the_check(container: dict[str, object]) -> None:
    limiter = yaml.safe_load(SHIPPED.read_text())["processors"]["memory_limiter"]["limit_mib"]
    limit = int(str(container["mem_limit"]).removesuffix("m"))
    go = int(container["environment"]["GOMEMLIMIT"].removesuffix("MiB"))  # type: ignore[index]
    assert limiter < go < limit - 128
