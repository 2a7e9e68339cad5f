"""The clients' own record of every request: sent, and answered or not."""

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final

Endpoint = tuple[str, str]
"""Method and handler."""
Answers = Counter[tuple[str, str, int]]
"""Requests by method, handler and status."""

# Kinds of failure; a status such as "503" is another.
REFUSED: Final = "refused"
CLOSED: Final = "closed"
TIMEOUT: Final = "timeout"
MIN_FAILURE = 400


@dataclass(frozen=True)
class Failure:
    """A request without a good answer, with the loop's times of its beginning and end."""

    kind: str
    method: str
    handler: str
    started: float
    ended: float
    reason: str = ""


@dataclass(frozen=True)
class Write:
    """A write that the service has acknowledged: its text, its id, and its idempotency key if it has one."""

    table: str
    id: int
    text: str
    key: str | None = None


@dataclass
class Second:
    """The requests that ended within one second."""

    answered: int = 0
    failed: int = 0
    longest: float = 0.0


@dataclass
class Ledger:
    """All requests of a run."""

    answered: Answers = field(default_factory=Counter)
    unanswered: Counter[Endpoint] = field(default_factory=Counter)
    """Requests that were sent: the service may have counted them."""
    failures: list[Failure] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    seconds: defaultdict[int, Second] = field(default_factory=lambda: defaultdict(Second))
    in_flight: int = 0

    def answer(self, method: str, handler: str, status: int, started: float) -> None:
        """Record an answer."""
        ended = asyncio.get_running_loop().time()
        self.answered[method, handler, status] += 1
        second = self.seconds[int(ended)]
        second.answered += 1
        second.longest = max(second.longest, ended - started)
        if status >= MIN_FAILURE:
            second.failed += 1
            self.failures.append(Failure(str(status), method, handler, started, ended))

    def fail(self, kind: str, method: str, handler: str, started: float, reason: str) -> None:
        """Record a request without an answer."""
        ended = asyncio.get_running_loop().time()
        if kind != REFUSED:
            self.unanswered[method, handler] += 1
        second = self.seconds[int(ended)]
        second.failed += 1
        second.longest = max(second.longest, ended - started)
        self.failures.append(Failure(kind, method, handler, started, ended, reason))

    def requests(self) -> int:
        """Return how many requests have ended."""
        return self.answered.total() + sum(failure.kind in {REFUSED, CLOSED, TIMEOUT} for failure in self.failures)

    def longest(self, first: float, last: float) -> float:
        """Return the longest time of a request that ended between two of the loop's times."""
        times = range(int(first), int(last) + 1)
        return max((self.seconds[at].longest for at in times if at in self.seconds), default=0.0)
