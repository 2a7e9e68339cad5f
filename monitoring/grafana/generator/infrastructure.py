"""Processes and the machine under them: workers, event loops, the exporter, CPU, memory and disk."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from . import board
from .panels import BYTES, COUNT, SECONDS, SHARE, Query, events, lines, number
from .queries import increase, quantile, series

WORKERS = "baliblissed_workers"
LAG = "baliblissed_event_loop_lag_seconds"
SCRAPE = "baliblissed_exporter_scrape_duration_seconds"
MEMORY_USED, MEMORY_LIMIT = "baliblissed_system_memory_used_bytes", "baliblissed_system_memory_limit_bytes"
DISK_USED, DISK_SIZE = "baliblissed_system_disk_used_bytes", "baliblissed_system_disk_size_bytes"
LIVE = "sum(" + series(WORKERS, 'state="live"') + ")"
CONFIGURED = "sum(" + series(WORKERS, 'state="configured"') + ")"


def _each(gauge: str) -> str:
    return f"max by (instance) ({series(gauge)})"


def _fullest(used: str, size: str) -> str:
    return f"max({series(used)} / {series(size)})"


def build() -> Dashboard:
    """infrastructure.json."""
    return board.build(
        "infrastructure",
        "Infrastructure",
        "Worker processes, the metrics exporter and the host or container they run in.",
        {
            "At a glance": [
                number(
                    "Workers live",
                    "Worker processes that run, over all instances.",
                    COUNT,
                    Query(LIVE, "live"),
                    width=4,
                ),
                number(
                    "Workers missing",
                    "Configured workers that do not run. One may be missing for a moment while it is replaced.",
                    COUNT,
                    Query(f"clamp_min({CONFIGURED} - {LIVE}, 0)", "missing"),
                    limit=1,
                    width=4,
                ),
                number(
                    "Event-loop lag P99",
                    "99 of 100 sleeping tasks woke no later. Half a second is felt by every request.",
                    SECONDS,
                    Query(quantile(0.99, LAG), "P99"),
                    limit=0.5,
                    width=4,
                ),
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
                    limit=0.9,
                    width=4,
                ),
                number(
                    "Disk",
                    "Disk in use on the fullest instance.",
                    SHARE,
                    Query(_fullest(DISK_USED, DISK_SIZE), "disk"),
                    limit=0.9,
                    width=4,
                ),
            ],
            "Processes": [
                lines(
                    "Workers",
                    "Worker processes: those that run, and those that WEB_CONCURRENCY asks for.",
                    COUNT,
                    Query(LIVE, "live"),
                    Query(CONFIGURED, "configured"),
                ),
                events(
                    "Worker exits",
                    "Workers that ended, by reason. stopped and max_requests are planned; timeout and killed are not.",
                    Query(increase("baliblissed_worker_exits_total", "reason"), "{{reason}}"),
                ),
                lines(
                    "Event-loop lag",
                    "How late the event loops woke a sleeping task: P50 and P99 of all workers.",
                    SECONDS,
                    Query(quantile(0.5, LAG), "P50"),
                    Query(quantile(0.99, LAG), "P99"),
                ),
                events(
                    "Hook errors",
                    "Errors caught in gunicorn's hooks, by hook. The service goes on; the log has the traceback.",
                    Query(increase("baliblissed_hook_errors_total", "hook"), "{{hook}}"),
                ),
            ],
            "Metrics exporter": [
                lines(
                    "Time to build an exposition",
                    "P50 and P99. Beyond the scrape's time-out nothing is measured any more.",
                    SECONDS,
                    Query(quantile(0.5, SCRAPE), "P50"),
                    Query(quantile(0.99, SCRAPE), "P99"),
                ),
                events(
                    "Exporter restarts",
                    "Times the master had to start the exporter again. No count is lost by it.",
                    Query(increase("baliblissed_exporter_restarts_total"), "restarts"),
                ),
                lines(
                    "Metric files",
                    "Memory-mapped files that a scrape reads. They grow with every worker that was replaced.",
                    COUNT,
                    Query(_each("baliblissed_exporter_files"), "{{instance}}"),
                ),
                lines(
                    "Metric files' size",
                    "Disk blocks, or memory on a tmpfs, that the metric files hold.",
                    BYTES,
                    Query(_each("baliblissed_exporter_directory_bytes"), "{{instance}}"),
                ),
            ],
            "Host or container": [
                lines(
                    "CPU",
                    "CPU in use on each instance's host, all cores together being 100%.",
                    SHARE,
                    Query(_each("baliblissed_system_cpu_usage_ratio"), "{{instance}}"),
                    width=8,
                ),
                lines(
                    "Memory",
                    "In use, without cache that can be taken back, and the limit: the container's, else the host's.",
                    BYTES,
                    Query(_each(MEMORY_USED), "used {{instance}}"),
                    Query(_each(MEMORY_LIMIT), "limit {{instance}}"),
                    width=8,
                ),
                lines(
                    "Disk",
                    "In use and available in all on the file system that the service runs on.",
                    BYTES,
                    Query(_each(DISK_USED), "used {{instance}}"),
                    Query(_each(DISK_SIZE), "size {{instance}}"),
                    width=8,
                ),
            ],
        },
    )
