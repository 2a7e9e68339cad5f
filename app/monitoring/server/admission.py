"""Admission of requests by a worker: a bound for those in flight, a short queue with a deadline, then 503 at once.

A request is admitted, queued or shed before it has a task, a context or telemetry, so that shedding costs little.
Invariants:

- At most `max_in_flight` requests hold a slot, from the start of their task to its end or to `Slot.release`.
- A request with a body is admitted once the body has come, or more than HIGH_WATER_LIMIT (64 KiB) of it. Until then it
  does not count. One that expects `100 Continue` gets it while a slot is free, else it is queued or shed without.
- A queued request is started, shed at its deadline, or dropped when its client leaves; none is started afterwards.
- Exempt requests need no slot, up to MAX_EXEMPT_IN_FLIGHT of them. Websockets never do.
"""

import asyncio
import contextvars
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ..logging import get_logger
from ..metrics import process
from ..metrics.catalogue import catalogue
from ..metrics.http import HttpMetrics, known_method
from ..options import Options
from ..requests.slot import SLOT, WAITED
from .rejection import Pauses, Rejections

if TYPE_CHECKING:
    from .protocol import Protocol

# Probes and scrapes come a few at a time. More than these are treated like any other request.
MAX_EXEMPT_IN_FLIGHT = 32
SHED_REASONS = QUEUE_FULL, QUEUE_TIMEOUT = "queue_full", "queue_timeout"
# Seconds between two lines about requests that were shed.
REPORT_SECONDS = 10.0
log = get_logger("admission")


@dataclass(frozen=True)
class AdmissionLimits:
    """The options of admission. `queue_timeout` is in seconds."""

    max_in_flight: int
    max_queued: int
    queue_timeout: float
    overload_exempt_paths: tuple[str, ...]

    @classmethod
    def of(cls, options: Options) -> Self | None:
        """Return the limits of `options`, None if requests in flight are not bounded."""
        if not options.max_in_flight:
            return None
        return cls(
            options.max_in_flight, options.max_queued_requests, options.queue_timeout, options.overload_exempt_paths
        )


class Slot:
    """The place of one request among those in flight."""

    __slots__ = ("_admission", "_exempt", "_held")

    def __init__(self, admission: "Admission", *, exempt: bool) -> None:
        self._admission, self._exempt, self._held = admission, exempt, True

    def release(self) -> None:
        """Stop counting the request; it continues to run."""
        if self._held:
            self._held = False
            self._admission.release(exempt=self._exempt)

    def end(self, task: "asyncio.Task[None]") -> None:
        """Release the slot of a task that has ended."""
        self._admission.tasks.discard(task)
        self.release()


class _Waiting(NamedTuple):
    cycle: Any
    app: Any
    since: float


