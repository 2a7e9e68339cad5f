"""A real Alertmanager with the shipped routes and inhibitions, in front of a real webhook receiver.

Every story is played in a `service` of its own, so all of them share one Alertmanager and one waiting time.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from loadtest import configuration
from loadtest.programs import Program, free_port, until
from loadtest.receiver import PAGES, TICKETS, Receiver, receiver
from tests.alerts.outages import Labels
from tests.alerts.rules import MONITORING

HURRY = {"group_wait": "500ms", "group_interval": "500ms", "repeat_interval": "1h"}
PATIENCE = 60.0
SENTINEL = "Sentinel"


def hurried(route: Mapping[str, Any]) -> dict[str, Any]:
    """Return a route, and those below it, with short durations and everything else as it is."""
    children = [hurried(child) for child in route.get("routes", [])]
    return {**route, **HURRY} | ({"routes": children} if children else {})


def shipped(url: str) -> dict[str, Any]:
    """Return monitoring/alertmanager.yml with short durations, its webhooks at `url`."""
    document = configuration.alertmanager(MONITORING / "alertmanager.yml", url, 1)
    return {**document, "route": hurried(document["route"])}


@dataclass
class Manager:
    """A running Alertmanager and what it has notified."""

    url: str
    receiver: Receiver
    program: Program
    _sentinels: int = 0
    _client: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=30))

    async def post(self, alerts: Sequence[tuple[Labels, bool]]) -> None:
        """Post alerts by API v2 in their order, as (labels, firing), the way Prometheus does."""
        now = datetime.now(UTC)
        body = [
            {
                "labels": labels,
                "annotations": {},
                # Prometheus sends the time since when it fires. One that fired long ago would not wait for its group.
                "startsAt": now.isoformat(),
                "endsAt": (now + timedelta(minutes=4) if firing else now).isoformat(),
            }
            for labels, firing in alerts
        ]
        (await self._client.post(f"{self.url}/api/v2/alerts", json=body)).raise_for_status()

    async def decided(self) -> None:
        """Wait until everything posted so far has been notified or silenced.

        Two alerts are notified one after the other, each of which waits as long as the others' groups do.
        """
        for _ in range(2):
            self._sentinels += 1
            name = f"{SENTINEL}{self._sentinels}"
            await self.post([({"alertname": name, "severity": "warning"}, True)])
            told = await until(lambda name=name: self.receiver.first(name, "firing"), PATIENCE, [self.program])  # type: ignore[misc]
            assert told, f"{name} was not notified"

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def told(self) -> dict[str, "Told"]:
        """Return the messages on firing alerts by `service`."""
        seen: set[tuple[int, str]] = set()
        found: dict[str, Told] = {}
        for one in self.receiver.notifications:
            if one.status == "firing" and (one.message, one.alert) not in seen:
                seen.add((one.message, one.alert))
                told = found.setdefault(one.labels.get("service", ""), Told())
                told.groups.add((one.receiver, one.group))
                {PAGES: told.pages, TICKETS: told.tickets}[one.receiver][one.alert] += 1
        return found


@dataclass
class Told:
    """The number of messages on each alert, and the groups that they belong to: a pager opens an incident for each."""

    pages: Counter[str] = field(default_factory=Counter)
    tickets: Counter[str] = field(default_factory=Counter)
    groups: set[tuple[str, str]] = field(default_factory=set)


@asynccontextmanager
async def alertmanager(
    directory: Path, program: str, inhibit_rules: Iterable[Mapping[str, Any]]
) -> AsyncIterator[Manager]:
    """Run the program with the shipped routes and these rules of inhibition."""
    async with receiver() as listening:
        document = {**shipped(listening.url), "inhibit_rules": list(inhibit_rules)}
        port = free_port()
        started = Program(
            [
                program,
                f"--config.file={configuration.write(document, directory / 'alertmanager.yml')}",
                f"--storage.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
                "--log.level=warn",
            ],
            directory / "alertmanager.log",
            {"GOMAXPROCS": "1"},
        )
        manager = Manager(f"http://127.0.0.1:{port}", listening, started)
        try:
            await until(lambda: _ready(manager), PATIENCE, [started])
            yield manager
        finally:
            await manager.close()
            await started.stop()


async def _ready(manager: Manager) -> bool:
    try:
        return (await manager._client.get(f"{manager.url}/-/ready")).is_success
    except httpx.TransportError:
        return False


async def play(
    directory: Path,
    program: str,
    inhibit_rules: Iterable[Mapping[str, Any]],
    steps: Iterable[Sequence[tuple[Labels, bool]]],
) -> dict[str, Told]:
    """Post each of `steps`, wait until it is decided, and return what was notified by `service`."""
    async with alertmanager(directory, program, inhibit_rules) as manager:
        for step in steps:
            await manager.post(step)
            await manager.decided()
        return manager.told()
