"""PromQL of one form: every selector carries the job and the instance, every counter is rated before it is added up.

Recorded series carry the instance where they are of one, and are rates already.
"""

# Matchers of the dashboards' variables; part of every selector.
SCOPE = 'job=~"$job", instance=~"$instance"'
RATE_WINDOW = "[$__rate_interval]"


def recorded(name: str, where: str = "") -> str:
    """Select a recorded series; the part of its name before the first colon has its labels."""
    scope = SCOPE if "instance" in name.partition(":")[0].split("_") else 'job=~"$job"'
    return f"{name}{{{scope}{', ' if where else ''}{where}}}"


def recorded_quantile(share: float, buckets: str, by: str = "", where: str = "") -> str:
    """Return the duration that `share` of the observations of recorded buckets did not exceed."""
    return f"histogram_quantile({share:g}, sum by ({f'le, {by}' if by else 'le'}) ({recorded(buckets, where)}))"


def with_pod(expression: str) -> str:
    """Add the pod to series of instances, where the scrape gives targets one; of two pods at one address either."""
    pods = f"topk by (job, instance) (1, group by (job, instance, pod) ({series('baliblissed_workers')}))"
    return f"{expression} * on (job, instance) group_left (pod) {pods}"


def elsewhere(metric: str, where: str) -> str:
    """Select series of another program than the service."""
    return f"{metric}{{{where}}}"


def series(metric: str, where: str = "") -> str:
    """Select the chosen series of `metric`; `where` are further matchers."""
    return f"{metric}{{{SCOPE}{', ' if where else ''}{where}}}"


def each(gauge: str) -> str:
    """Select a gauge of each instance."""
    return f"max by (instance) ({series(gauge)})"


def rate(counter: str, by: str = "", where: str = "") -> str:
    """Increase a second, added up over everything but the labels `by`."""
    return f"sum{_by(by)}(rate({series(counter, where)}{RATE_WINDOW}))"


def increase(counter: str, by: str = "", where: str = "") -> str:
    """Increase in the window; 0 where the service is up and the counter has never counted."""
    return f"sum{_by(by)}(increase({series(counter, where)}{RATE_WINDOW})) {_or_zero()}"


def rate_or_zero(counter: str, by: str = "") -> str:
    """Return `rate`, or 0 while the service is up and the counter has never counted."""
    return f"{rate(counter, by)} {_or_zero()}"


def quantile(share: float, histogram: str, by: str = "", where: str = "") -> str:
    """Return the duration that `share` of the observations did not exceed."""
    return f"histogram_quantile({share:g}, {rate(f'{histogram}_bucket', f'le, {by}' if by else 'le', where)})"


def share(counter: str, *, part: str, whole: str, by: str = "") -> str:
    """Return the share of the increase that matches `part` in that which matches `whole`; 0 without such a series."""
    every = rate(counter, by, whole)
    return f"({rate(counter, by, part)} or 0 * {every}) / {every}"


def _by(labels: str) -> str:
    return f" by ({labels}) " if labels else ""


def _or_zero() -> str:
    # `or vector(0)` would return 0 for a service that is not scraped; this returns no series then.
    return f"or on () 0 * sum({series('baliblissed_workers')})"
