"""The clients' own counts: one line a request, written by loadtest/locustfile.py.

The campaign holds this against the service's own figures. The times are exact, while Locust's percentiles are rounded.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

NO_ANSWER = 0
SERVER_ERROR = 500


@dataclass(frozen=True)
class Request:
    """One request as its client saw it: `started` in Unix time, `seconds` to the last byte; status 0 is no answer."""

    started: float
    method: str
    handler: str
    status: int
    seconds: float


@dataclass
class Ledger:
    """All requests of a run, and how well the users kept to their schedule."""

    requests: list[Request] = field(default_factory=list)
    tasks: int = 0
    late: int = 0
    """Tasks that began late, because the one before took longer than a user's whole interval."""

    def counts(self) -> Counter[tuple[str, str, int]]:
        """Count the requests by method, handler and status."""
        return Counter((request.method, request.handler, request.status) for request in self.requests)

    def statuses(self) -> Counter[int]:
        """Count the requests by status."""
        return Counter(request.status for request in self.requests)

    def first_error(self) -> float | None:
        """Return the time of the first 5xx answer or missing answer, in Unix time."""
        ends = [
            request.started + request.seconds
            for request in self.requests
            if request.status >= SERVER_ERROR or request.status == NO_ANSWER
        ]
        return min(ends, default=None)


def read(files: Sequence[Path]) -> Ledger:
    """Return the ledger that one or more Locust processes wrote; raise ValueError if one was cut short."""
    ledger = Ledger()
    for file in files:
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        if not lines or not isinstance(lines[-1], dict):
            raise ValueError(f"{file} has no last line with the totals: Locust did not end in order")
        ledger.requests += [Request(*line) for line in lines[:-1]]
        ledger.tasks += lines[-1]["tasks"]
        ledger.late += lines[-1]["late"]
    return ledger
