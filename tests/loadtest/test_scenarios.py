"""The verdicts of a scenario: each thing that can go wrong in a campaign fails the check that looks at it."""

import math
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.monitoring.metrics.catalogue import LATENCY_BUCKETS
from loadtest import alerts, criteria, scenarios, stack
from loadtest.alerts import Prometheus, Timeline
from loadtest.campaign_metrics import CampaignMetrics
from loadtest.comparison import Figures
from loadtest.criteria import Fault
from loadtest.fake_ai import FakeAI
from loadtest.ledger import Ledger, Request
from loadtest.programs import until
from loadtest.receiver import HEARTBEAT, PAGES, TICKETS, Notification, Receiver
from loadtest.scenarios import ALERT, WATCHDOG, Plan, Result
from loadtest.serving import serving
from loadtest.stack import MONITORING, Options, Stack
from loadtest.users import Export, Users
from tests.dashboards.prometheus import JOB, prometheus

PLACES, CHAT = ("GET", "/api/v1/destinations"), ("POST", "/api/v1/assistant/chat")
NUMBERS = count()
CAUSE = "DependencyDown"
EFFECTS = frozenset({ALERT, "CircuitBreakerOpen", "RecentOutage"})
# By rules that have no alert on the dependency, and by those that do.
WITHOUT_CAUSE = Fault(ALERT, inhibits=False, may_fire=EFFECTS)
WITH_CAUSE = Fault(CAUSE, inhibits=True, may_fire=EFFECTS | {CAUSE})
CRITERIA = criteria.read(MONITORING, Options.rules)


def at_once(fault: Fault = WITHOUT_CAUSE) -> Plan:
    """Return a plan that waits for nothing."""
    return Plan(window=0, wait=0, longest=0, notice=0, end=0, fault=fault)


BOUNDS = [*map(float, LATENCY_BUCKETS), math.inf]
EXPOSITION = """# TYPE http_requests_total counter
http_requests_total{handler="/api/v1/destinations",method="GET",status="200"} 7.0
http_requests_total{handler="/health/live",method="GET",status="200"} 90.0
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the checks' waiting times to zero: their condition is met already, or never."""
    monkeypatch.setattr(scenarios, "MARGIN_SECONDS", 0.0)
    monkeypatch.setattr(scenarios, "LEAD_SECONDS", 0.0)


def notified(alert: str, status: str = "firing", receiver: str = PAGES, **labels: str) -> Notification:
    """Return one alert in one message of its own."""
    named = {"alertname": alert, "severity": "critical", **labels}
    annotations = {"runbook_url": f"https://example.com/{alert}.md"}
    return Notification(1.0, receiver, status, named, annotations, next(NUMBERS))


BEAT = notified(WATCHDOG, receiver=HEARTBEAT)


def running(*notifications: Notification, prometheus_url: str = "http://127.0.0.1:1") -> Stack:
    """Return the part of a stack that a scenario reads; no process runs."""
    told = Receiver(notifications=list(notifications))
    metrics, export = CampaignMetrics("1", "errors", 1.0), Export(1, "1", "errors")
    return Stack(Path(), "", "", FakeAI(), told, Prometheus(prometheus_url), [], metrics, export)


def timeline(firing: Iterable[str], **moments: dict[str, float]) -> Timeline:
    """Return a timeline of alerts that fired, some of them at given times."""
    return Timeline({**{name: {"pending": 1.0, "firing": 2.0} for name in firing}, **moments})


def failed(result: Result) -> list[str]:
    """Return the names of the failed checks."""
    return [check.name for check in result.checks if not check.passed]


def visitors(times: dict[tuple[str, str], list[float]], status: int = 200, late: int = 0) -> Users:
    """Return users who have finished, and measured these times on these routes."""
    left = Users.__new__(Users)
    requests = [Request(0.0, *route, status, seconds) for route, seen in times.items() for seconds in seen]
    left.ledger = Ledger(requests, tasks=len(requests), late=late)
    return left


def served(times: dict[tuple[str, str], list[float]], status: int = 200) -> Figures:
    """Return the figures of a service that took these times."""
    buckets = {
        route: {bound: float(sum(seconds <= bound for seconds in taken)) for bound in BOUNDS}
        for route, taken in times.items()
    }
    return Figures({(*route, status): float(len(taken)) for route, taken in times.items()}, buckets)


def looked_at(
    clients: dict[tuple[str, str], list[float]],
    service: dict[tuple[str, str], list[float]],
    late: int = 0,
) -> list[str]:
    """Return the failed checks of the healthy scenario's figures."""
    result = Result("healthy")
    scenarios._check_figures(result, served(service), visitors(clients, late=late), CRITERIA)
    assert len(result.checks) == 8
    return failed(result)


