"""Processes and the machine under them: workers, event loops, the exporter, CPU, memory and disk."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from . import board, exporter
from .limits import OBJECTIVES, limit
from .panels import BYTES, COUNT, PER_SECOND, SECONDS, SHARE, Panel, Query, events, lines, number
from .queries import each, elsewhere, increase, quantile, rate, recorded, series

WORKERS = "baliblissed_workers"
LAG = "baliblissed_event_loop_lag_seconds"
MEMORY_USED, MEMORY_LIMIT = "baliblissed_system_memory_used_bytes", "baliblissed_system_memory_limit_bytes"
DISK_USED, DISK_SIZE = "baliblissed_system_disk_used_bytes", "baliblissed_system_disk_size_bytes"
LIVE = "sum(" + series(WORKERS, 'state="live"') + ")"
CONFIGURED = "sum(" + series(WORKERS, 'state="configured"') + ")"
MEMORY_SHARE, DISK_SHARE = limit("MemoryNearLimit", "used_share"), limit("DiskNearlyFull", "used_share")
LATE_WAKE_UPS = f"job_instance:event_loop_late:ratio_rate{OBJECTIVES.numbers('EventLoopLag').values['window']}"
UNPLANNED = f"job_instance:worker_exits_unplanned:increase{OBJECTIVES.numbers('WorkerCrashLoop').values['window']}"
LATE, LATE_SHARE = limit("EventLoopLag", "lag_seconds"), limit("EventLoopLag", "share")
BY_PROCESS = "{{instance}} {{worker}}"
CONTAINER = OBJECTIVES.numbers("ContainerRestarting").values["container"]
RESTARTS = elsewhere("kube_pod_container_status_restarts_total", f'container="{CONTAINER}"')
STARTED, EXPORTER = "process_start_time_seconds", 'worker="exporter"'


def _each_process(gauge: str) -> str:
    return f"topk(20, max by (instance, worker) ({series(gauge)}))"


def _fullest(used: str, size: str) -> str:
    return f"max({series(used)} / {series(size)})"


def _fullest_by_instance(used: str, size: str) -> Query:
    return Query(f"topk(10, max by (instance) ({series(used)} / {series(size)}))", "{{instance}}")


def _by_instance(state: str) -> str:
    chosen = f'state="{state}"'
    return f"max by (instance) ({series(WORKERS, chosen)})"


def build() -> Dashboard:
    """Build infrastructure.json."""
    return board.build(
        "infrastructure",
        "Infrastructure",
        "Worker processes, the metrics exporter and the host or container they run in.",
        {
            "At a glance": _at_a_glance(),
            "Workers": _workers(),
            "Event loops and hooks": _loops(),
            "Each process": _each_of_the_processes(),
            "Metrics exporter": exporter.panels(),
            "Metrics directory": exporter.directory_panels(),
            "Host or container": _host(),
        },
    )


def _at_a_glance() -> list[Panel]:
    return [
        number(
            "Workers live",
            "Worker processes that run, over all instances.",
            COUNT,
            Query(LIVE, "live"),
            width=4,
        ),
        number(
            "Workers missing",
            "Configured workers that do not run. One may be missing for a moment while it is replaced: "
            "NotEnoughWorkers waits five minutes.",
            COUNT,
            Query(f"clamp_min({CONFIGURED} - {LIVE}, 0)", "missing"),
            limit=1,
            width=4,
        ),
        number(
            "Event-loop lag P99",
            "99 of 100 sleeping tasks woke no later. Every request of the worker waits as long.",
            SECONDS,
            Query(quantile(0.99, LAG), "P99"),
            limit=LATE,
            width=4,
        ),
        *_fullest_hosts(),
    ]


def _fullest_hosts() -> list[Panel]:
    return [
        number(
            "CPU",
            "CPU in use on the busiest instance's host.",
            SHARE,
            Query(f"max({series('baliblissed_system_cpu_usage_ratio')})", "CPU"),
            limit=0.9,
            width=4,
        ),
        number(
            "Memory",
            "Memory in use on the fullest instance, as a share of its limit.",
            SHARE,
            Query(_fullest(MEMORY_USED, MEMORY_LIMIT), "memory"),
            limit=MEMORY_SHARE,
            width=4,
        ),
        number(
            "Disk",
            "Disk in use on the fullest instance.",
            SHARE,
            Query(_fullest(DISK_USED, DISK_SIZE), "disk"),
            limit=DISK_SHARE,
            width=4,
        ),
    ]


def _workers() -> list[Panel]:
    return [
        lines(
            "Workers",
            "Worker processes: those that run, and those that WEB_CONCURRENCY asks for.",
            COUNT,
            Query(LIVE, "live"),
            Query(CONFIGURED, "configured"),
            width=12,
        ),
        lines(
            "Missing workers by instance",
            "Configured workers that do not run: the ten instances that miss most. NotEnoughWorkers fires from the "
            "line on.",
            COUNT,
            Query(f"topk(10, clamp_min({_by_instance('configured')} - {_by_instance('live')}, 0))", "{{instance}}"),
            limit=limit("NotEnoughWorkers", "missing"),
            alerts=("NotEnoughWorkers",),
            width=12,
        ),
        events(
            "Worker exits",
            "Workers that ended, by reason. stopped and max_requests are planned; the others are not.",
            Query(increase("baliblissed_worker_exits_total", "reason"), "{{reason}}"),
            width=8,
        ),
        lines(
            "Unplanned exits by instance",
            "Workers that were killed, crashed or hung in the last five minutes: the ten instances with most. "
            "WorkerCrashLoop evaluates this series and fires above the line.",
            COUNT,
            Query(f"topk(10, max by (instance) ({recorded(UNPLANNED)}))", "{{instance}}"),
            limit=limit("WorkerCrashLoop", "exits"),
            alerts=("WorkerCrashLoop",),
            width=8,
        ),
        events(
            "Worker boots",
            "Workers that were started: one for each exit, and all of them at a start of the service.",
            Query(increase("baliblissed_worker_boots_total"), "boots"),
            width=8,
        ),
    ]


def _loops() -> list[Panel]:
    return [
        lines(
            "Event-loop lag",
            "How late the event loops woke a sleeping task: P50 and P99 of all workers.",
            SECONDS,
            Query(quantile(0.5, LAG), "P50"),
            Query(quantile(0.99, LAG), "P99"),
            width=8,
        ),
        lines(
            "Late wake-ups by instance",
            f"Share of the measurements that found the event loop over {LATE * 1000:g} ms late: the ten worst "
            "instances. EventLoopLag evaluates this series and fires above the line.",
            SHARE,
            Query(f"topk(10, max by (instance) ({recorded(LATE_WAKE_UPS)}))", "{{instance}}"),
            limit=LATE_SHARE,
            alerts=("EventLoopLag",),
            width=8,
        ),
        events(
            "Hook errors",
            "Errors caught in gunicorn's hooks, by hook. The service goes on; the log has the traceback.",
            Query(increase("baliblissed_hook_errors_total", "hook"), "{{hook}}"),
            width=8,
        ),
    ]


def _each_of_the_processes() -> list[Panel]:
    """Return the panels of each worker's slot, which its successor takes over, and of the exporter."""
    return [*_process_resources(), *_process_lives()]


