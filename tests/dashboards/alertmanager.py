"""A real Alertmanager whose receiver is away, so that its figures about failures are not 0."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import yaml

from loadtest.programs import free_port
from tests.alerts.programs import require
from tests.plain_http import plain
from tests.process.service import wait_for

NOWHERE = "http://127.0.0.1:1/"


@contextmanager
def alertmanager(directory: Path) -> Iterator[str]:
    """Yield the address (host:port) of an Alertmanager that is ready, and stop it on exit."""
    program, own = require("alertmanager"), f"127.0.0.1:{free_port()}"
    configuration = directory / "alertmanager.yml"
    route = {"receiver": "away", "group_wait": "1s", "group_interval": "1s"}
    receivers = [{"name": "away", "webhook_configs": [{"url": NOWHERE}]}]
    configuration.write_text(yaml.safe_dump({"route": route, "receivers": receivers}))
    log = directory / "alertmanager.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={configuration}",
                f"--storage.path={directory / 'alertmanager'}",
                f"--web.listen-address={own}",
                "--cluster.listen-address=",
                "--log.level=error",
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return plain.get(f"http://{own}/-/ready", timeout=5).is_success
        except httpx.TransportError:
            return False

    try:
        wait_for(ready, "Alertmanager")
        yield own
    finally:
        process.terminate()
        process.wait(10)
