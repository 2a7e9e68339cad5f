"""Alerts on the AI assistant and its upstream."""

from ..model import Alert
from ..objectives import Objectives


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on the assistant."""
    return [_errors(objectives), _breaker(objectives)]


def _errors(objectives: Objectives) -> Alert:
    own = objectives.numbers("AIErrorRate")
    window = own.duration("window")
    return Alert(
        name="AIErrorRate",
        severity=own.severity,
        expr=(
            f"job:ai_errors:ratio_rate{window} > {own.number('error_ratio')}\n"
            f"and job:ai_errors:increase{window} >= {own.number('minimum_errors')}"
        ),
        wait=own.wait,
        summary="AI requests fail",
        description=(
            "{{ $value | humanizePercentage }} of the AI requests of {{ $labels.job }} in the last 5 minutes got no "
            "answer."
        ),
    )


def _breaker(objectives: Objectives) -> Alert:
    own = objectives.numbers("CircuitBreakerOpen")
    state = f"max_over_time(baliblissed_circuit_breaker_state[{own.duration('window')}])"
    return Alert(
        name="CircuitBreakerOpen",
        severity=own.severity,
        expr=f"max by (job, breaker) ({state}) == {own.number('state')}",
        wait=own.wait,
        summary="The circuit breaker {{ $labels.breaker }} stays open",
        description=(
            "{{ $labels.breaker }} of {{ $labels.job }} keeps opening (state {{ $value | humanize }}): its upstream is "
            "not asked, and requests that need it are answered 503."
        ),
        comment=(
            "While an upstream hangs, the breaker is half open for as long as each probe waits, so the plain value "
            "drops below 2 again and again and would start `for` anew each time. The maximum of a minute holds through "
            "the probes."
        ),
    )
