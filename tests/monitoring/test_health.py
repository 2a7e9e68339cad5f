"""Checks run concurrently, end within their time-outs and report results."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from structlog.testing import capture_logs

from app.monitoring import health
from app.monitoring.health import CachedCheck, Check, CheckFailed, run_checks, timestamp

SECRET = "password=hunter2"


def passes(name: str = "good", **details: Any) -> Check:
    """Return a check that passes."""

    async def run() -> dict[str, Any]:
        return details

    return Check(name, run, 10.0)


def fails(name: str = "bad", *, required: bool = True, error: BaseException | None = None) -> Check:
    """Return a check that raises."""

    async def run() -> dict[str, Any]:
        raise error or CheckFailed("it is away")

    return Check(name, run, 10.0, required)


async def settled() -> None:
    """Wait until all abandoned checks have ended."""
    if health._abandoned:
        await asyncio.wait(set(health._abandoned))
    assert not health._abandoned


async def test_the_answer_names_every_check_in_order() -> None:
    fit, body = await run_checks([passes("database"), passes("disk", usage_percent=40)], "1.2.3")
    assert fit is True
    assert body.keys() == {"status", "timestamp", "version", "checks"}
    assert (body["status"], body["version"]) == ("ready", "1.2.3")
    assert list(body["checks"]) == ["database", "disk"]
    assert body["checks"]["database"].keys() == {"status", "response_ms"}
    disk = body["checks"]["disk"]
    assert (disk["status"], disk["usage_percent"]) == ("pass", 40)
    assert disk["response_ms"] >= 0


async def test_without_checks_the_service_is_ready() -> None:
    fit, body = await run_checks([], "1")
    assert (fit, body["status"], body["checks"]) == (True, "ready", {})


@pytest.mark.parametrize(
    ("required", "fit", "status", "shown"), [(True, False, "not_ready", "fail"), (False, True, "degraded", "warn")]
)
async def test_only_what_is_required_takes_the_service_out(
    *, required: bool, fit: bool, status: str, shown: str
) -> None:
    found, body = await run_checks([passes(), fails(required=required)], "1")
    assert (found, body["status"]) == (fit, status)
    bad = body["checks"]["bad"]
    assert (bad["status"], bad["error"]) == (shown, "it is away")
    assert body["checks"]["good"]["status"] == "pass"


async def test_what_is_required_outweighs_what_is_not() -> None:
    fit, body = await run_checks([fails("extra", required=False), fails("needed")], "1")
    assert (fit, body["status"]) == (False, "not_ready")
    assert {name: check["status"] for name, check in body["checks"].items()} == {"extra": "warn", "needed": "fail"}


async def test_checks_run_side_by_side() -> None:
    started = {"a": asyncio.Event(), "b": asyncio.Event()}

    def waits(own: str, other: str) -> Check:
        async def run() -> dict[str, Any]:
            started[own].set()
            await started[other].wait()
            return {}

        return Check(own, run, 30.0)

    fit, _ = await run_checks([waits("a", "b"), waits("b", "a")], "1")
    assert fit is True


async def test_a_check_that_takes_too_long_fails_with_its_time_out() -> None:
    cancelled = asyncio.Event()

    async def run() -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return {}

    fit, body = await run_checks([Check("slow", run, 0.01)], "1")
    assert fit is False
    assert body["checks"]["slow"]["error"] == "no answer within 0.01 s"
    await cancelled.wait()
    await settled()


@pytest.mark.parametrize("ending", [RuntimeError("late"), None])
async def test_a_check_that_ignores_cancellation_does_not_hold_the_answer(ending: Exception | None) -> None:
    release = asyncio.Event()

    async def run() -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
        if ending is not None:
            raise ending
        return {}

    fit, body = await run_checks([Check("stubborn", run, 0.01)], "1")
    assert (fit, body["checks"]["stubborn"]["status"]) == (False, "fail")
    assert len(health._abandoned) == 1
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    release.set()
    await settled()
    asyncio.get_running_loop().set_exception_handler(None)
    assert reported == []


async def test_once_a_required_check_has_failed_the_others_are_not_waited_for() -> None:
    cancelled = asyncio.Event()

    async def run() -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return {}

    fit, body = await asyncio.wait_for(run_checks([Check("slow", run, 3600.0), fails(), passes()], "1"), 30)
    assert (fit, body["status"]) == (False, "not_ready")
    assert {name: check["status"] for name, check in body["checks"].items()} == {
        "slow": "unknown",
        "bad": "fail",
        "good": "pass",
    }
    await cancelled.wait()
    await settled()


async def test_a_client_that_goes_away_ends_the_checks() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def run() -> dict[str, Any]:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return {}

    asking = asyncio.create_task(run_checks([Check("slow", run, 3600.0)], "1"))
    await started.wait()
    asking.cancel()
    await asyncio.wait_for(cancelled.wait(), 30)
    await settled()


async def test_a_broken_check_is_logged_and_its_words_do_not_leave() -> None:
    with capture_logs() as lines:
        fit, body = await run_checks([fails(error=ConnectionError(SECRET))], "1")
    assert fit is False
    assert body["checks"]["bad"]["error"] == "the check itself failed"
    assert "hunter2" not in str(body)
    assert [(line["event"], line["check"]) for line in lines] == [("health_check_broken", "bad")]


async def test_a_check_that_cancels_itself_is_broken_and_costs_no_other() -> None:
    with capture_logs():
        answering = asyncio.create_task(run_checks([fails(error=asyncio.CancelledError()), passes()], "1"))
        await asyncio.wait({answering})
    assert not answering.cancelled()
    fit, body = answering.result()
    assert fit is False
    assert body["checks"]["bad"]["status"] == "fail"
    assert body["checks"]["good"]["status"] == "pass"


async def test_a_check_that_raises_before_it_can_be_awaited_is_broken_and_costs_no_other() -> None:
    def run() -> Awaitable[dict[str, Any]]:
        raise RuntimeError(SECRET)

    broken: Callable[[], Awaitable[dict[str, Any]]] = run
    with capture_logs():
        fit, body = await run_checks([Check("bad", broken, 1.0), passes()], "1")
    assert fit is False
    assert body["checks"]["bad"]["error"] == "the check itself failed"


def test_a_timestamp_is_utc_to_the_second() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    text = timestamp()
    assert before <= datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) <= datetime.now(UTC)


async def test_what_a_check_asks_makes_no_spans_of_its_own() -> None:
    async def run() -> dict[str, Any]:
        return {"instrumented": is_instrumentation_enabled()}

    _, body = await run_checks([Check("database", run, 1.0)], "1")
    assert body["checks"]["database"]["instrumented"] is False


async def test_the_time_of_an_answer_is_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([5.0, 5.25])
    monkeypatch.setattr(health, "time", SimpleNamespace(perf_counter=lambda: next(times)))
    _, body = await run_checks([passes()], "1")
    assert body["checks"]["good"]["response_ms"] == 250.0


class Asked:
    """A check that waits; `answer` lets it finish."""

    def __init__(self) -> None:
        self.times = 0
        self.begun = asyncio.Event()
        self.answer = asyncio.Event()

    async def __call__(self) -> dict[str, Any]:
        self.times += 1
        self.begun.set()
        await self.answer.wait()
        return {"time": self.times}


async def test_a_remembered_answer_is_not_asked_for_again_until_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, clock = Asked(), SimpleNamespace(now=1000.0)
    monkeypatch.setattr(health, "time", SimpleNamespace(monotonic=lambda: clock.now))
    cached = CachedCheck(asked, 30.0, 60.0)
    asked.answer.set()
    assert [await cached() for _ in range(3)] == [{"time": 1}] * 3
    clock.now += 59.9
    assert await cached() == {"time": 1}
    assert cached._renewal is None
    asked.answer.clear()
    clock.now += 0.1
    assert await cached() == {"time": 1}, "the old one, while the new one is on its way"
    asked.answer.set()
    await asyncio.wait({cached._renewal} if cached._renewal else ())
    assert (await cached(), asked.times) == ({"time": 2}, 2)


async def test_one_who_is_not_waited_for_leaves_the_answer_to_the_next() -> None:
    asked = Asked()
    cached = CachedCheck(asked, 30.0, 60.0)
    first = asyncio.create_task(cached())
    await asked.begun.wait()
    first.cancel()
    await asyncio.wait({first})
    asked.answer.set()
    assert (await cached(), asked.times) == ({"time": 1}, 1)


async def test_a_remembered_answer_that_never_comes_is_a_failure() -> None:
    with pytest.raises(CheckFailed, match=r"no answer within 0\.01 s"):
        await asyncio.wait_for(CachedCheck(Asked(), 0.01, 60.0)(), 30)


async def test_a_check_goes_on_without_the_probe_and_its_failure_is_reported_by_the_next() -> None:
    reported: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    started, free = asyncio.Event(), asyncio.Event()

    async def run() -> dict[str, Any]:
        started.set()
        await free.wait()
        raise CheckFailed("it is away")

    check = CachedCheck(run, 10.0, 60.0)
    probe = asyncio.ensure_future(check())
    await started.wait()
    probe.cancel()
    await asyncio.wait([probe])
    assert probe.cancelled()
    free.set()
    with pytest.raises(CheckFailed, match="it is away"):
        await check()
    gc.collect()  # asyncio reports unretrieved exceptions when the task is collected
    loop.set_exception_handler(None)
    assert reported == []
