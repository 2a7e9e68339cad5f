"""The two scenarios: in `healthy` no alert is notified; in `errors` the AI upstream fails, and
HighErrorRate is seen pending, firing, notified, resolved and its resolution notified.
"""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from loadtest import comparison
from loadtest.alerts import Timeline, watched
from loadtest.comparison import Figures, figures
from loadtest.configuration import milliseconds
from loadtest.ledger import NO_ANSWER, SERVER_ERROR, Ledger
from loadtest.programs import last, until
from loadtest.receiver import HEARTBEAT, PAGES
from loadtest.stack import MONITORING, Options, Stack, stack
from loadtest.users import Users, users

SERVICE, ALERT, WATCHDOG = "baliblissed", "HighErrorRate", "Watchdog"
# While the upstream fails the breaker opens too, and stays open for as long as that takes.
MAY_FIRE_WITH_ERRORS = {"CircuitBreakerOpen"}
AI_DELAY = 0.3
AI_ROUTES = "/api/v1/assistant/"
AI_FAILURES = {502, 503, 504}
PLAN = '{"days": [["tanah-lot"]]}'
# Clients' time beyond the service's own: connections, and a load generator on the same CPUs.
MAX_TRANSPORT_SECONDS = 0.25
MAX_LATE_SHARE = 0.01
# Real time that the rules' durations do not hold: the breaker's cool-down (15 s), programs that look now and then.
MARGIN_SECONDS = 30.0
LEAD_SECONDS = 10.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, and what was seen."""

    name: str
    passed: bool
    detail: str


@dataclass
class Result:
    """The outcome of a scenario."""

    scenario: str
    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True if there were checks and every one passed."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    def check(self, name: str, passed: object, detail: object = "") -> bool:
        """Note what was looked at; returns whether it was as wanted."""
        self.checks.append(Check(name, bool(passed), str(detail)))
        return bool(passed)


@dataclass(frozen=True)
class Durations:
    """Seconds of this run, by monitoring/slo.yaml and alertmanager.yml."""

    window: float
    wait: float
    longest: float
    notice: float

    @classmethod
    def read(cls, speed: float) -> "Durations":
        """Read the shipped durations, divided by `speed`."""
        alerts = yaml.safe_load((MONITORING / "slo.yaml").read_text())["alerts"]
        routes = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())["route"]["routes"]

        def seconds(text: str) -> float:
            return milliseconds(text) / 1000 / speed

        each = [seconds(one.get("window", "0s")) + seconds(one.get("for", "0s")) for one in alerts.values()]
        (pages,) = [route for route in routes if route["receiver"] == PAGES]
        notice = max(seconds(pages[name]) for name in ("group_wait", "group_interval"))
        return cls(seconds(alerts[ALERT]["window"]), seconds(alerts[ALERT]["for"]), max(each), notice)


Plot = Callable[[Stack, Timeline, Durations, Result], Awaitable[None]]


async def healthy(running: Stack, timeline: Timeline, durations: Durations, result: Result) -> None:
    """Run long enough for every alert to fill its window and its pending period, if there were a cause."""
    await last(durations.longest + durations.notice + LEAD_SECONDS, running.programs)
    check_silence(result, timeline)


def check_silence(result: Result, timeline: Timeline) -> None:
    """Check that Watchdog fires, so the rules are evaluated, and that nothing else does."""
    fired = timeline.fired()
    result.check("nothing but Watchdog fires", fired == {WATCHDOG}, f"fired: {sorted(fired)}")


async def errors(running: Stack, timeline: Timeline, durations: Durations, result: Result) -> None:
    """Fail the AI upstream until the alert is notified, then restore it until the resolution is notified."""
    await last(LEAD_SECONDS, running.programs)
    running.ai.status = 500
    result.figures["upstream_fails_at"] = time.time()

    async def reached(what: str, look: Callable[[], object], patience: float) -> bool:
        seen = await until(look, patience + MARGIN_SECONDS, running.programs)
        return result.check(f"{ALERT} {what}", seen, "" if seen else f"not within {patience + MARGIN_SECONDS:.0f} s")

    told = running.receiver.first
    for what, look, patience in (
        ("is pending", lambda: timeline.at(ALERT, "pending"), durations.window),
        ("fires", lambda: timeline.at(ALERT, "firing"), durations.wait),
        ("is notified", lambda: told(ALERT, "firing"), durations.notice),
    ):
        if not await reached(what, look, patience):
            return
    running.ai.status = 200
    result.figures["upstream_is_well_at"] = time.time()
    if await reached("is resolved", lambda: timeline.at(ALERT, "resolved"), durations.window):
        await reached("is notified as resolved", lambda: told(ALERT, "resolved"), durations.notice)
    moments = [timeline.at(ALERT, state) or math.nan for state in ("pending", "firing", "resolved")]
    result.check(f"{ALERT} goes through its states in order", moments == sorted(moments), moments)
    wanted = {WATCHDOG, ALERT}
    fired = timeline.fired()
    result.check("nothing else fires", wanted <= fired <= wanted | MAY_FIRE_WITH_ERRORS, f"fired: {sorted(fired)}")


SCENARIOS: dict[str, Plot] = {"healthy": healthy, "errors": errors}


async def run(name: str, directory: Path, options: Options) -> Result:
    """Play a scenario; raises ProgramError or ConfigurationError where it could not be played to its end."""
    result, durations = Result(name), Durations.read(options.speed)
    longest = 2 * (durations.longest + durations.notice) + 6 * MARGIN_SECONDS
    async with stack(directory, options) as running, watched(running.prometheus) as timeline:
        running.ai.text, running.ai.delay = PLAN, AI_DELAY
        before = figures(await running.scrape())
        async with users(directory, running.url, options.users, longest) as visitors:
            running.programs.append(visitors.program)
            await SCENARIOS[name](running, timeline, durations, result)
        served = await settled(running.scrape, before, visitors.ledger)
        (directory / "metrics.txt").write_text(await running.scrape())
        _check_statuses(result, visitors.ledger)
        _check_figures(result, served, visitors)
        await _check_prometheus(result, running, sum(figures(await running.scrape()).requests.values()))
        _check_notifications(result, running, name)
    _summarise(result, served, visitors.ledger, running, timeline, options)
    return result


async def settled(
    scrape: Callable[[], Awaitable[str]], before: Figures, ledger: Ledger, routes: Sequence[str] = (comparison.API,)
) -> Figures:
    """Return the service's figures once they hold every request, or after 5 s: a client reads before they count."""
    served = before

    async def complete() -> bool:
        nonlocal served
        served = figures(await scrape(), routes).since(before)
        return sum(served.requests.values()) >= len(ledger.requests)

    await until(complete, 5.0)
    return served


