"""The two scenarios: in `healthy` no alert is notified; in `errors` the AI upstream fails, HighErrorRate is seen
pending, firing and resolved, and one page is sent: that of the outage's cause, which inhibits the others.
"""

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtest import comparison
from loadtest.alerts import Timeline, watched
from loadtest.comparison import Figures, figures
from loadtest.criteria import Criteria, Fault
from loadtest.criteria import read as criteria_of
from loadtest.ledger import NO_ANSWER, SERVER_ERROR, Ledger
from loadtest.programs import last, until
from loadtest.receiver import HEARTBEAT, PAGES, TICKETS
from loadtest.stack import AI, MONITORING, Options, Stack, stack
from loadtest.users import Users, users

SERVICE, ALERT, WATCHDOG = "baliblissed", "HighErrorRate", "Watchdog"
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
class Plan:
    """The times that a scenario waits for, in seconds of this run, and the fault that it makes."""

    window: float
    wait: float
    longest: float
    notice: float
    end: float
    """From the end of the fault until the alert that paged is resolved."""
    fault: Fault

    @classmethod
    def read(cls, criteria: Criteria, speed: float) -> "Plan":
        """Divide the durations of monitoring/ by `speed`."""
        fault = criteria.faults[AI]
        end = max(criteria.window(one) + criteria.kept(one) for one in (ALERT, fault.page))
        return cls(
            window=criteria.window(ALERT) / speed,
            wait=criteria.wait(ALERT) / speed,
            longest=criteria.longest / speed,
            notice=criteria.notice / speed,
            end=end / speed,
            fault=fault,
        )


Plot = Callable[[Stack, Timeline, Plan, Result], Awaitable[None]]


async def healthy(running: Stack, timeline: Timeline, plan: Plan, result: Result) -> None:
    """Run long enough for every alert to fill its window and its pending period, if there were a cause."""
    await last(plan.longest + plan.notice + LEAD_SECONDS, running.programs)
    check_silence(result, timeline)


def check_silence(result: Result, timeline: Timeline) -> None:
    """Check that Watchdog fires, so the rules are evaluated, and that nothing else does."""
    fired = timeline.fired()
    result.check("nothing but Watchdog fires", fired == {WATCHDOG}, f"fired: {sorted(fired)}")


async def errors(running: Stack, timeline: Timeline, plan: Plan, result: Result) -> None:
    """Fail the AI upstream until its outage has paged, then restore it until the end is notified."""
    page, told = plan.fault.page, running.receiver.first
    await last(LEAD_SECONDS, running.programs)

    async def reached(what: str, look: Callable[[], object], patience: float) -> bool:
        seen = await until(look, patience + MARGIN_SECONDS, running.programs)
        return result.check(what, seen, "" if seen else f"not within {patience + MARGIN_SECONDS:.0f} s")

    running.fails(AI)
    result.figures["upstream_fails_at"] = time.time()
    if page != ALERT:
        # The health check's interval is not divided by the speed: without this lead it would see the outage last.
        running.ai.probe_status = 500
        if not await reached(f"{page} is pending", lambda: timeline.at(page, "pending"), plan.window):
            return
    running.ai.status = 500
    for what, look, patience in (
        (f"{ALERT} is pending", lambda: timeline.at(ALERT, "pending"), plan.window),
        (f"{ALERT} fires", lambda: timeline.at(ALERT, "firing"), plan.wait),
        (f"{page} is notified", lambda: told(page, "firing"), plan.notice),
    ):
        if not await reached(what, look, patience):
            return
    # As long again as a page takes: one that ought to be inhibited would arrive by now.
    await last(plan.notice, running.programs)
    running.ai.status, running.ai.probe_status = 200, None
    running.recovers(AI)
    result.figures["upstream_is_well_at"] = time.time()
    ended = all(
        [
            await reached(f"{one} is resolved", lambda one=one: timeline.at(one, "resolved"), plan.end)  # type: ignore[misc]
            for one in dict.fromkeys((ALERT, page))
        ]
    )
    if ended and await reached(f"{page} is notified as resolved", lambda: told(page, "resolved"), plan.notice):
        await last(plan.notice, running.programs)
    _check_alerts(result, running, timeline, plan.fault)


