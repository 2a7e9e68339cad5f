"""One run: an action after the other, a settled service after each, and what must hold then."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from loadtest.chaos import invariants
from loadtest.chaos.actions import Action, Leaving
from loadtest.chaos.invariants import Allowance, Series
from loadtest.chaos.ledger import Answers, Failure
from loadtest.chaos.resources import Resources
from loadtest.chaos.stored import stored, wrong_ratings
from loadtest.chaos.world import World

SETTLE_SECONDS, SETTLED_POLL_SECONDS = 90.0, 0.1
QUIET_SECONDS = 0.3
SCRAPE_SECONDS = 0.5
# Requests that a client has given up may be counted a moment later, and processes may be about to end.
PATIENCE_SECONDS = 10.0
MAX_DETAILS = 5


@dataclass(frozen=True)
class Violation:
    """An invariant that did not hold after an action."""

    action: str
    invariant: str
    detail: str


class NotSettledError(Exception):
    """The service did not recover from an action; the message says what was missing."""


@dataclass
class Campaign:
    """The state of a run."""

    world: World
    actions: list[dict[str, Any]] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    resources: Resources = field(default_factory=Resources)
    skipped: dict[str, str] = field(default_factory=dict)
    """Actions that cannot be taken here, with the reason."""
    scrapes: int = 0
    started: float = 0.0
    _allowances: list[Allowance] = field(default_factory=list)
    _written_off: Answers = field(default_factory=Counter)
    _series: Series = field(default_factory=dict)
    _current: Action | None = None
    label: str = "the start"
    """The number and name of the action that is taken."""
    _failures: int = 0
    _writes: int = 0

    def now(self) -> float:
        """Return the seconds since the run's beginning."""
        return asyncio.get_running_loop().time() - self.started

    def pass_over(self, actions: Iterable[Action]) -> None:
        """Note the actions that cannot be taken here."""
        missing = self.world.unavailable
        self.skipped = {action.name: missing[action.needs] for action in actions if action.needs in missing}

    async def perform(self, action: Action) -> None:
        """Take an action, wait until the service has settled, and check what must hold."""
        loop, ledger = asyncio.get_running_loop(), self.world.ledger
        self._current, self.label = action, f"{len(self.actions) + 1} {action.name}"
        begun, requests, failures = loop.time(), ledger.requests(), len(ledger.failures)
        violations = len(self.violations)
        self._allowances.append(Allowance(action.allows, begun, math.inf))
        leaving = await action.run(self.world)
        restored = loop.time()
        await self.settle(leaving)
        settled = loop.time()
        self._allowances[-1] = Allowance(action.allows, begun, settled)
        await self.check(action)
        self._current = None
        seen = ledger.failures[failures:]
        self.actions.append(
            {
                "number": len(self.actions) + 1,
                "action": action.name,
                "at": round(begun - self.started, 2),
                "seconds": round(settled - begun, 2),
                "recovery_seconds": round(settled - restored, 2),
                "requests": ledger.requests() - requests,
                "failures": dict(Counter(failure.kind for failure in seen)),
                "allowed": sorted(action.allows),
                "longest_seconds": round(ledger.longest(begun, settled), 3),
                "violations": [found.detail for found in self.violations[violations:]],
            }
        )

    async def settle(self, leaving: Leaving) -> None:
        """Wait until the service is whole again. Raise NotSettledError if that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SETTLE_SECONDS
        while missing := await self._missing(leaving):
            if loop.time() > deadline or self.world.service.status is not None:
                raise NotSettledError(missing)
            await asyncio.sleep(SETTLED_POLL_SECONDS)

    async def _missing(self, leaving: Leaving) -> str:
        """Return what the service lacks to be whole, or nothing."""
        world, loop = self.world, asyncio.get_running_loop()
        if incomplete := self._incomplete(leaving):
            return incomplete
        if not await world.service.is_ready(2 * world.options.workers):
            return "the service is not ready"
        try:
            await world.service.scrape()
        except httpx.HTTPError as error:
            return f"the exporter does not answer: {error!r}"
        failures = world.ledger.failures
        if failures and failures[-1].ended > loop.time() - QUIET_SECONDS:
            return f"requests fail: {failures[-1]}"
        return ""

    def _incomplete(self, leaving: Leaving) -> str:
        """Return which processes are missing or left over, or nothing."""
        world = self.world
        if world.service.status is not None:
            return f"the service has ended with status {world.service.status}"
        if staying := [process.pid for process in leaving if _alive(process)]:
            return f"processes {staying} have not ended"
        if (live := len(world.service.workers())) != world.options.workers:
            return f"{live} workers live, {world.options.workers} are configured"
        return ""

    async def scrape_for_ever(self) -> None:
        """Scrape steadily, and hold each exposition against the one before."""
        while True:
            try:
                series = await self.world.service.scrape()
            except httpx.HTTPError as error:
                if self._current is None or not self._current.scrapes_may_fail:
                    self._report("the exporter answers", [repr(error)])
            else:
                self.scrapes += 1
                self._report("no total falls", invariants.falls(self._series, series))
                self._series = series
            await asyncio.sleep(SCRAPE_SECONDS)

    async def check(self, action: Action | None = None) -> None:
        """Pause the traffic and check all invariants."""
        world, ledger = self.world, self.world.ledger
        await world.traffic.pause()
        try:
            counted = await self._counted(write_off=action is not None and action.counts_may_be_lost)
            self._report("totals are the ledger's", invariants.miscounts(ledger, counted, self._written_off))
            self._report("no process without a master", await self._until_none(self._orphans))
            failures, self._failures = ledger.failures[self._failures :], len(ledger.failures)
            self._report("requests fail only where allowed", self._forbidden(failures))
            writes, self._writes = ledger.writes[self._writes :], len(ledger.writes)
            self._report("no acknowledged write is lost", invariants.lost_writes(writes, await stored(world, writes)))
            self.resources.sample(world, self.now(), await world.service.exposition())
        finally:
            world.traffic.resume()

    async def check_at_the_end(self) -> None:
        """Check what holds for the whole run."""
        writes = self.world.ledger.writes
        self.label = "the whole run"
        self._report("no acknowledged write is lost", invariants.lost_writes(writes, await stored(self.world, writes)))
        self._report("ratings are those of the reviews", await wrong_ratings(self.world))
        self._report("one key, one inquiry", invariants.repeated_writes(writes))
        self._report("memory and descriptors are flat", self.resources.growing())

    async def stop(self) -> None:
        """Stop the service: it has to end by itself, with all of its processes."""
        self.label = "the stop"
        status = await self.world.service.stop()
        self._report("the service ends in order", [f"exit status {status}"] if status else [])
        remain = await self._until_none(lambda: invariants.orphans(self.world.service.marked(), frozenset()))
        self._report("no process without a master", remain)

    def _orphans(self) -> list[str]:
        service = self.world.service
        # The family is looked at last: a process that was forked in between is in it.
        marked = service.marked()
        return invariants.orphans(marked, service.family()) + [
            f"process {child.pid} has ended and is not reaped"
            for child in service.master.children()
            if child.is_running() and child.status() == psutil.STATUS_ZOMBIE
        ]

    def _forbidden(self, failures: Sequence[Failure]) -> list[str]:
        found = invariants.forbidden(failures, self._allowances)
        kinds = Counter(failure.kind for failure in found)
        first = {failure.kind: failure for failure in reversed(found)}
        return [
            f"{number} of kind {kind}, first at {first[kind].ended - self.started:.2f} s after"
            f" {first[kind].ended - first[kind].started:.2f} s: {first[kind].method} {first[kind].handler}"
            f" {first[kind].reason}"
            for kind, number in kinds.items()
        ]

    async def _counted(self, *, write_off: bool) -> Answers:
        """Return the service's totals once they are the ledger's, or after PATIENCE_SECONDS."""
        ledger, loop = self.world.ledger, asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        while True:
            counted = invariants.counts(await self.world.service.scrape())
            if write_off:
                self._written_off |= invariants.missing(ledger, counted)
            if not invariants.miscounts(ledger, counted, self._written_off) or loop.time() > deadline:
                return counted
            await asyncio.sleep(SETTLED_POLL_SECONDS)

    async def _until_none(self, look: Callable[[], list[str]]) -> list[str]:
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while (found := look()) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 -- no event
            await asyncio.sleep(SETTLED_POLL_SECONDS)
        return found

    def _report(self, invariant: str, details: Sequence[str]) -> None:
        self.violations += [Violation(self.label, invariant, detail) for detail in details[:MAX_DETAILS]]


def _alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
