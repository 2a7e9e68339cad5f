"""The limits that panels draw, from monitoring/slo.yaml."""

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
LATENCY_BOUND = str(LATENCY_LIMIT)  # as the buckets' label has it
SLOW_SHARE_LIMIT = round(1 - limit("HighLatencyP99", "quantile"), 6)
