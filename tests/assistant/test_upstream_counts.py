"""Requests to the upstream by outcome, against a real HTTP server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from app.assistant.upstream import Upstream, UpstreamError, UpstreamRejected
from loadtest.fake_ai import FakeAI, fake_ai
from tests.agency import metrics_in

ASK = [{"role": "user", "content": "Where to?"}]


@pytest.fixture
async def ai() -> AsyncIterator[FakeAI]:
    """Yield an upstream."""
    async with fake_ai() as running:
        yield running


class Counted:
    """A client and its metrics."""

    def __init__(self, url: str, timeout: float = 10) -> None:
        self.registry = CollectorRegistry()
        metrics = metrics_in(self.registry)
        self.client = Upstream(url, model="some-model", key=None, timeout=timeout, metrics=metrics)

    async def complete(self) -> None:
        with suppress(UpstreamError, UpstreamRejected):
            await self.client.complete(ASK)

    def outcomes(self) -> dict[str, float]:
        """Return the requests that were counted, by outcome."""
        return {
            sample.labels["outcome"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == "baliblissed_upstream_requests_total" and sample.value
        }

    def timed(self) -> float | None:
        """Return the number of requests with a duration."""
        name = "baliblissed_upstream_request_duration_seconds_count"
        return self.registry.get_sample_value(name, {"upstream": "ai"})


@pytest.mark.parametrize(
    ("outcome", "changes"),
    [
        ("success", {}),
        ("rate_limited", {"status": 429}),
        ("server_error", {"status": 500}),
        ("server_error", {"status": 503}),
        ("rejected", {"status": 302}),
        ("rejected", {"status": 401}),
        ("invalid_answer", {"raw": b"<html></html>"}),
    ],
)
async def test_a_request_counts_once_by_its_outcome(ai: FakeAI, outcome: str, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(ai, name, value)
    counted = Counted(ai.url)
    await counted.complete()
    await counted.client.close()
    assert counted.outcomes() == {outcome: 1}
    assert counted.timed() == 1


async def test_an_upstream_that_is_slow_or_away_has_an_outcome_of_its_own(ai: FakeAI) -> None:
    ai.released = asyncio.Event()
    slow, away = Counted(ai.url, timeout=0.02), Counted("http://127.0.0.1:1/v1")
    for counted in (slow, away):
        await counted.complete()
        await counted.client.close()
        assert counted.timed() == 1
    ai.released.set()
    assert slow.outcomes() == {"timeout": 1}
    assert away.outcomes() == {"unreachable": 1}


async def test_a_cancelled_request_has_no_duration_and_a_probe_does_not_count(ai: FakeAI) -> None:
    ai.released = asyncio.Event()
    counted = Counted(ai.url)
    request = asyncio.create_task(counted.complete())
    await ai.arrived.wait()
    request.cancel()
    await asyncio.wait([request])
    ai.released.set()
    await counted.client.ping()
    await counted.client.close()
    assert counted.outcomes() == {"cancelled": 1}
    assert counted.timed() == 0
