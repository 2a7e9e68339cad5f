"""The service's figures against the clients' own: every request is counted once, in the bucket of its client's time.

A client's time holds the server's: whatever the clients saw end within a boundary, the server must have counted below
it, and what the server counted below it must have reached the clients soon after. Both are checked at each boundary,
without interpolation.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from loadtest.ledger import NO_ANSWER, SERVER_ERROR, Ledger, Request

API = "/api/"
# The server's clock stops when its write has returned; the client may have read by then.
MAX_CLOCK_DELAY_SECONDS = 0.025
# Share of a route's requests that may miss the two times: on a busy machine either side can be put aside in between.
MAX_STRAY_SHARE = 0.02
Route = tuple[str, str]
Counted = dict[tuple[str, str, int], float]
Buckets = dict[Route, dict[float, float]]


@dataclass(frozen=True)
class Figures:
    """The figures of an exposition: requests by (method, handler, status), cumulative buckets by route."""

    requests: Counted
    buckets: Buckets

    def since(self, before: "Figures") -> "Figures":
        """Return the growth from `before` to this."""
        requests = {key: value - before.requests.get(key, 0) for key, value in self.requests.items()}
        buckets = {
            route: {bound: value - before.buckets.get(route, {}).get(bound, 0) for bound, value in bounds.items()}
            for route, bounds in self.buckets.items()
        }
        return Figures(
            {key: value for key, value in requests.items() if value},
            {route: bounds for route, bounds in buckets.items() if bounds[math.inf]},
        )


def figures(exposition: str, routes: Sequence[str] = (API,)) -> Figures:
    """Read http_requests_total and http_request_duration_seconds_bucket of routes that begin with one of `routes`."""
    requests: Counted = {}
    buckets: Buckets = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels = sample.labels
            if not labels.get("handler", "").startswith(tuple(routes)):
                continue
            if sample.name == "http_requests_total":
                requests[labels["method"], labels["handler"], int(labels["status"])] = sample.value
            elif sample.name == "http_request_duration_seconds_bucket":
                bounds = buckets.setdefault((labels["method"], labels["handler"]), {})
                bounds[float(labels["le"])] = sample.value
    return Figures(requests, buckets)


def wrong_counts(served: Figures, ledger: Ledger) -> list[str]:
    """Return one line for each request count that differs from the clients'."""
    seen = {key: float(count) for key, count in ledger.counts().items()}
    return [
        f"{' '.join(map(str, key))}: clients {seen.get(key, 0):g}, service {served.requests.get(key, 0):g}"
        for key in sorted(seen.keys() | served.requests.keys())
        if seen.get(key, 0) != served.requests.get(key, 0)
    ]


def wrong_buckets(served: Figures, ledger: Ledger, transport: float) -> list[str]:
    """Return one line for each bucket that contradicts the clients' times; `transport` is their extra in seconds."""
    found = []
    for route, times in sorted(_by_route(ledger.requests).items()):
        bounds = served.buckets.get(route)
        if bounds is None:
            found.append(f"{' '.join(route)}: no buckets")
            continue
        stray = max(1, math.ceil(MAX_STRAY_SHARE * len(times)))
        for bound, below in sorted(bounds.items()):
            least = bisect_right(times, bound - MAX_CLOCK_DELAY_SECONDS) - stray
            most = bisect_right(times, bound + transport) + stray
            if not least <= below <= most:
                found.append(f"{' '.join(route)}: le={bound:g} holds {below:g}, clients say {least} to {most}")
    return found


def faster_than(served: Figures, handler: str, seconds: float) -> float:
    """Return the requests of `handler` in the buckets up to `seconds`: 0 if it cannot be faster."""
    return sum(
        value
        for route, bounds in served.buckets.items()
        if route[1] == handler
        for bound, value in bounds.items()
        if bound == max((known for known in bounds if known <= seconds), default=None)
    )


def percentiles(served: Figures, ledger: Ledger) -> dict[str, dict[str, float]]:
    """Return P50, P95, P99 of all requests in seconds: the clients' exact time and the server's bucket boundaries."""
    times = sorted(request.seconds for request in ledger.requests)
    bounds = _summed(served.buckets.values())
    return {
        f"p{share * 100:g}": {
            "clients": round(times[max(0, math.ceil(share * len(times)) - 1)], 4),
            "service_above": round(_bucket(bounds, share)[0], 4),
            "service_up_to": round(_bucket(bounds, share)[1], 4),
        }
        for share in (0.5, 0.95, 0.99)
        if times and bounds
    }


def wrong_percentiles(found: Mapping[str, Mapping[str, float]], transport: float) -> list[str]:
    """Return one line for each client percentile outside the server's bucket."""
    return [
        f"{name}: clients {one['clients']:g} s, service {one['service_above']:g} to {one['service_up_to']:g} s"
        for name, one in found.items()
        if not one["service_above"] - MAX_CLOCK_DELAY_SECONDS <= one["clients"] <= one["service_up_to"] + transport
    ]


def slower_share(served: Figures, bound: float, excluded: str = "") -> float:
    """Return the share of requests slower than `bound`, a boundary, without handlers that match `excluded` as a whole.

    NaN if there are none. Raise KeyError if `bound` is no boundary.
    """
    bounds = _summed(bounds for route, bounds in served.buckets.items() if not re.fullmatch(excluded, route[1]))
    return 1 - bounds[bound] / bounds[math.inf] if bounds else math.nan


def failed_share(ledger: Ledger) -> float:
    """Return the share of the requests that got a 5xx answer or none, 1 if there were no requests."""
    failed = sum(one.status >= SERVER_ERROR or one.status == NO_ANSWER for one in ledger.requests)
    return failed / len(ledger.requests) if ledger.requests else 1.0


def _by_route(requests: Iterable[Request]) -> dict[Route, list[float]]:
    """Return the times of each route's requests, ascending."""
    found: dict[Route, list[float]] = {}
    for request in requests:
        found.setdefault((request.method, request.handler), []).append(request.seconds)
    return {route: sorted(times) for route, times in found.items()}


def _summed(routes: Iterable[Mapping[float, float]]) -> dict[float, float]:
    total: dict[float, float] = {}
    for bounds in routes:
        for bound, value in bounds.items():
            total[bound] = total.get(bound, 0) + value
    return total


def _bucket(bounds: Mapping[float, float], share: float) -> tuple[float, float]:
    """Return the boundaries between which the quantile lies."""
    rank = share * bounds[math.inf]
    lower = 0.0
    for bound, below in sorted(bounds.items()):
        if below >= rank:
            return lower, bound
        lower = bound
    return lower, math.inf