@pytest.mark.parametrize(
    ("fired", "passed"), [([WATCHDOG], True), ([WATCHDOG, "TargetDown"], False), ([], False), ([ALERT], False)]
)
async def test_a_healthy_service_fires_the_watchdog_and_nothing_else(fired: list[str], *, passed: bool) -> None:
    result = Result("healthy")
    await scenarios.healthy(running(), timeline(fired), at_once(), result)
    assert result.passed is passed


IN_ORDER = {"pending": 1.0, "firing": 2.0, "resolved": 3.0}
TOLD = (notified(ALERT), notified(ALERT, "resolved"))
CAUSE_TOLD = (notified(CAUSE), notified(CAUSE, "resolved"))
BREAKER = notified("CircuitBreakerOpen", receiver=TICKETS)


@pytest.mark.parametrize(
    ("others", "moments", "failing"),
    [
        ([], IN_ORDER, []),
        (["CircuitBreakerOpen"], IN_ORDER, []),
        (["TargetDown"], IN_ORDER, ["nothing else fires"]),
        ([], {"pending": 2.0, "firing": 1.0, "resolved": 3.0}, [f"{ALERT} goes through its states in order"]),
    ],
)
async def test_errors_fire_their_alert_in_order_and_no_other(
    others: list[str], moments: dict[str, float], failing: list[str]
) -> None:
    result, told = Result("errors"), running(*TOLD)
    await scenarios.errors(told, timeline([WATCHDOG, *others], **{ALERT: moments}), at_once(), result)
    assert failed(result) == failing
    assert (told.ai.status, told.ai.probe_status) == (200, None), "the upstream is well again"
    assert told.metrics.faults == {"ai": 0}


@pytest.mark.parametrize(
    ("fault", "told", "failing"),
    [
        (WITH_CAUSE, CAUSE_TOLD, []),
        (WITH_CAUSE, (*CAUSE_TOLD, notified(ALERT)), ["one page is sent"]),
        (WITH_CAUSE, (*CAUSE_TOLD, notified(CAUSE)), ["one page is sent"]),
        (WITH_CAUSE, (*CAUSE_TOLD, BREAKER), ["effects of the fault are no tickets"]),
        (WITHOUT_CAUSE, (*TOLD, BREAKER), []),
        (WITHOUT_CAUSE, (*TOLD, notified("HighLatencyP99", receiver=TICKETS)), ["effects of the fault are no tickets"]),
    ],
)
async def test_an_outage_of_the_upstream_pages_once_and_its_effects_are_inhibited(
    fault: Fault, told: tuple[Notification, ...], failing: list[str]
) -> None:
    result = Result("errors")
    seen = timeline([WATCHDOG], **dict.fromkeys((ALERT, fault.page), IN_ORDER))
    await scenarios.errors(running(*told), seen, at_once(fault), result)
    assert failed(result) == failing


async def test_the_health_check_sees_the_outage_before_requests_do() -> None:
    told = running(*CAUSE_TOLD)
    result = Result("errors")
    await scenarios.errors(told, timeline([WATCHDOG]), at_once(WITH_CAUSE), result)
    assert failed(result) == [f"{CAUSE} is pending"]
    assert (told.ai.status, told.ai.probe_status) == (200, 500)
    assert told.metrics.faults == {"ai": 1}


@pytest.mark.parametrize(
    ("moments", "told", "failing"),
    [
        ({}, (), "is pending"),
        ({"pending": 1.0}, (), "fires"),
        ({"pending": 1.0, "firing": 2.0}, (), "is notified"),
        ({"pending": 1.0, "firing": 2.0}, TOLD, "is resolved"),
        (IN_ORDER, TOLD[:1], "is notified as resolved"),
    ],
)
async def test_an_alert_that_stops_half_way_fails_the_step_that_is_missing(
    moments: dict[str, float], told: tuple[Notification, ...], failing: str
) -> None:
    result = Result("errors")
    await scenarios.errors(running(*told), timeline([WATCHDOG], **{ALERT: moments}), at_once(), result)
    assert failed(result)[0] == f"{ALERT} {failing}"


@pytest.mark.parametrize(
    ("scenario", "statuses", "passed"),
    [
        ("healthy", {PLACES: 200}, True),
        ("healthy", {}, False),
        ("healthy", {PLACES: 200, CHAT: 503}, False),
        ("healthy", {PLACES: 0}, False),
        ("errors", {PLACES: 200, CHAT: 502}, True),
        ("errors", {PLACES: 200}, False),
        ("errors", {PLACES: 503, CHAT: 503}, False),
        ("errors", {CHAT: 500}, False),
        ("errors", {CHAT: 502, PLACES: 0}, False),
    ],
)
def test_requests_fail_where_they_should_and_nowhere_else(
    scenario: str, statuses: dict[tuple[str, str], int], *, passed: bool
) -> None:
    result = Result(scenario)
    ledger = Ledger([Request(0.0, *route, status, 0.1) for route, status in statuses.items()])
    scenarios._check_statuses(result, ledger)
    assert result.passed is passed