class Admission:
    """The requests of one worker that are in flight and those that wait for a slot. `tasks` are the server's."""

    def __init__(self, limits: AdmissionLimits, tasks: "set[asyncio.Task[None]]", queue_timeout: float) -> None:
        self.tasks = tasks
        self.in_flight = 0
        self.shed_lately = self.shed_now = 0
        self._max_in_flight, self._max_queued = limits.max_in_flight, limits.max_queued
        self._timeout = min(limits.queue_timeout, queue_timeout)
        self._exempt_in_flight = 0
        self._exempt = frozenset(limits.overload_exempt_paths)
        self._exempt_prefixes = tuple(f"{path}/" for path in limits.overload_exempt_paths)
        self._loop = asyncio.get_running_loop()
        # A connection has one request at a time: the others wait in its pipeline.
        self._queue: OrderedDict[Protocol, _Waiting] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._rejections = Rejections()
        self.pauses = Pauses()
        self._report = _Report()
        self._context = contextvars.copy_context()

    def admit(self, connection: "Protocol", cycle: Any, app: Any) -> None:
        """Start, queue or shed the request of a cycle, or wait for its body."""
        free = self.in_flight < self._max_in_flight
        path = cycle.scope["path"].removeprefix(cycle.scope["root_path"])
        if (path in self._exempt or path.startswith(self._exempt_prefixes)) and (
            self._exempt_in_flight < MAX_EXEMPT_IN_FLIGHT
        ):
            self._exempt_in_flight += 1
            self._start(connection, cycle, app, Slot(self, exempt=True))
        elif cycle.has_body and cycle.lacks_body and (free or not cycle.waiting_for_100_continue):
            connection.await_body(cycle, app)
        elif free:
            self.in_flight += 1
            self._start(connection, cycle, app, Slot(self, exempt=False))
        elif len(self._queue) < self._max_queued:
            self._queue[connection] = _Waiting(cycle, app, self._loop.time())
            self._set_timer()
        else:
            self._shed(connection, cycle, QUEUE_FULL)

    def drop(self, connection: "Protocol") -> None:
        """Forget the queued request of a client that has left."""
        self._queue.pop(connection, None)

    def release(self, *, exempt: bool) -> None:
        """Give a slot back, and start the next request of the queue."""
        if exempt:
            self._exempt_in_flight -= 1
            return
        self.in_flight -= 1
        self._expire()
        while self._queue and self.in_flight < self._max_in_flight:
            connection, waiting = self._queue.popitem(last=False)
            if connection.is_left():
                connection.transport.abort()
                continue
            waiting.cycle.scope[WAITED] = self._loop.time() - waiting.since
            self.in_flight += 1
            self._start(connection, waiting.cycle, waiting.app, Slot(self, exempt=False))

    def _start(self, connection: "Protocol", cycle: Any, app: Any, slot: Slot) -> None:
        """Start a request as Uvicorn does, with one callback for the end of its task."""
        connection.rejected = 0
        cycle.scope[SLOT] = slot
        # A request may release its slot while it runs: the context here is that of another client's request then.
        context = contextvars.Context() if connection.config.reset_contextvars else self._context.copy()
        task = self._loop.create_task(cycle.run_asgi(app), context=context)
        task.add_done_callback(slot.end, context=self._context.copy())
        self.tasks.add(task)

    def _shed(self, connection: "Protocol", cycle: Any, reason: str) -> None:
        scope = cycle.scope
        self.shed_now += 1
        self._report.add(reason)
        if HttpMetrics.current is not None:
            HttpMetrics.current.record_unrouted(known_method(scope["method"]), HTTPStatus.SERVICE_UNAVAILABLE)
        try:
            connection.reject(cycle, self._rejections)
        except Exception:  # the other connections of the queue go on
            log.exception("rejection_failed")
            connection.transport.abort()

    def _set_timer(self) -> None:
        if self._timer is None and self._queue:
            oldest = next(iter(self._queue.values()))
            self._timer = self._loop.call_at(oldest.since + self._timeout, self._ring)

    def _ring(self) -> None:
        self._timer = None
        try:
            self._expire()
        finally:
            self._set_timer()

    def _expire(self) -> None:
        """Shed the requests whose deadline has passed."""
        latest = self._loop.time() - self._timeout
        while self._queue:
            connection, waiting = next(iter(self._queue.items()))
            if waiting.since > latest:
                return
            del self._queue[connection]
            self._shed(connection, waiting.cycle, QUEUE_TIMEOUT)

    def publish(self) -> None:
        """Set the gauges, and log what was shed. Call it about once a second, and at the end."""
        self.shed_lately, self.shed_now = self.shed_now, 0
        metrics, worker = catalogue(), process.worker_slot()
        metrics.requests_in_flight.labels(worker).set(self.in_flight)
        metrics.requests_queued.labels(worker).set(len(self._queue))
        self._report.write(self._loop.time(), in_flight=self.in_flight, queued=len(self._queue))


class _Report:
    """The number of requests shed since the last line about them, which is written at most every REPORT_SECONDS."""

    def __init__(self) -> None:
        self._counted = {reason: catalogue().requests_shed.labels(reason) for reason in SHED_REASONS}
        self._unwritten = dict.fromkeys(self._counted, 0)
        self._next = 0.0

    def add(self, reason: str) -> None:
        self._counted[reason].inc()
        self._unwritten[reason] += 1

    def write(self, now: float, **state: int) -> None:
        if now >= self._next and any(self._unwritten.values()):
            log.warning("requests_shed", **self._unwritten, **state)
            self._next = now + REPORT_SECONDS
            self._unwritten = dict.fromkeys(self._unwritten, 0)
