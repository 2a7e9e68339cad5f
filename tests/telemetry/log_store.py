"""A real VictoriaLogs with the flags of docker-compose.yaml, and the engine's logging driver, which sends it lines."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from app.settings import ROOT
from loadtest.programs import free_port
from tests.plain_http import plain
from tests.process.service import PATIENCE, wait_for
from tests.telemetry.program import CACHE

SCRIPT = ROOT / "tests" / "telemetry" / "logstore.sh"
INFORMATION = 30
"""Syslog's priority of facility daemon and severity info, which the driver gives to a line of standard output."""


class LogStore:
    """A started VictoriaLogs with its HTTP and its syslog port."""

    def __init__(self, http_port: int, syslog_port: int, tag: str) -> None:
        self._url, self._syslog, self._tag = f"http://127.0.0.1:{http_port}", ("127.0.0.1", syslog_port), tag

    def is_ready(self) -> bool:
        try:
            return plain.get(f"{self._url}/health", timeout=5).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def send(self, lines: list[str]) -> None:
        """Send lines as the engine's driver does with syslog-format rfc5424micro: a datagram each."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as driver:
            for line in lines:
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                header = f"<{INFORMATION}>1 {now} machine {self._tag} {os.getpid()} {self._tag} -"
                driver.sendto(f"{header} {line}\n".encode(), self._syslog)

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the entries that a LogsQL query finds."""
        answer = plain.get(f"{self._url}/select/logsql/query", params={"query": text}, timeout=30).raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]


def program() -> Path:
    """Return the path of VictoriaLogs; skip the test if there is none: `make logstore` builds it."""
    done = subprocess.run([SCRIPT, CACHE], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(done.stderr.strip().rpartition("\n")[2])
    return ROOT / done.stdout.strip()


@contextmanager
def log_store(directory: Path) -> Iterator[LogStore]:
    """Yield VictoriaLogs with the flags that ship; its data and its ports are the test's."""
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    flags = dict(word.split("=", 1) for word in services["victorialogs"]["command"])
    ports = free_port(), free_port()
    flags |= {"-storageDataPath": str(directory / "data"), "-httpListenAddr": f"127.0.0.1:{ports[0]}"}
    flags["-syslog.listenAddr.udp"] = f"127.0.0.1:{ports[1]}"
    with (directory / "victorialogs.log").open("wb") as output:
        command = [str(program()), *(f"{name}={value}" for name, value in flags.items())]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        store = LogStore(*ports, services["backend"]["logging"]["options"]["tag"])
        wait_for(store.is_ready, "VictoriaLogs")
        yield store
    finally:
        process.terminate()
        process.wait(PATIENCE)