QUICK = {PLACES: [0.02] * 100, CHAT: [0.4] * 10}


def test_figures_that_agree_pass_every_check() -> None:
    assert looked_at(QUICK, QUICK) == []


def test_users_who_begin_late_hide_slow_answers_and_fail_the_scenario() -> None:
    assert looked_at(QUICK, QUICK, late=1) == []
    assert looked_at(QUICK, QUICK, late=2) == ["the users kept to their rate"]


def test_a_lost_request_and_a_wrong_time_are_found() -> None:
    assert looked_at(QUICK, {**QUICK, PLACES: [0.02] * 99}) == ["each request is counted once"]
    assert looked_at(QUICK, {**QUICK, PLACES: [0.4] * 100}) == [
        "each bucket agrees with the clients' times",
        "percentiles agree",
    ]


def test_an_ai_answer_before_its_upstream_s_is_found() -> None:
    impossible = {**QUICK, CHAT: [0.02] * 10}
    assert looked_at(impossible, impossible) == ["no answer of the AI is faster than its upstream"]


def test_slow_routes_miss_the_objectives_and_the_assistant_does_not() -> None:
    over_the_limit = {PLACES: [0.02] * 98 + [3.0] * 2, CHAT: [0.4] * 10}
    missed = [f"{name} is within its objective" for name in ("latency", "HighLatencyP99")]
    assert looked_at(over_the_limit, over_the_limit) == missed
    slow = {PLACES: [0.02] * 98 + [0.9] * 2, CHAT: [0.4] * 10}
    assert looked_at(slow, slow) == missed[:1]
    waiting = {PLACES: [0.02] * 100, CHAT: [3.0] * 10}
    assert looked_at(waiting, waiting) == []


def test_failed_requests_miss_the_objective_on_availability() -> None:
    result, times = Result("healthy"), {PLACES: [0.02] * 100}
    scenarios._check_figures(result, served(times, 503), visitors(times, 503), CRITERIA)
    assert failed(result) == ["availability is within its objective"]


@pytest.mark.parametrize(
    ("scenario", "told", "failing"),
    [
        ("healthy", [BEAT], []),
        ("healthy", [], ["the Watchdog's heartbeat arrives"]),
        ("healthy", [notified(WATCHDOG)], ["the Watchdog's heartbeat arrives", "no alert is notified"]),
        ("healthy", [BEAT, notified(ALERT)], ["no alert is notified"]),
        ("errors", [BEAT, notified(ALERT)], []),
        (
            "errors",
            [BEAT, notified(ALERT, severity="warning")],
            ["the notification says how urgent it is and where to read on"],
        ),
    ],
)
def test_notifications_are_those_that_the_scenario_is_for(
    scenario: str, told: list[Notification], failing: list[str]
) -> None:
    result = Result(scenario)
    scenarios._check_notifications(result, running(*told), scenario, ALERT)
    assert failed(result) == failing


async def test_prometheus_must_have_stored_the_total_of_the_metrics_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios, "SERVICE", JOB)

    async def expose(_: HttpRequest) -> PlainTextResponse:
        return PlainTextResponse(EXPOSITION)

    async with serving(Starlette(routes=[Route("/metrics", expose)])) as target:
        with prometheus(tmp_path, target.removeprefix("http://")) as server:
            stored = running(prometheus_url=server.url)
            monkeypatch.setattr(scenarios, "MARGIN_SECONDS", 30.0)
            same = Result("healthy")
            await scenarios._check_prometheus(same, stored, 7.0)
            monkeypatch.setattr(scenarios, "MARGIN_SECONDS", 0.0)
            other = Result("healthy")
            await scenarios._check_prometheus(other, stored, 8.0)
            await stored.prometheus.close()
    assert same.passed
    assert not other.passed


async def test_a_prometheus_that_is_not_there_ends_the_scenario_that_watches_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(alerts, "POLL_SECONDS", 0.0)
    nobody = Prometheus("http://127.0.0.1:1")
    with pytest.raises(httpx.ConnectError):
        async with alerts.watched(nobody):
            await until(lambda: False, 1.0)
    await nobody.close()


def test_the_service_of_a_campaign_has_no_setting_of_the_caller_s_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADMIN_API_KEY", "of-the-shell-0000")
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    environment = stack._service_environment(Options(workers=3), 1, 2, Path("/metrics"), "http://ai")
    assert environment["ADMIN_API_KEY"] == environment["LOG_LEVEL"] == "", "an empty variable is an unset one"
    assert (environment["ENVIRONMENT"], environment["WEB_CONCURRENCY"]) == ("production", "3")
    assert cast("Any", environment).get("PATH") is None
