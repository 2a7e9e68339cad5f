"""The AI concierge: how its requests end, how long they take, what they cost, and whether the circuit is closed."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from . import board
from .limits import OBJECTIVES, bound, limit, percent
from .panels import PER_SECOND, REQUESTS_PER_SECOND, SECONDS, SHARE, Panel, Query, lines, mapping, number, states
from .queries import quantile, rate, recorded, series, share

REQUESTS = "baliblissed_ai_requests_total"
DURATION = "baliblissed_ai_request_duration_seconds"
TOKENS = "baliblissed_ai_tokens_used_total"
ERRORS = f"job:ai_errors:ratio_rate{OBJECTIVES.numbers('AIErrorRate').values['window']}"
FAILED_LIMITS = (OBJECTIVES.slo("ai-success").budget, limit("AIErrorRate", "error_ratio"))
CHOSEN = 'operation=~"$operation"'
FAILED, COUNTED = 'outcome!~"success|offline|cancelled"', 'outcome!="cancelled"'
# As the catalogue defines the gauge.
BREAKER_STATES = {"0": ("closed", "green"), "1": ("half open", "yellow"), "2": ("open", "red")}


def _failures(by: str = "") -> str:
    return share(REQUESTS, part=f"{CHOSEN}, {FAILED}", whole=f"{CHOSEN}, {COUNTED}", by=by)


def _breakers() -> Query:
    # All workers and instances share one state through Redis; the panel shows the worst that any of them reports.
    return Query(f"max by (breaker) ({series('baliblissed_circuit_breaker_state')})", "{{breaker}}")


def build() -> Dashboard:
    """Build ai-service.json."""
    operation = board.choice(
        "operation",
        "Operation",
        "Kind of request to the concierge.",
        f'label_values({REQUESTS}{{job=~"$job", instance=~"$instance"}}, operation)',
    )
    return board.build(
        "ai-service",
        "AI service",
        "The AI concierge and its upstream. Empty until the first AI request.",
        {
            "At a glance": _at_a_glance(),
            "Outcomes": _outcomes(),
            "Latency": _latency(),
            "Tokens": _tokens(),
        },
        [operation],
    )


def _at_a_glance() -> list[Panel]:
    return [
        number(
            "AI requests",
            "AI requests a second, whatever their outcome.",
            REQUESTS_PER_SECOND,
            Query(rate(REQUESTS, where=CHOSEN), "requests"),
        ),
        number(
            "Failed share",
            "Share of AI requests that ended neither in an answer of the upstream nor in an offline one.",
            SHARE,
            Query(_failures(), "failed"),
            limit=OBJECTIVES.slo("ai-success").budget,
        ),
        number(
            "P95",
            "95 of 100 AI requests took no longer, those answered from the cache included.",
            SECONDS,
            Query(quantile(0.95, DURATION, where=CHOSEN), "P95"),
            limit=bound("ai-latency"),
        ),
        number(
            "Circuit breaker",
            "Open: the upstream is not asked. No data where no upstream is configured.",
            "none",
            _breakers(),
        ).mappings(mapping(BREAKER_STATES)),
    ]


def _outcomes() -> list[Panel]:
    return [
        lines(
            "AI requests by outcome",
            "success and offline are answers; timeout, rejected, circuit_open and error are failures; cancelled is a "
            "client that went away.",
            REQUESTS_PER_SECOND,
            Query(rate(REQUESTS, "outcome", CHOSEN), "{{outcome}}"),
            stacked=True,
            width=8,
        ),
        lines(
            "Failed share",
            "Share of all AI requests that got no answer: the series that AIErrorRate evaluates. The lines are what "
            f"the objective allows, {percent(FAILED_LIMITS[0])}, and the alert's {percent(FAILED_LIMITS[1])}.",
            SHARE,
            Query(f"max by (job) ({recorded(ERRORS)})", "{{job}}"),
            limit=FAILED_LIMITS,
            alerts=("AIErrorRate",),
            width=8,
        ),
        lines(
            "Failed share by operation",
            "Share of each operation's requests that got no answer, with the same lines.",
            SHARE,
            Query(_failures("operation"), "{{operation}}"),
            limit=FAILED_LIMITS,
            width=8,
        ),
        states(
            "Circuit breaker",
            "0 closed, 1 half open (one request probes), 2 open (requests are refused at once for 15 s).",
            BREAKER_STATES,
            _breakers(),
            alerts=("CircuitBreakerOpen",),
            width=24,
        ),
    ]


def _latency() -> list[Panel]:
    return [
        lines(
            "Latency",
            "P50, P95 and P99 of all chosen operations, interpolated inside buckets that end at 60 s. The line is the "
            "objective for 95%. Dots are requests with a trace.",
            SECONDS,
            *(Query(quantile(q, DURATION, where=CHOSEN), f"P{q * 100:.0f}") for q in (0.5, 0.95, 0.99)),
            limit=bound("ai-latency"),
            exemplars=Query(quantile(0.99, DURATION, where=CHOSEN), "P99 now"),
        ),
        lines(
            "P95 by operation",
            "95 of 100 requests of the operation took no longer. Dots are requests with a trace.",
            SECONDS,
            Query(quantile(0.95, DURATION, "operation", CHOSEN), "{{operation}}"),
            limit=bound("ai-latency"),
            exemplars=Query(quantile(0.95, DURATION, where=CHOSEN), "P95 now"),
        ),
    ]


def _tokens() -> list[Panel]:
    return [
        lines(
            "Tokens by kind",
            "Tokens a second as the upstream reports them: prompt is what was sent, completion what came back.",
            PER_SECOND,
            Query(rate(TOKENS, "kind", CHOSEN), "{{kind}}"),
            stacked=True,
        ),
        lines(
            "Tokens by operation",
            "Tokens a second, prompt and completion together.",
            PER_SECOND,
            Query(rate(TOKENS, "operation", CHOSEN), "{{operation}}"),
            stacked=True,
        ),
    ]