def check_no_failure(result: Result, ledger: Ledger) -> None:
    """Check that there were requests, and that each was answered without a server error."""
    result.check("no request fails", ledger.requests and not _failures(ledger), dict(ledger.statuses()))


def _failures(ledger: Ledger) -> dict[tuple[str, str, int], int]:
    return {key: count for key, count in ledger.counts().items() if key[2] >= SERVER_ERROR or key[2] == NO_ANSWER}


def _check_statuses(result: Result, ledger: Ledger) -> None:
    if result.scenario == "healthy":
        check_no_failure(result, ledger)
        return
    failed = _failures(ledger)
    others = {key: count for key, count in failed.items() if not _is_ai_failure(key)}
    result.check("only the assistant's routes fail, with 502, 503 or 504", failed and not others, failed)


def _is_ai_failure(key: tuple[str, str, int]) -> bool:
    return key[1].startswith(AI_ROUTES) and key[2] in AI_FAILURES


def check_figures(result: Result, served: Figures, ledger: Ledger) -> None:
    """Check the latency buckets and counts of the metrics port against the clients' own."""
    late = ledger.late / max(1, ledger.tasks)
    result.check(
        "the users kept to their rate", late <= MAX_LATE_SHARE, f"{late:.2%} of {ledger.tasks} tasks began late"
    )
    wrong = comparison.wrong_counts(served, ledger)
    result.check("each request is counted once", not wrong, "; ".join(wrong) or f"{len(ledger.requests)} requests")
    wrong = comparison.wrong_buckets(served, ledger, MAX_TRANSPORT_SECONDS)
    result.check("each bucket agrees with the clients' times", not wrong, "; ".join(wrong))
    found = comparison.percentiles(served, ledger)
    wrong = comparison.wrong_percentiles(found, MAX_TRANSPORT_SECONDS)
    result.check("percentiles agree", found and not wrong, "; ".join(wrong) or found)


