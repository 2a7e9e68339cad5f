"""Alerts on the database pool, caches, disk and memory."""

from ..model import Alert
from ..objectives import Numbers, Objectives

EACH = "by (job, instance)"


def alerts(objectives: Objectives) -> list[Alert]:
    """Return the alerts on resources."""
    return [_pool(objectives), _disk(objectives), _memory(objectives), _cache(objectives)]


def _pool(objectives: Objectives) -> Alert:
    own = objectives.numbers("DatabasePoolExhausted")
    window = own.duration("window")
    return Alert(
        name="DatabasePoolExhausted",
        severity=own.severity,
        expr=(
            f"sum {EACH} (increase(baliblissed_database_pool_timeouts_total[{window}])) > {own.number('timeouts')}\n"
            f"or min {EACH} (\n"
            f"  min_over_time(baliblissed_database_pool_waiting[{window}])\n"
            f"  and baliblissed_database_pool_waiting offset {window}\n"
            f") > {own.number('waiting')}"
        ),
        wait=own.wait,
        summary="Requests wait for a connection to the database",
        description=(
            "The database pool of {{ $labels.instance }} ({{ $labels.job }}) is exhausted: {{ $value | humanize }} "
            "requests have given up waiting for a connection, or wait for one, in the last 5 minutes."
        ),
        comment=(
            "Somebody waits at every scrape of the window: one that waits for a moment is no exhaustion. A pod that "
            "has just started has too few scrapes to say so."
        ),
    )


def _disk(objectives: Objectives) -> Alert:
    return _full(
        objectives.numbers("DiskNearlyFull"),
        "baliblissed_system_disk_used_bytes",
        "baliblissed_system_disk_size_bytes",
        "The disk is nearly full",
        "of the disk of {{ $labels.instance }} ({{ $labels.job }}) is used. The service itself writes only to its "
        "metrics directory and to temporary files; what fills the disk is elsewhere on the node.",
    )


def _memory(objectives: Objectives) -> Alert:
    return _full(
        objectives.numbers("MemoryNearLimit"),
        "baliblissed_system_memory_used_bytes",
        "baliblissed_system_memory_limit_bytes",
        "Memory is near its limit",
        "of the memory that {{ $labels.instance }} ({{ $labels.job }}) may use is used. At the limit the kernel kills "
        "the whole container.",
    )


def _full(own: Numbers, used: str, size: str, summary: str, description: str) -> Alert:
    return Alert(
        name=own.alert,
        severity=own.severity,
        expr=f"max {EACH} ({used})\n/ max {EACH} ({size}) > {own.number('used_share')}",
        wait=own.wait,
        summary=summary,
        description=f"{{{{ $value | humanizePercentage }}}} {description}",
    )


def _cache(objectives: Objectives) -> Alert:
    own = objectives.numbers("CacheHitRateLow")
    window = own.duration("window")
    return Alert(
        name="CacheHitRateLow",
        severity=own.severity,
        expr=(
            f"job_cache:cache_hits:ratio_rate{window} < {own.number('hit_share')}\n"
            f"and job_cache:cache_lookups:rate{window} > {own.number('minimum_lookups_per_second')}"
        ),
        wait=own.wait,
        summary="A cache answers few look-ups",
        description=(
            "The cache {{ $labels.cache }} of {{ $labels.job }} has answered {{ $value | humanizePercentage }} of its "
            "look-ups in the last half hour; the database, or the AI upstream, answers the others."
        ),
    )
