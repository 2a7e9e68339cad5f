"""The states of Prometheus's alerts while a scenario runs."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

POLL_SECONDS = 0.1
STATES = {"pending", "firing"}


@dataclass
class Timeline:
    """The time of each alert's first observation in each state, in Unix time; "resolved" is its first absence."""

    seen: dict[str, dict[str, float]] = field(default_factory=dict)

    def note(self, now: float, active: dict[str, set[str]]) -> None:
        """Record the states of every active alert at time `now`."""
        for alert, states in active.items():
            for state in states:
                self.seen.setdefault(alert, {}).setdefault(state, now)
        for alert, moments in self.seen.items():
            if "firing" in moments and alert not in active:
                moments.setdefault("resolved", now)

    def at(self, alert: str, state: str) -> float | None:
        """Return the time of that observation, or None."""
        return self.seen.get(alert, {}).get(state)

    def fired(self) -> set[str]:
        """Return every alert that fired."""
        return {alert for alert, moments in self.seen.items() if "firing" in moments}


class PrometheusError(Exception):
    """Prometheus answered a question with an error."""


class Prometheus:
    """Asks a Prometheus that runs at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.AsyncClient(base_url=url, timeout=10)

    async def reload(self) -> None:
        """Have it read its configuration and rules again. Raises PrometheusError with its reason."""
        answer = await self._client.post("/-/reload")
        if not answer.is_success:
            raise PrometheusError(answer.text.strip())

    async def value(self, query: str) -> float | None:
        """Return the only number that `query` has now; None if it has none. Raises PrometheusError."""
        answer = await self._client.get("/api/v1/query", params={"query": query})
        if not answer.is_success:
            raise PrometheusError(f"{query}: {answer.text}")
        result = answer.json()["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    async def active(self) -> dict[str, set[str]]:
        """Return the alerts that are pending or firing now, with their states."""
        found: dict[str, set[str]] = {}
        for alert in (await self._client.get("/api/v1/alerts")).raise_for_status().json()["data"]["alerts"]:
            found.setdefault(alert["labels"]["alertname"], set()).update({alert["state"]} & STATES)
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


@asynccontextmanager
async def watched(prometheus: Prometheus) -> AsyncIterator[Timeline]:
    """Look at the alerts ten times a second."""
    timeline = Timeline()

    async def watch() -> None:
        while True:
            timeline.note(time.time(), await prometheus.active())
            await asyncio.sleep(POLL_SECONDS)

    watching = asyncio.create_task(watch())
    try:
        yield timeline
        if watching.done():
            await watching  # raises what ended it
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
