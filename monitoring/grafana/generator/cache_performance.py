"""The dashboard of the caches, and of the bounds on the metrics themselves."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from . import board
from .limits import OBJECTIVES, limit, percent
from .panels import PER_SECOND, SHARE, Panel, Query, events, lines, number
from .queries import increase, rate, recorded

HITS, MISSES = "baliblissed_cache_hits_total", "baliblissed_cache_misses_total"
RATIO = f"job_cache:cache_hits:ratio_rate{OBJECTIVES.numbers('CacheHitRateLow').values['window']}"
CHOSEN = 'cache=~"$cache"'


def _lookups(by: str = "") -> str:
    # A cache that has only missed, or only hit, has one of the two series: `or` stands in for the other.
    hits, misses = rate(HITS, by, CHOSEN), rate(MISSES, by, CHOSEN)
    return f"(({hits} or 0 * {misses}) + ({misses} or 0 * {hits}))"


def _hit_ratio(by: str = "") -> str:
    return f"({rate(HITS, by, CHOSEN)} or 0 * {rate(MISSES, by, CHOSEN)}) / {_lookups(by)}"


def build() -> Dashboard:
    """Build cache-performance.json."""
    cache = board.choice(
        "cache",
        "Cache",
        "Caches that have been asked.",
        f'label_values({MISSES}{{job=~"$job", instance=~"$instance"}}, cache)',
    )
    return board.build(
        "cache-performance",
        "Cache performance",
        "Look-ups of the caches over all workers, and series that the cardinality limit refused.",
        {
            "At a glance": _at_a_glance(),
            "Caches": _caches(),
            "Cardinality": _cardinality(),
        },
        [cache],
    )


def _at_a_glance() -> list[Panel]:
    return [
        number(
            "Hit ratio",
            "Share of look-ups that the chosen caches answered.",
            SHARE,
            Query(_hit_ratio(), "hits"),
            width=8,
        ),
        number(
            "Look-ups",
            "Look-ups a second, hits and misses.",
            PER_SECOND,
            Query(_lookups(), "look-ups"),
            width=8,
        ),
        number(
            "Misses",
            "Look-ups a second that had to load, or to wait for a load: what the database feels.",
            PER_SECOND,
            Query(rate(MISSES, where=CHOSEN), "misses"),
            width=8,
        ),
    ]


def _caches() -> list[Panel]:
    return [
        lines(
            "Hit ratio by cache",
            "Share of look-ups that each cache answered in the last half hour: the series that CacheHitRateLow "
            f"evaluates. The line is its {percent(limit('CacheHitRateLow', 'hit_share'))}.",
            SHARE,
            Query(f"min by (cache) ({recorded(RATIO, CHOSEN)})", "{{cache}}"),
            floor=limit("CacheHitRateLow", "hit_share"),
            alerts=("CacheHitRateLow",),
            width=24,
        ).max(1),
        lines(
            "Hits by cache",
            "Look-ups a second that the cache answered.",
            PER_SECOND,
            Query(rate(HITS, "cache", CHOSEN), "{{cache}}"),
            stacked=True,
        ),
        lines(
            "Misses by cache",
            "Look-ups a second that had to load, or to wait for a load.",
            PER_SECOND,
            Query(rate(MISSES, "cache", CHOSEN), "{{cache}}"),
            stacked=True,
        ),
    ]


def _cardinality() -> list[Panel]:
    return [
        events(
            "Series refused",
            "Observations that fell into a metric's overflow series, because it has MAX_SERIES_PER_METRIC "
            "label sets or a value is over 1,024 characters. Anything but 0: look at that metric's labels.",
            Query(increase("baliblissed_metrics_series_refused_total", "metric, reason"), "{{metric}} {{reason}}"),
            width=24,
        )
    ]
