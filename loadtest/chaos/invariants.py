"""The invariants of a run. Each function returns the violations, one line each."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from loadtest.chaos.ledger import Answers, Endpoint, Failure, Ledger, Write

Series = dict[str, float]
"""The samples of an exposition that never decrease, by name and labels as written there."""
MONOTONE = {"counter", "histogram", "summary"}
SECONDS_AN_HOUR = 3600.0


def monotone(exposition: str) -> Series:
    """Return every sample that must never decrease."""
    series: Series = {}
    wanted = False
    for line in exposition.splitlines():
        if line.startswith("# TYPE "):
            wanted = line.rpartition(" ")[2] in MONOTONE
        elif wanted and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            series[name] = float(value)
    return series


def falls(before: Series, after: Series) -> list[str]:
    """Return the samples that have decreased or disappeared between two scrapes."""
    return [
        f"{name} fell from {value:g} to {after[name]:g}" if name in after else f"{name} disappeared at {value:g}"
        for name, value in before.items()
        if after.get(name, -1.0) < value
    ]


def miscounts(ledger: Ledger, counted: Answers, written_off: Answers) -> list[str]:
    """Return where the service's totals differ from the ledger.

    A request that was sent and not answered may be counted, with any status; one that was answered has to be, with its
    status, unless it is in `written_off`.
    """
    wrong = [
        f"{_name(key)}: {answered} answered, {counted[key]} counted"
        for key, answered in ledger.answered.items()
        if counted[key] + written_off[key] < answered
    ]
    endpoints: set[Endpoint] = {key[:2] for key in ledger.answered} | set(ledger.unanswered)
    for endpoint in sorted(endpoints):
        most = _of(ledger.answered, endpoint) + ledger.unanswered[endpoint]
        total = _of(counted, endpoint)
        if total > most:
            wrong.append(f"{' '.join(endpoint)}: {most} sent, {total} counted")
    return wrong


def missing(ledger: Ledger, counted: Answers) -> Answers:
    """Return the answered requests that were not counted."""
    return ledger.answered - counted


def _of(answers: Answers, endpoint: Endpoint) -> int:
    return sum(number for key, number in answers.items() if key[:2] == endpoint)


def _name(key: tuple[str, str, int]) -> str:
    return f"{key[0]} {key[1]} {key[2]}"


@dataclass(frozen=True)
class Allowance:
    """The kinds of failure that an action allows, and the loop's times of its beginning and of its recovery."""

    kinds: AbstractSet[str]
    started: float
    ended: float


def forbidden(failures: Iterable[Failure], allowances: Sequence[Allowance]) -> list[Failure]:
    """Return the failures whose kind is not allowed by any action that ran during the request."""
    return [
        failure
        for failure in failures
        if not any(
            failure.kind in one.kinds and one.started <= failure.ended and failure.started <= one.ended
            for one in allowances
        )
    ]


Stored = Mapping[tuple[str, int], tuple[str, str | None]]
"""Text and idempotency key of the rows, by table and id."""


def lost_writes(writes: Iterable[Write], stored: Stored) -> list[str]:
    """Return the acknowledged writes that are not stored as they were sent."""
    lost = []
    for write in writes:
        row = stored.get((write.table, write.id))
        if row is None:
            lost.append(f"{write.table} {write.id} was acknowledged and is not stored")
        elif row != (write.text, write.key):
            lost.append(
                f"{write.table} {write.id} was acknowledged as {write.text[:40]!r} and holds {row[0][:40]!r}, {row[1]}"
            )
    return lost


def repeated_writes(writes: Iterable[Write]) -> list[str]:
    """Return the idempotency keys that were acknowledged under more than one id."""
    ids: dict[str, set[int]] = {}
    for write in writes:
        if write.key is not None:
            ids.setdefault(write.key, set()).add(write.id)
    return [f"key {key} was acknowledged as {sorted(found)}" for key, found in ids.items() if len(found) > 1]


def orphans(marked: Mapping[int, str], family: AbstractSet[int]) -> list[str]:
    """Return the processes of this service, by id with their commands, that are not in the family of its master."""
    return [f"process {pid} has no master: {command}" for pid, command in sorted(marked.items()) if pid not in family]


@dataclass(frozen=True)
class Trend:
    """The linear regression of a figure over the run: `growth` is the slope times the time of the samples."""

    samples: int
    first: float
    last: float
    slope_per_hour: float
    growth: float


def trend(samples: Sequence[tuple[float, float]]) -> Trend:
    """Return the trend of (seconds, value) samples; without two times it is 0."""
    count = len(samples)
    times = [at for at, _ in samples]
    values = [value for _, value in samples]
    middle, mean = sum(times) / count, sum(values) / count
    spread = sum((at - middle) ** 2 for at in times)
    slope = sum((at - middle) * (value - mean) for at, value in samples) / spread if spread else 0.0
    return Trend(count, values[0], values[-1], slope * SECONDS_AN_HOUR, slope * (max(times) - min(times)))


def growing(figure: str, trends: Mapping[str, Trend], limit: float, min_samples: int) -> list[str]:
    """Return the processes whose `figure` grows by more than `limit` over the run."""
    return [
        f"{figure} of the {process} grows by {found.growth:,.0f} over the run, at most {limit:,.0f} are allowed"
        for process, found in trends.items()
        if found.samples >= min_samples and found.growth > limit
    ]


def counts(series: Series) -> Answers:
    """Return the service's own count of requests, by method, handler and status."""
    found: Answers = Counter()
    for name, value in series.items():
        if name.startswith("http_requests_total{"):
            labels = dict(pair.split("=", 1) for pair in name[name.index("{") + 1 : -1].split(","))
            status = labels["status"].strip('"')
            found[labels["method"].strip('"'), labels["handler"].strip('"'), int(status)] += int(value)
    return found
