"""All rules of the service in their groups."""

from collections.abc import Sequence

from . import burn_rates, evaluated, recorded
from .alerts import assistant, availability, collector, meta, requests, resources, telemetry, workers
from .model import Alert, Group
from .objectives import Objectives, ObjectivesError

MODULES = (requests, availability, workers, resources, assistant, telemetry, collector, meta)
# Alerts on metrics that the agency declares for itself.
OF_THE_AGENCY = frozenset(
    {
        "AIErrorRate",
        "AILatencyBudgetBurnsSlowly",
        "AISuccessBudgetBurnsSlowly",
        "CacheHitRateLow",
        "CircuitBreakerOpen",
        "DatabasePoolExhausted",
    }
)


def groups(objectives: Objectives) -> list[Group]:
    """Return the groups. Raise ObjectivesError if an alert of slo.yaml, or a number of one, is not used."""
    service = objectives.service
    found = [
        Group(
            f"{service}-recorded",
            [
                *recorded.targets(objectives),
                *recorded.requests(objectives),
                *evaluated.records(objectives),
                *recorded.versions(objectives),
            ],
        ),
        Group(f"{service}-latency", recorded.latency(objectives), interval="1m"),
        Group(
            f"{service}-objectives",
            [*burn_rates.base(objectives), *burn_rates.ratios(objectives, long=False)],
            interval="30s",
        ),
        Group(f"{service}-objectives-long", burn_rates.ratios(objectives, long=True), interval="2m"),
        Group(f"{service}-burn-rates", burn_rates.alerts(objectives)),
        Group(f"{service}-alerts", [alert for module in MODULES for alert in module.alerts(objectives)]),
    ]
    _check_use(objectives, alerts(found))
    return found


def alerts(found: Sequence[Group]) -> list[Alert]:
    """Return the alerts of groups."""
    return [rule for group in found for rule in group.rules if isinstance(rule, Alert)]


def _check_use(objectives: Objectives, found: Sequence[Alert]) -> None:
    names = [alert.name for alert in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ObjectivesError(f"{', '.join(sorted(twice))}: defined twice")
    for name, own in objectives.alerts.items():
        if name not in names:
            raise ObjectivesError(f"alerts.{name}: no alert of that name")
        if unused := own.values.keys() - own.used:
            raise ObjectivesError(f"alerts.{name}.{min(unused)}: the alert has no such number")
