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
TWICE = "Each series of the pods is read twice, by handler and by instance; the other levels are sums of these two."
# What the requests of each level are made of.
FINER = {
    "job": "job_handler_status",
    "job_instance": "job_instance_status",
    "job_handler": "job_handler_status",
    "job_status": "job_handler_status",
}
FAILED = '{status=~"5.."}'
OF_VERSION = "* on (job, instance) group_left (version)\ngroup by (job, instance, version) (baliblissed_build_info)"
SLOW = (
    '"P99 is over 2 s" and "more than 1% took longer than 2 s" are the same statement. The second counts whole '
    "buckets; histogram_quantile would guess a place inside a bucket, and can never answer more than the last boundary."
)


def targets(objectives: Objectives) -> list[Record]:
    """Return the series of jobs and targets, which others rest on."""
    enough = objectives.numbers("NotReady").number("share")
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
        Record(
            "job:ready:enough",
            f"job:ready:avg >= bool {enough}\n"
            f"and on (job) (job:ready:avg >= {enough} or last_over_time(job:ready:enough[1d]))",
            comment=(
                "From the first moment on in which the job is ready: a service that starts for the first time breaks "
                "no objective, and with no more history than that it would page for a burnt budget."
            ),
        ),
        Record("job_dependency:dependency_up:avg", "avg by (job, dependency) (baliblissed_dependency_up)"),
    ]


def requests(objectives: Objectives) -> list[Record]:
    """Return rates and shares of errors and of slow requests, of the last minutes."""
    latency = objectives.numbers("HighLatencyP99")
    measured = f'handler!~"{latency.text("excluded_handlers")}"'
    bound = f'le="{float(latency.number("threshold_seconds"))}"'
    window = objectives.window
    rate = f"rate{window}"
    return [
        Record(
            f"job_handler_status:http_requests:{rate}",
            _sum("job_handler_status", f"http_requests_total{{{_probes(objectives)}}}", window),
            comment=TWICE,
        ),
        Record(
            f"job_instance_status:http_requests:{rate}",
            _sum("job_instance_status", f"http_requests_total{{{_probes(objectives)}}}", window),
        ),
        *(
            Record(f"{level}:http_requests:{rate}", _of(level, f"{finer}:http_requests:{rate}"))
            for level, finer in FINER.items()
        ),
        *_hours(rate),
        *(  # 0 for what has requests and no error
            Record(
                f"{level}:http_errors:{rate}",
                f"{_of(level, f'{FINER[level]}:http_requests:{rate}{FAILED}')}\nor 0 * {level}:http_requests:{rate}",
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
    ]


def latency(objectives: Objectives) -> list[Record]:
    """Return latency buckets, percentiles and response sizes for dashboards. They read most series, so less often."""
    window, probes = objectives.window, _probes(objectives)
    rate = f"rate{window}"
    return [
        *(
            Record(f"{level}_le:{BUCKETS}:{rate}", _sum(f"{level}_le", f"{BUCKETS}{{{probes}}}", window))
            for level in ("job_handler", "job_instance")
        ),
        Record(f"job_le:{BUCKETS}:{rate}", _of("job_le", f"job_handler_le:{BUCKETS}:{rate}")),
        Record(
            f"job_version_le:{BUCKETS}:{rate}",
            f"sum by (job, version, le) (job_instance_le:{BUCKETS}:{rate} {OF_VERSION})",
        ),
        *(  # of many routes or pods, twelve buckets each are too many for six hours of a panel
            Record(f"{level}:{DURATION}:p95_{rate}", f"histogram_quantile(0.95, {level}_le:{BUCKETS}:{rate})")
            for level in ("job_handler", "job_instance")
        ),
        *(
            Record(f"job_handler:{size}:{rate}", _sum("job_handler", f"{size}{{{probes}}}", window))
            for size in ("http_response_size_bytes_sum", "http_response_size_bytes_count")
        ),
    ]


def _hours(rate: str) -> list[Record]:
    """Return the requests of the last hour, and of the same time of the day before."""
    return [
        Record("job:http_requests:rate1h", f"avg_over_time(job:http_requests:{rate}[1h])"),
        Record(
            DAY_BEFORE,
            "min_over_time(job:http_requests:rate1h[3h] offset 22h)",
            comment=(
                "The quietest of the hours from two before to two after this time of the day before, so that neither a "
                "job that ran until then every night nor a change to or from summer time is traffic that vanishes."
            ),
        ),
    ]


def versions(objectives: Objectives) -> list[Record]:
    """Return requests and errors of each version, for a rollout in which two serve side by side."""
    rate = f"rate{objectives.window}"
    return [
        Record(
            f"job_version:http_{what}:{rate}", f"sum by (job, version) (job_instance:http_{what}:{rate} {OF_VERSION})"
        )
        for what in ("requests", "errors")
    ]


def _probes(objectives: Objectives) -> str:
    """Return the matcher that leaves probes out."""
    return f'handler!~"{objectives.numbers("HighErrorRate").text("excluded_handlers")}"'


def _sum(level: str, selector: str, window: str) -> str:
    return f"sum by ({level.replace('_', ', ')}) (rate({selector}[{window}])) {OURS}"


def _of(level: str, finer: str) -> str:
    return f"sum by ({level.replace('_', ', ')}) ({finer})"