def _check_alerts(result: Result, running: Stack, timeline: Timeline, fault: Fault) -> None:
    """Check which alerts fired, in which order, and that one of them paged."""
    for alert in dict.fromkeys((ALERT, fault.page)):
        moments = [timeline.at(alert, state) or math.nan for state in ("pending", "firing", "resolved")]
        result.check(f"{alert} goes through its states in order", moments == sorted(moments), moments)
    fired, wanted = timeline.fired(), {WATCHDOG, ALERT, fault.page}
    result.check("nothing else fires", wanted <= fired <= wanted | fault.may_fire, f"fired: {sorted(fired)}")
    firing = [one for one in running.receiver.notifications if one.status == "firing"]
    pages = {one.message: one.alert for one in firing if one.receiver == PAGES}
    result.check("one page is sent", list(pages.values()) == [fault.page], list(pages.values()))
    tickets = {one.alert for one in firing if one.receiver == TICKETS}
    allowed = set() if fault.inhibits else fault.may_fire
    result.check("effects of the fault are no tickets", tickets <= allowed, sorted(tickets))


SCENARIOS: dict[str, Plot] = {"healthy": healthy, "errors": errors}


async def run(name: str, directory: Path, options: Options) -> Result:
    """Play a scenario; raises ProgramError or ConfigurationError where it could not be played to its end."""
    result, criteria = Result(name), criteria_of(MONITORING, options.rules)
    plan = Plan.read(criteria, options.speed)
    longest = 2 * (plan.longest + plan.notice + plan.end) + 8 * MARGIN_SECONDS
    async with stack(directory, options) as running, watched(running.prometheus) as timeline:
        running.ai.text, running.ai.delay = PLAN, AI_DELAY
        before = figures(await running.scrape())
        async with users(directory, running.url, options.users, longest, export=running.export) as visitors:
            running.programs.append(visitors.program)
            await SCENARIOS[name](running, timeline, plan, result)
        served = await settled(running.scrape, before, visitors.ledger)
        (directory / "metrics.txt").write_text(await running.scrape())
        _check_statuses(result, visitors.ledger)
        _check_figures(result, served, visitors, criteria)
        await _check_prometheus(result, running, sum(figures(await running.scrape()).requests.values()))
        _check_notifications(result, running, name, plan.fault.page)
    _summarise(result, served, visitors.ledger, running, timeline, plan.fault.page, options.speed)
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


def _check_figures(result: Result, served: Figures, visitors: Users, criteria: Criteria) -> None:
    check_figures(result, served, visitors.ledger)
    if result.scenario != "healthy":
        return
    chat = f"{AI_ROUTES}chat"
    quick = comparison.faster_than(served, chat, AI_DELAY)
    result.check("no answer of the AI is faster than its upstream", quick == 0, f"{quick:g} below {AI_DELAY:g} s")
    failed = comparison.failed_share(visitors.ledger)
    result.check(
        "availability is within its objective", failed <= criteria.max_error_share, f"{failed:.3%} of the requests fail"
    )
    for one in criteria.latencies:
        share = comparison.slower_share(served, one.seconds, one.excluded)
        result.check(f"{one.name} is within its objective", share <= one.share, f"{share:.2%} over {one.seconds:g} s")


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


def _check_notifications(result: Result, running: Stack, scenario: str, page: str) -> None:
    beat = running.receiver.first(WATCHDOG, "firing")
    result.check("the Watchdog's heartbeat arrives", beat and beat.receiver == HEARTBEAT, beat.receiver if beat else "")
    told = [one for one in running.receiver.notifications if one.receiver != HEARTBEAT]
    if scenario == "healthy":
        result.check("no alert is notified", not told, sorted({one.alert for one in told}))
        return
    notice = running.receiver.first(page, "firing")
    if notice is not None:
        complete = notice.labels.get("severity") == "critical" and page in notice.annotations.get("runbook_url", "")
        result.check("the notification says how urgent it is and where to read on", complete, notice.labels)


def _summarise(
    result: Result, served: Figures, ledger: Ledger, running: Stack, timeline: Timeline, page: str, speed: float
) -> None:
    first, notice = ledger.first_error(), running.receiver.first(page, "firing")
    result.figures |= {
        "requests": len(ledger.requests),
        "requests_per_second": _rate(ledger),
        "statuses": {str(status): count for status, count in sorted(ledger.statuses().items())},
        "tasks": ledger.tasks,
        "tasks_late": ledger.late,
        "latency_seconds": comparison.percentiles(served, ledger),
        "first_error_at": first,
        "page": page,
        "alerts": timeline.seen,
        "notifications": running.receiver.as_list(),
    }
    if first is not None and notice is not None:
        result.figures["first_error_to_notification_seconds"] = round(notice.at - first, 2)
        result.figures["first_error_to_notification_seconds_at_speed_1"] = round((notice.at - first) * speed, 1)


def _rate(ledger: Ledger) -> float:
    starts = [request.started for request in ledger.requests]
    return round(len(starts) / (max(starts) - min(starts)), 2) if len(starts) > 1 else 0.0
