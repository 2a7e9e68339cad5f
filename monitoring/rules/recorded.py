"""Recorded series of requests, targets, readiness and dependencies, which alerts and dashboards share.

Every series is one of this service: jobs are recognised by what they expose, not by their names.
"""

from .model import Record
from .objectives import Objectives

# The service's jobs. A job stays known, at 1, when none of its targets answers any more.
KNOWN = "job:baliblissed_service:known"
OURS = f"and on (job) {KNOWN}"
DAY_BEFORE = "job:http_requests:rate1h_day_before"
DURATION = "http_request_duration_seconds"
BUCKETS = f"{DURATION}_bucket"
SLOW = (
    '"P99 is over 2 s" and "more than 1% took longer than 2 s" are the same statement. The second counts whole '
    "buckets; histogram_quantile would guess a place inside a bucket, and can never answer more than the last boundary."
)


def targets(objectives: Objectives) -> list[Record]:
    """Return the series of jobs and targets, which others rest on."""
    return [
        Record(
            KNOWN,
            f"group by (job) (baliblissed_workers)\nor {KNOWN}",
            comment="Without the second part a job whose targets are all down would be forgotten after five minutes.",
        ),
        Record("job_instance:up:service", f"max by (job, instance) (up) {OURS}"),
        Record("job:up:avg", "avg by (job) (job_instance:up:service)"),
        Record("job:instances:count", "count by (job) (job_instance:up:service)"),
        Record(
            "job_instance:ready:min",
            "min by (job, instance) (baliblissed_ready)\nor 0 * max by (job, instance) (baliblissed_workers)",
            comment="Without a worker nothing says that an instance is ready, or that it is not.",
        ),
        Record("job:ready:avg", "avg by (job) (job_instance:ready:min)"),
        Record("job:ready:enough", f"job:ready:avg >= bool {objectives.numbers('NotReady').number('share')}"),
        Record("job_dependency:dependency_up:avg", "avg by (job, dependency) (baliblissed_dependency_up)"),
    ]


def requests(objectives: Objectives) -> list[Record]:
    """Return rates, shares of errors and of slow requests, and latency buckets, of the last minutes."""
    errors, latency = objectives.numbers("HighErrorRate"), objectives.numbers("HighLatencyP99")
    probes = f'handler!~"{errors.text("excluded_handlers")}"'
    measured = f'handler!~"{latency.text("excluded_handlers")}"'
    bound = f'le="{float(latency.number("threshold_seconds"))}"'
    requests, failed = f"http_requests_total{{{probes}}}", f'http_requests_total{{status=~"5..",{probes}}}'
    window = objectives.window
    rate = f"rate{window}"
    return [
        *(
            Record(f"{level}:http_requests:{rate}", _sum(level, requests, window))
            for level in ("job", "job_instance", "job_handler", "job_status")
        ),
        *_hours(rate),
        *(  # 0 for what has requests and no error
            Record(
                f"{level}:http_errors:{rate}",
                f"({_sum(level, failed, window)})\nor 0 * {level}:http_requests:{rate}",
            )
            for level in ("job", "job_instance", "job_handler")
        ),
        *(
            Record(f"{level}:http_errors:ratio_{rate}", f"{level}:http_errors:{rate} / {level}:http_requests:{rate}")
            for level in ("job", "job_instance", "job_handler")
        ),
        Record(f"job:http_measured_requests:{rate}", _sum("job", f"{DURATION}_count{{{measured}}}", window)),
        Record(
            f"job:http_slow_requests:ratio_{rate}",
            f"1 - sum by (job) (rate({BUCKETS}{{{bound},{measured}}}[{window}]))\n/ job:http_measured_requests:{rate}",
            comment=SLOW,
        ),
        Record(
            f"job:requests_shed:ratio_{rate}",
            f"sum by (job) (rate(baliblissed_requests_shed_total[{window}])) / job:http_requests:{rate}",
            comment="Shed requests are among those of the handler `none`, so the share is one of all requests.",
        ),
        *(
            Record(f"{level}_le:{BUCKETS}:{rate}", _sum(f"{level}_le", f"{BUCKETS}{{{probes}}}", window))
            for level in ("job", "job_handler", "job_instance")
        ),
    ]


def _hours(rate: str) -> list[Record]:
    """Return the requests of the last hour, and of the same time of the day before."""
    return [
        Record("job:http_requests:rate1h", f"avg_over_time(job:http_requests:{rate}[1h])"),
        Record(
            DAY_BEFORE,
            "job:http_requests:rate1h offset 1d < job:http_requests:rate1h offset 23h\n"
            "or job:http_requests:rate1h offset 23h",
            comment=(
                "The smaller of the hours before and after this time of the day before, so that a job that ran until "
                "then every night is no traffic that vanishes."
            ),
        ),
    ]


def versions(objectives: Objectives) -> list[Record]:
    """Return requests, errors and latency of each version, for a rollout in which two serve side by side."""
    of_version = "* on (job, instance) group_left (version)\ngroup by (job, instance, version) (baliblissed_build_info)"
    rate = f"rate{objectives.window}"
    return [
        *(
            Record(
                f"job_version:http_{what}:{rate}",
                f"sum by (job, version) (job_instance:http_{what}:{rate} {of_version})",
            )
            for what in ("requests", "errors")
        ),
        Record(
            f"job_version_le:{BUCKETS}:{rate}",
            f"sum by (job, version, le) (job_instance_le:{BUCKETS}:{rate} {of_version})",
        ),
    ]


def _sum(level: str, selector: str, window: str) -> str:
    return f"sum by ({level.replace('_', ', ')}) (rate({selector}[{window}])) {OURS}"