def _process_resources() -> list[Panel]:
    return [
        lines(
            "Memory by process",
            "Resident memory of each worker and the exporter; pages shared with the master count in each. A line that "
            "climbs until its worker is replaced is a leak.",
            BYTES,
            Query(_each_process("process_resident_memory_bytes"), BY_PROCESS),
            width=8,
        ),
        lines(
            "CPU by process",
            "CPU of each worker and the exporter, 100% being one core.",
            SHARE,
            Query(f"topk(20, {rate('process_cpu_seconds_total', 'instance, worker')})", BY_PROCESS),
            width=8,
        ),
        lines(
            "Event-loop lag by worker",
            "The largest lag of each worker in the last 15 s. One worker that is blocked stands out here, and "
            "disappears in the quantiles of all.",
            SECONDS,
            Query(_each_process("baliblissed_worker_event_loop_lag_seconds"), BY_PROCESS),
            width=8,
        ),
        lines(
            "Open files by process",
            "File descriptors of each worker and the exporter, connections included.",
            COUNT,
            Query(_each_process("process_open_fds"), BY_PROCESS),
            width=8,
        ),
        lines(
            "Garbage collections",
            "Collections a second of all processes, by generation. Those of generation 2 stop a worker the longest.",
            PER_SECOND,
            Query(rate("python_gc_collections_total", "generation"), "generation {{generation}}"),
            width=8,
        ),
    ]


def _process_lives() -> list[Panel]:
    return [
        lines(
            "Age of processes",
            "How long each worker and the exporter have run. A saw-tooth is a worker that is replaced again and again.",
            SECONDS,
            Query(f"bottomk(20, time() - max by (instance, worker) ({series(STARTED)}))", BY_PROCESS),
            width=8,
        ),
        events(
            "Starts of the exporter",
            "Times that each instance's exporter was started: with its container, or by the master. Containers that "
            "are "
            "killed for their memory start again and again.",
            Query(
                f"topk(10, sum by (instance) (changes({series(STARTED, EXPORTER)}[$__rate_interval])))", "{{instance}}"
            ),
            Query(f"sum by (namespace, pod) (increase({RESTARTS}[$__rate_interval]))", "{{namespace}} {{pod}}"),
            alerts=("ContainerRestarting",),
            width=8,
        ),
        lines(
            "Generation of workers",
            "Reloads before each worker was started. A worker below the others has not left yet.",
            COUNT,
            Query(_each_process("baliblissed_worker_generation"), BY_PROCESS),
            width=8,
        ),
        lines(
            "Requests in flight by worker",
            "Requests that each worker is answering. One that has far more than the others is blocked.",
            COUNT,
            Query(_each_process("baliblissed_requests_in_flight"), BY_PROCESS),
            width=8,
        ),
    ]


def _host() -> list[Panel]:
    return [
        lines(
            "CPU",
            "CPU in use on the hosts of the ten busiest instances, all cores together being 100%.",
            SHARE,
            Query(f"topk(10, {each('baliblissed_system_cpu_usage_ratio')})", "{{instance}}"),
            width=8,
        ),
        lines(
            "Memory",
            "In use, without cache that can be taken back, as a share of the limit: the container's, else the host's. "
            "The ten fullest instances.",
            SHARE,
            _fullest_by_instance(MEMORY_USED, MEMORY_LIMIT),
            limit=MEMORY_SHARE,
            alerts=("MemoryNearLimit",),
            width=8,
        ),
        lines(
            "Disk",
            "In use on the file system that the service runs on, as a share of its size. The ten fullest instances.",
            SHARE,
            _fullest_by_instance(DISK_USED, DISK_SIZE),
            limit=DISK_SHARE,
            alerts=("DiskNearlyFull",),
            width=8,
        ),
    ]