def _check_figures(result: Result, served: Figures, visitors: Users) -> None:
    check_figures(result, served, visitors.ledger)
    if result.scenario != "healthy":
        return
    chat = f"{AI_ROUTES}chat"
    quick = comparison.faster_than(served, chat, AI_DELAY)
    result.check("no answer of the AI is faster than its upstream", quick == 0, f"{quick:g} below {AI_DELAY:g} s")
    objective = yaml.safe_load((MONITORING / "slo.yaml").read_text())["alerts"]["HighLatencyP99"]
    share, bound = comparison.slower_share(served, objective["threshold_seconds"], [AI_ROUTES]), objective["quantile"]
    result.check(
        "P99 is within the objective", share <= 1 - bound, f"{share:.2%} over {objective['threshold_seconds']} s"
    )


async def _check_prometheus(result: Result, running: Stack, total: float) -> None:
    """Compare Prometheus with the metrics port, after a scrape that follows the last request."""
    query = f'sum(http_requests_total{{job="{SERVICE}",handler=~"{comparison.API}.*"}})'
    seen: float | None = None

    async def equal() -> bool:
        nonlocal seen
        seen = await running.prometheus.value(query)
        return seen == total

    await until(equal, MARGIN_SECONDS)
    result.check("Prometheus has stored the same total", seen == total, f"Prometheus {seen}, metrics port {total:g}")


def _check_notifications(result: Result, running: Stack, scenario: str) -> None:
    beat = running.receiver.first(WATCHDOG, "firing")
    result.check(
        "the Watchdog's heartbeat arrives", beat and beat.receiver == HEARTBEAT, beat.receiver if beat else ""
    )
    told = [one for one in running.receiver.notifications if one.receiver != HEARTBEAT]
    if scenario == "healthy":
        result.check("no alert is notified", not told, sorted({one.alert for one in told}))
        return
    notice = running.receiver.first(ALERT, "firing")
    if notice is not None:
        complete = notice.labels.get("severity") == "critical" and ALERT in notice.annotations.get("runbook_url", "")
        result.check("the notification says how urgent it is and where to read on", complete, notice.labels)


def _summarise(
    result: Result, served: Figures, ledger: Ledger, running: Stack, timeline: Timeline, options: Options
) -> None:
    first, notice = ledger.first_error(), running.receiver.first(ALERT, "firing")
    result.figures |= {
        "requests": len(ledger.requests),
        "requests_per_second": _rate(ledger),
        "statuses": {str(status): count for status, count in sorted(ledger.statuses().items())},
        "tasks": ledger.tasks,
        "tasks_late": ledger.late,
        "latency_seconds": comparison.percentiles(served, ledger),
        "first_error_at": first,
        "alerts": timeline.seen,
        "notifications": running.receiver.as_list(),
    }
    if first is not None and notice is not None:
        result.figures["first_error_to_notification_seconds"] = round(notice.at - first, 2)
        result.figures["first_error_to_notification_seconds_at_speed_1"] = round((notice.at - first) * options.speed, 1)


def _rate(ledger: Ledger) -> float:
    starts = [request.started for request in ledger.requests]
    return round(len(starts) / (max(starts) - min(starts)), 2) if len(starts) > 1 else 0.0
