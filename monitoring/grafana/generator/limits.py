"""The limits that panels draw, from monitoring/slo.yaml."""

import re

from monitoring.rules.objectives import ObjectivesError, load

OBJECTIVES = load()


def limit(alert: str, key: str) -> float:
    """Return a number of `alert`. Raise ObjectivesError if there is none.

    Numbers.number() would mark it as used, and slo.yaml has no number that dashboards alone use.
    """
    value = OBJECTIVES.numbers(alert).values.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ObjectivesError(f"alerts.{alert}.{key}={value!r}: want a number")
    return float(value)


ERROR_RATIO_LIMIT = limit("HighErrorRate", "error_ratio")
LATENCY_LIMIT = limit("HighLatencyP99", "threshold_seconds")
SLOW_SHARE_LIMIT = round(1 - limit("HighLatencyP99", "quantile"), 6)


def percent(share: float) -> str:
    """Return a share as descriptions have it: 0.05 is 5%."""
    return f"{share * 100:.10g}%"


def bound(slo: str) -> float:
    """Return the seconds under which an event of the objective `slo` is good. Raise ObjectivesError if it has none."""
    found = re.search(r'le="([\d.]+)"', OBJECTIVES.slo(slo).errors)
    if found is None:
        raise ObjectivesError(f"slos.{slo}: want a bucket's boundary in its query of errors")
    return float(found[1])


# What the objective allows, and the alert's limit.
ERROR_LIMITS = (OBJECTIVES.slo("availability").budget, ERROR_RATIO_LIMIT)
LATENCY_LIMITS = (bound("latency"), LATENCY_LIMIT)
