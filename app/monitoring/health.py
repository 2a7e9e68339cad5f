"""Concurrent health checks with a time-out each, their response body, and a service's readiness in its metrics."""

import asyncio
import math
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import structlog
from opentelemetry.instrumentation.utils import suppress_instrumentation

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from .metrics.catalogue import Catalogue

__all__ = ["CachedCheck", "Check", "CheckFailed", "Details", "Readiness", "run_checks", "timestamp"]

Details = Mapping[str, Any]
Answers = dict[str, dict[str, Any]]
log: structlog.typing.FilteringBoundLogger = structlog.get_logger("health")
GRACE_SECONDS = 0.1
# Age of the last complete run from which a worker runs the checks without being probed.
MAX_AGE_SECONDS = 10.0
STOPPING = {"status": "fail", "error": "the service is stopping"}
# Not empty once the service stops.
_stopping: list[bool] = []
# Cancelled tasks that have not ended; referenced so that they are not garbage-collected meanwhile.
_abandoned: set["asyncio.Task[Any]"] = set()
_kept: "weakref.WeakSet[Readiness]" = weakref.WeakSet()


class CheckFailed(Exception):  # noqa: N818 -- reads as what happened
    """A check's dependency is unfit. The message is public: no addresses, no driver messages."""


@dataclass(frozen=True)
class Check:
    """A check of one dependency.

    `run` returns extra fields for the result; it raises CheckFailed if the dependency is unfit. A check that is not
    `required` is reported, but its failure leaves the service ready.
    """

    name: str
    """The key of its result in the response body."""
    run: Callable[[], Awaitable[Details]]
    timeout: float
    """Seconds that `run` has; a check that takes longer has failed."""
    required: bool = True
    dependency: bool = True
    """Something outside the process that has a series of `dependency_up`; False for a check of the disk, say."""


async def _run(check: Check) -> Details:
    """Run the check inside a task, so that errors before its first await are caught too."""
    return await check.run()


async def _answer(check: Check) -> dict[str, Any]:
    """Return the result of one check, after its time-out at the latest, even if it does not react to cancellation."""
    started = time.perf_counter()
    task = asyncio.create_task(_run(check))
    try:
        done, _ = await asyncio.wait({task}, timeout=check.timeout)
    finally:
        if not task.done():
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_discard)
    answer: dict[str, Any] = {
        "status": "fail",
        "response_ms": round((time.perf_counter() - started) * 1000, 1),
    }
    if not done:
        return {**answer, "error": f"no answer within {check.timeout:g} s"}
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if isinstance(error, CheckFailed):
        return {**answer, "error": str(error)}
    if error is not None:
        log.warning("health_check_broken", check=check.name, error=f"{type(error).__name__}: {error}")
        return {**answer, "error": "the check itself failed"}
    return {**answer, "status": "pass", **task.result()}


def _discard(task: "asyncio.Task[Any]") -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # retrieved, so that the loop does not report it as never retrieved


async def _settle() -> None:
    """Wait up to GRACE_SECONDS until cancelled checks have given back their connections, which are closed next."""
    await asyncio.sleep(0)  # each of them is abandoned
    if _abandoned:
        await asyncio.wait(set(_abandoned), timeout=GRACE_SECONDS)


class CachedCheck:
    """A check's `run` whose result is cached for `seconds` and renewed in the background.

    For checks that are not required: readiness must not wait for them at each probe.
    """

    def __init__(self, run: Callable[[], Awaitable[Details]], timeout: float, seconds: float) -> None:
        self._run = run
        self._timeout = timeout
        self._seconds = seconds
        self._known: asyncio.Task[Details] | None = None
        self._renewal: asyncio.Task[Details] | None = None
        self._renewed = 0.0

    async def __call__(self) -> Details:
        """Return the cached result, or wait for the first one."""
        if self._renewal is not None and self._renewal.done():
            self._known, self._renewal = self._renewal, None
        if self._renewal is None and time.monotonic() - self._renewed >= self._seconds:
            self._renewed = time.monotonic()
            self._renewal = asyncio.create_task(self._renew())
            self._renewal.add_done_callback(_discard)
        current = self._known or self._renewal
        if current is None:
            raise CheckFailed("not asked yet")
        # Cancelling a probe does not cancel the check. From Python 3.14 on,
        # asyncio.shield would report the failure of a check whose probe was cancelled.
        await asyncio.wait([current])
        return current.result()

    async def _renew(self) -> Details:
        try:
            return await asyncio.wait_for(self._run(), self._timeout)
        except TimeoutError as error:
            raise CheckFailed(f"no answer within {self._timeout:g} s") from error


