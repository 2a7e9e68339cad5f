"""Recorded figures of single alerts, which evaluate them, and of the panels that show these alerts."""

from .model import Record
from .objectives import Objectives


def records(objectives: Objectives) -> list[Record]:
    """Return what AIErrorRate, EventLoopLag, CacheHitRateLow and WorkerCrashLoop evaluate, over their windows."""
    return [*_answers(objectives), _late(objectives), *_lookups(objectives), _unplanned(objectives)]


def _answers(objectives: Objectives) -> list[Record]:
    own = objectives.numbers("AIErrorRate")
    window, requests = own.duration("window"), "baliblissed_ai_requests_total"
    every = f'sum by (job) (rate({requests}{{outcome!~"{own.text("not_counted")}"}}[{window}]))'
    failed = f'outcome!~"{own.text("answered")}|{own.text("not_counted")}"'
    return [
        Record(
            f"job:ai_errors:ratio_rate{window}",
            f"(sum by (job) (rate({requests}{{{failed}}}[{window}])) or 0 * {every})\n/ {every}",
        ),
        Record(f"job:ai_errors:increase{window}", f"sum by (job) (increase({requests}{{{failed}}}[{window}]))"),
    ]


def _late(objectives: Objectives) -> Record:
    own = objectives.numbers("EventLoopLag")
    window, bound = own.duration("window"), float(own.number("lag_seconds"))
    lag = "baliblissed_event_loop_lag_seconds"
    return Record(
        f"job_instance:event_loop_late:ratio_rate{window}",
        f'1 - sum by (job, instance) (rate({lag}_bucket{{le="{bound}"}}[{window}]))\n'
        f"/ sum by (job, instance) (rate({lag}_count[{window}]))",
        comment="A share of measurements over a boundary, as for HighLatencyP99: no interpolation.",
    )


def _lookups(objectives: Objectives) -> list[Record]:
    window = objectives.numbers("CacheHitRateLow").duration("window")
    hits, misses = (
        f"sum by (job, cache) (rate(baliblissed_cache_{what}_total[{window}]))" for what in ("hits", "misses")
    )
    every = f"job_cache:cache_lookups:rate{window}"
    return [
        Record(
            every,
            f"({hits} or 0 * {misses})\n+ ({misses} or 0 * {hits})",
            comment="A cache that has only missed, or only hit, has one of the two series.",
        ),
        Record(f"job_cache:cache_hits:ratio_rate{window}", f"({hits} or 0 * {misses})\n/ {every}"),
    ]


def _unplanned(objectives: Objectives) -> Record:
    own = objectives.numbers("WorkerCrashLoop")
    window = own.duration("window")
    exits = f'baliblissed_worker_exits_total{{reason!~"{own.text("planned_reasons")}"}}[{window}]'
    return Record(
        f"job_instance:worker_exits_unplanned:increase{window}", f"sum by (job, instance) (increase({exits}))"
    )
