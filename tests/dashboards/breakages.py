"""Queries that are broken on purpose, each in one way, to see that it is noticed."""

import copy
from typing import Any

from tests.dashboards.boards import Board, targets

Breakage = tuple[str, str, str]
"""Dashboard, text of a query, and what replaces it."""

# Noticed in the result of the query on a real Prometheus.
LIVE: list[Breakage] = [
    ("ai-service", "success|offline|cancelled", "succes|offline|cancelled"),
    ("fastapi-overview", "job_handler:http_requests:rate5m", "job_handlers:http_requests:rate5m"),
    ("fastapi-overview", "sum by (handler)", "sum by (route)"),
    ("fastapi-overview", "job:http_slow_requests:ratio_rate5m", "job:http_slow_requests:ratio_rate15m"),
    ("slo", 'slo="availability"', 'slo="availabilty"'),
    ("slo", "ratio6h", "ratio8h"),
    ("dependencies", 'state="in_use"', 'state="used"'),
    ("dependencies", 'upstream="ai"', 'upstream="AI"'),
    ("monitoring", 'job="alertmanager"', 'job="alert-manager"'),
    ("monitoring", 'alertname="Watchdog"', 'alertname="Watchdogs"'),
    ("infrastructure", 'state="live"', 'state="alive"'),
    ("infrastructure", 'worker="exporter"', 'worker="exporters"'),
]
# Noticed as it is written.
STATIC: list[Breakage] = [
    *LIVE,
    ("load-test", 'status=~"0|5.."', 'status=~"0|6.."'),
    ("load-test", '{run="$run"}', ""),
    ("load-test", 'run="$run"', 'run="$runs"'),
    ("dependencies", "SPAN_KIND_CLIENT", "CLIENT"),
    ("dependencies", "STATUS_CODE_ERROR", "ERROR"),
    ("monitoring", 'service="baliblissed"', 'service="bali"'),
    ("fastapi-overview", '{job=~"$job"}', ""),
    ("fastapi-overview", "histogram_quantile(0.99", "histogram_quantile(0.9"),
    ("slo", 'ratio30m{job=~"$job", slo="', 'ratio6h{job=~"$job", slo="'),
    ("ai-service", "$__rate_interval", "5m"),
]


def broken(board: Board, before: str, after: str) -> tuple[Board, str, dict[str, Any]]:
    """Return a copy with the replacement in the first query that has `before`, that query and its panel's title."""
    changed = copy.deepcopy(board)
    title, target = next(found for found in targets(changed) if before in found[1]["expr"])
    target["expr"] = target["expr"].replace(before, after)
    return changed, title, target