async def _answers(checks: Sequence[Check], grace: float | None = GRACE_SECONDS) -> Answers:
    """Return the results by name. Once a required check has failed, the others get `grace` seconds to finish.

    None is all their time. Those that have not finished are "unknown".
    """
    tasks = {asyncio.ensure_future(_answer(check)): check for check in checks}
    answers: Answers = {check.name: {"status": "unknown"} for check in checks}
    pending, failed = set(tasks), False
    try:
        while pending:
            moment = grace if failed else None
            done, pending = await asyncio.wait(pending, timeout=moment, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            for task in done:
                answers[tasks[task].name] = task.result()
                failed |= tasks[task].required and task.result()["status"] == "fail"
    finally:
        for task in tasks:
            task.cancel()
    return answers


def set_retiring() -> None:
    """Have the metrics of readiness leave this worker out, which stops while the service goes on."""
    for readiness in list(_kept):
        readiness.retire()


def set_stopping() -> None:
    """Have every later `run_checks` of this process fail, so that load balancers send no more requests."""
    _stopping.append(True)


async def run_checks(checks: Sequence[Check], version: str) -> tuple[bool, dict[str, Any]]:
    """Run `checks` concurrently. Return whether every required one passed, and the response body.

    Status is "ready", "degraded" (ready, but something that is not required failed) or "not_ready". A service that
    is stopping is not ready, whatever its checks return.
    """
    return _response(checks, await _unobserved(_answers(checks)), version)


async def _unobserved(answers: Awaitable[Answers]) -> Answers:
    """Await answers without spans: probes' requests have none, so queries' would be roots of traces of their own."""
    with suppress_instrumentation():
        return await answers


def _response(checks: Sequence[Check], answers: Answers, version: str) -> tuple[bool, dict[str, Any]]:
    status: Literal["ready", "degraded", "not_ready"] = "ready"
    for check in checks:
        answer = answers[check.name]
        if answer["status"] == "fail" and check.required:
            status = "not_ready"
        elif answer["status"] == "fail":
            answer["status"] = "warn"
            status = "degraded" if status == "ready" else status
    if _stopping:
        status, answers["process"] = "not_ready", dict(STOPPING)
    return status != "not_ready", {"status": status, "timestamp": timestamp(), "version": version, "checks": answers}


class Readiness:
    """The checks of a service, for its probes and for the metrics `ready` and `dependency_up`.

    Pass it to `Observability.instrument`: each worker then runs the checks itself when no complete run is younger than
    `max_age` seconds, so the metrics do not depend on probes. A probe of which every check has finished is such a run.
    Raise ValueError if two checks have one name.
    """

    def __init__(self, checks: Sequence[Check], version: str, *, max_age: float = MAX_AGE_SECONDS) -> None:
        names = [check.name for check in checks]
        if len(set(names)) < len(names):
            raise ValueError(f"checks={names}: want names that differ")
        self._checks, self._version, self._max_age = tuple(checks), version, max_age
        self._renewed = -math.inf
        self._metrics: Catalogue | None = None
        # Those that have been set, by check; "" is the service's.
        self._exposed: dict[str, Gauge] = {}

    async def probe(self) -> tuple[bool, dict[str, Any]]:
        """Run the checks as `run_checks` does and return the same; update the metrics."""
        return _response(self._checks, await self._run(GRACE_SECONDS), self._version)

    async def keep(self, metrics: "Catalogue") -> None:
        """Keep the metrics up to date until this process retires. `Observability.instrument` runs it in each worker."""
        self._metrics = metrics
        _kept.add(self)
        try:
            while self._metrics is not None:
                wait = self._renewed + self._max_age - time.monotonic()
                if wait <= 0:
                    await self._renew()
                    wait = self._max_age
                await asyncio.sleep(wait)
        finally:
            self._metrics = None  # what a check finds while the application closes its connections does not count
            await _settle()

    def retire(self) -> None:
        """Have this worker lower no metric from now on: it gets no new requests, and checks nothing any more."""
        self._metrics = None
        for gauge in self._exposed.values():
            gauge.set(1.0)

    async def _renew(self) -> None:
        try:
            # None is in a hurry here: a check that is cut short would leave an old value.
            await self._run(None)
        except Exception:  # the next run may succeed
            log.exception("readiness_not_renewed")
            if self._metrics is not None:
                self._set("", self._metrics.ready, up=False)

    async def _run(self, grace: float | None) -> Answers:
        started = time.monotonic()
        answers = await _unobserved(_answers(self._checks, grace))
        if all(answer["status"] != "unknown" for answer in answers.values()):
            self._renewed = started
        if self._metrics is not None:
            self._expose(self._metrics, answers)
        return answers

    def _expose(self, metrics: "Catalogue", answers: Answers) -> None:
        fit = True
        for check in self._checks:
            status = answers[check.name]["status"]
            fit = fit and not (check.required and status == "fail")
            if check.dependency and status != "unknown":
                self._set(check.name, metrics.dependency_up.labels(check.name), up=status != "fail")
        self._set("", metrics.ready, up=fit)

    def _set(self, name: str, gauge: "Gauge", *, up: bool) -> None:
        gauge.set(float(up))
        self._exposed[name] = gauge


def timestamp() -> str:
    """Return the current time as 2025-01-01T12:00:00Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
