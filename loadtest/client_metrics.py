"""The clients' figures as metrics, for the Prometheus of a run: docs/loadtest.md lists them.

The histogram has the boundaries of the service's own, so that both can be compared bucket by bucket.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class ClientMetrics(Collector):
    """Counts requests. `users`, `offered` (None if it is not known), `tasks` and `late` are read at each scrape."""

    def __init__(
        self,
        run: str,
        scenario: str,
        boundaries: Sequence[float],
        *,
        users: Callable[[], int],
        offered: Callable[[], float | None],
        tasks: Callable[[], int],
        late: Callable[[], int],
    ) -> None:
        self._labels = {"run": run, "scenario": scenario}
        self._boundaries = [*boundaries, math.inf]
        self._users, self._offered, self._tasks, self._late = users, offered, tasks, late
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._buckets: dict[tuple[str, str], list[int]] = {}
        self._seconds: Counter[tuple[str, str]] = Counter()

    def registry(self) -> CollectorRegistry:
        """Return a registry of these metrics alone."""
        registry = CollectorRegistry()
        registry.register(self)
        return registry

    def note(self, method: str, handler: str, status: int, seconds: float) -> None:
        """Count a request that has ended; `status` 0 is no answer."""
        route = method, handler
        self._requests[(*route, status)] += 1
        buckets = self._buckets.setdefault(route, [0] * len(self._boundaries))
        buckets[bisect_left(self._boundaries, seconds)] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]

    def collect(self) -> Iterator[Metric]:
        """Return the metrics."""
        yield self._gauge("loadtest_run_info", "1 while the users of this run send requests.", 1)
        yield self._gauge("loadtest_users", "Users that send requests at present.", self._users())
        offered = self._offered()
        if offered is not None:
            help_text = "Requests a second that the schedule of these users asks for."
            yield self._gauge("loadtest_offered_requests_per_second", help_text, offered)
        yield self._counter("loadtest_tasks", "Tasks that users have done.", self._tasks())
        yield self._counter("loadtest_tasks_late", "Tasks that began late: the one before took too long.", self._late())
        yield self._answers()
        yield self._durations()

    def _gauge(self, name: str, documentation: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, documentation, labels=[*self._labels])
        family.add_metric([*self._labels.values()], value)
        return family

    def _counter(self, name: str, documentation: str, value: float) -> Metric:
        family = CounterMetricFamily(name, documentation, labels=[*self._labels])
        family.add_metric([*self._labels.values()], value)
        return family

    def _answers(self) -> Metric:
        labels = [*self._labels, "method", "handler", "status"]
        family = CounterMetricFamily("loadtest_requests", "Requests by the answer that clients saw.", labels=labels)
        for (method, handler, status), count in self._requests.items():
            family.add_metric([*self._labels.values(), method, handler, str(status)], count)
        return family

    def _durations(self) -> Metric:
        labels = [*self._labels, "method", "handler"]
        name, text = "loadtest_request_duration_seconds", "Time of clients from the request to the last byte."
        family = HistogramMetricFamily(name, text, labels=labels)
        for route, counts in self._buckets.items():
            below, buckets = 0, []
            for boundary, count in zip(self._boundaries, counts, strict=True):
                below += count
                buckets.append((str(floatToGoString(boundary)), below))  # type: ignore[no-untyped-call]
            family.add_metric([*self._labels.values(), *route], buckets, self._seconds[route])
        return family
