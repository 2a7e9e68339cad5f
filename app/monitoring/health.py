"""Health checks that run side by side, each within its own time-out, and the shape of the answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from app.monitoring.logging import get_logger

Details = Mapping[str, Any]
log = get_logger("health")
# Tasks that outlived their time-out; held so that they are not collected while they unwind.
_abandoned: set["asyncio.Task[Any]"] = set()


class CheckFailed(Exception):  # noqa: N818 -- reads as what happened
    """A check found its subject unfit. The message is shown to whoever asks: no addresses, no driver's words."""


@dataclass(frozen=True)
class Check:
    """One question about one dependency.

    `run` returns extra fields for the answer, or raises CheckFailed. What is not `required` is reported and leaves
    the service ready.
    """

    name: str
    run: Callable[[], Awaitable[Details]]
    timeout: float
    required: bool = True


async def _answer(check: Check) -> dict[str, Any]:
    """Run one check. It is answered when its time-out passes, even where the check cannot be cancelled that fast."""
    started = time.perf_counter()
    task = asyncio.ensure_future(check.run())
    done, _ = await asyncio.wait({task}, timeout=check.timeout)
    answer: dict[str, Any] = {
        "status": "fail",
        "response_ms": round((time.perf_counter() - started) * 1000, 1),
    }
    if not done:
        task.cancel()
        _abandoned.add(task)
        task.add_done_callback(_forget)
        return {**answer, "error": f"no answer within {check.timeout:g} s"}
    error = task.exception()
    if isinstance(error, CheckFailed):
        return {**answer, "error": str(error)}
    if error is not None:
        log.warning("health_check_broken", check=check.name, error=f"{type(error).__name__}: {error}")
        return {**answer, "error": "the check itself failed"}
    return {**answer, "status": "pass", **task.result()}


def _forget(task: "asyncio.Task[Any]") -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # retrieved, so that the loop does not report what has been answered already


async def run_checks(checks: Sequence[Check], version: str) -> tuple[bool, dict[str, Any]]:
    """Whether every required check passed, and the answer's body.

    Status is "ready", "degraded" (ready, but something that is not required failed) or "not_ready".
    """
    answers = await asyncio.gather(*(_answer(check) for check in checks))
    failed = [check for check, answer in zip(checks, answers, strict=True) if answer["status"] == "fail"]
    status: Literal["ready", "degraded", "not_ready"] = "degraded" if failed else "ready"
    if any(check.required for check in failed):
        status = "not_ready"
    for check, answer in zip(checks, answers, strict=True):
        if check in failed and not check.required:
            answer["status"] = "warn"
    body = {
        "status": status,
        "timestamp": timestamp(),
        "version": version,
        "checks": {check.name: answer for check, answer in zip(checks, answers, strict=True)},
    }
    return status != "not_ready", body


def timestamp() -> str:
    """The time now as 2025-01-01T12:00:00Z."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
