"""Totals while workers are killed, recycled and replaced under traffic: `make soak` makes it last a minute."""

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.process.service import PATIENCE, Service, service

SECONDS = float(os.environ.get("CHAOS_SECONDS", "12"))
WORKERS, MAX_REQUESTS, CONNECTIONS = 4, 50, 16
KILL_EVERY, RELOAD_EVERY, SCRAPE_EVERY, SETTLED_AFTER = 1.0, 10.0, 0.25, 10.0
ENOUGH = 2 * MAX_REQUESTS * WORKERS
HANDLER = "/api/v1/destinations/{slug}"
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass
class Seen:
    """Observations of the clients and the scraper."""

    started: float = field(default_factory=time.monotonic)
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    kills: int = 0
    scrapes: list[Series] = field(default_factory=list)
    held: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the start, and the bytes of the metrics directory then."""

    def is_over(self) -> bool:
        """Return True after SECONDS, or later once there were enough requests to recycle the workers."""
        seconds = time.monotonic() - self.started
        return seconds >= SECONDS and (self.statuses.total() > ENOUGH or seconds >= 10 * SECONDS)


def monotone(exposition: str) -> Series:
    """Return every sample that must never decrease."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(exposition)
        if family.type in {"counter", "histogram", "summary"}
        for sample in family.samples
    }


def falls(scrapes: list[Series]) -> Iterator[str]:
    """Yield the samples that have decreased or disappeared."""
    for before, after in pairwise(scrapes):
        for key, value in before.items():
            if after.get(key, -1.0) < value:
                yield f"{key}: {value} -> {after.get(key)}"


async def ask(running: Service, seen: Seen) -> None:
    """Send requests as one client, over connections that are kept alive for as long as the worker lives."""
    async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE) as client:
        while not seen.is_over():
            try:
                seen.statuses[(await client.get("/api/v1/destinations/tanah-lot")).status_code] += 1
            except httpx.TransportError:
                seen.broken += 1
                await asyncio.sleep(0.01)


async def scrape(running: Service, seen: Seen) -> None:
    async with httpx.AsyncClient(timeout=PATIENCE) as client:
        while not seen.is_over():
            answer = await client.get(running.metrics_url)
            assert answer.status_code == 200, answer.text
            seen.scrapes.append(monotone(answer.text))
            held = sum(file.stat().st_size for file in running.metrics_directory.rglob("*") if file.is_file())
            seen.held.append((time.monotonic() - seen.started, held))
            await asyncio.sleep(SCRAPE_EVERY)


async def kill(running: Service, seen: Seen) -> None:
    chance = random.Random(5)  # noqa: S311 -- which worker dies is no secret
    while not seen.is_over():
        await asyncio.sleep(KILL_EVERY)
        workers = running.workers()
        if workers:
            chance.choice(workers).kill()
            seen.kills += 1


async def reload(running: Service, seen: Seen) -> None:
    while time.monotonic() + RELOAD_EVERY < seen.started + SECONDS:
        await asyncio.sleep(RELOAD_EVERY)
        running.master.send_signal(signal.SIGHUP)


async def counted(running: Service) -> tuple[float, Series]:
    """Return the total once it no longer grows, when every worker has counted its responses."""
    before = -1.0
    while True:
        exposition = running.scrape()
        now = running.total("http_requests_total", handler=HANDLER)
        if now == before:
            return now, monotone(exposition)
        before = now
        await asyncio.sleep(0.5)


async def test_no_total_falls_and_none_is_lost_but_what_was_in_flight(
    tmp_path: Path, addresses: dict[str, str]
) -> None:
    with service(tmp_path, WEB_CONCURRENCY=str(WORKERS), MAX_REQUESTS=str(MAX_REQUESTS), **addresses) as running:
        seen = Seen()
        await asyncio.gather(
            *(ask(running, seen) for _ in range(CONNECTIONS)),
            scrape(running, seen),
            kill(running, seen),
            reload(running, seen),
        )
        total, last = await counted(running)
    seen.scrapes.append(last)
    answered = seen.statuses.total()
    exits = {dict(labels)["reason"]: value for (name, labels), value in last.items() if "worker_exits" in name}
    print(  # noqa: T201 -- the figures of a run, for whoever reads it
        f"{answered} answered, {seen.broken} broken off, {total:g} counted; {len(seen.scrapes)} scrapes; "
        f"{seen.kills} kills; exits {exits}; directory {seen.held[0][1]} to {seen.held[-1][1]} bytes"
    )
    assert set(seen.statuses) == {200}
    assert answered > ENOUGH, "too few requests to recycle the workers"
    assert not list(falls(seen.scrapes))
    # A worker counts before it hands over the answer, so it may have counted what a kill has cut off.
    assert answered <= total <= answered + seen.broken
    settled = [held for at, held in seen.held if at <= SETTLED_AFTER]
    assert seen.held[-1][1] <= 1.5 * max(settled), "the directory grows with the dead"
