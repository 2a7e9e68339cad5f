"""Rows on the metrics themselves: the exporter that adds them up, and the directory that holds them."""

from .limits import limit
from .panels import BYTES, COUNT, SECONDS, Panel, Query, events, lines
from .queries import each, increase, quantile, series

SCRAPE = "baliblissed_exporter_scrape_duration_seconds"
HELD, FREE = "baliblissed_exporter_directory_bytes", "baliblissed_exporter_directory_free_bytes"


def panels() -> list[Panel]:
    """Return the panels of the exporter process."""
    return [
        lines(
            "Time to build an exposition",
            "P50 and P99, archiving of ended workers included. Beyond the scrape's time-out nothing is measured.",
            SECONDS,
            Query(quantile(0.5, SCRAPE), "P50"),
            Query(quantile(0.99, SCRAPE), "P99"),
        ),
        events(
            "Exporter restarts",
            "Times the master had to start the exporter again. No count is lost by it.",
            Query(increase("baliblissed_exporter_restarts_total"), "restarts"),
        ),
        events(
            "Processes archived",
            "Ended processes whose numbers went to the archive. Where workers end and this is 0, the directory grows.",
            Query(increase("baliblissed_exporter_folded_processes_total"), "archived"),
        ),
        events(
            "Unreadable files",
            "Metric files that were set aside, and entries of readable ones that were left out. "
            "MetricFilesUnreadable watches this.",
            Query(increase("baliblissed_exporter_unreadable_files_total"), "files"),
            Query(increase("baliblissed_exporter_entries_left_out_total", "reason"), "entries: {{reason}}"),
            alerts=("MetricFilesUnreadable",),
        ),
    ]


def directory_panels() -> list[Panel]:
    """Return the panels of the metrics directory."""
    return [
        lines(
            "Metric files",
            "Files in the metrics directory, and the processes that write there: some six files a process, however "
            "many have ended.",
            COUNT,
            Query(each("baliblissed_exporter_files"), "files {{instance}}"),
            Query(each("baliblissed_exporter_live_processes"), "processes {{instance}}"),
        ),
        lines(
            "Metrics directory",
            "Disk blocks, or memory on a tmpfs, that the files hold, and what is left there. "
            "MetricsDirectoryNearlyFull fires below the line, and where a small share is left.",
            BYTES,
            Query(each(HELD), "held {{instance}}"),
            Query(each(FREE), "free {{instance}}"),
            floor=limit("MetricsDirectoryNearlyFull", "free_bytes"),
            alerts=("MetricsDirectoryNearlyFull",),
        ),
        lines(
            "Largest metrics",
            "Label sets of the ten metrics that have most, over all processes of an instance. The limit is "
            "MAX_SERIES_PER_METRIC, 10,000 unless it is set.",
            COUNT,
            Query(f"topk(10, max by (metric) ({series('baliblissed_exporter_series')}))", "{{metric}}"),
            width=8,
        ),
        events(
            "Series refused",
            "Observations that fell into a metric's overflow series. MetricSeriesRefused watches this.",
            Query(increase("baliblissed_metrics_series_refused_total", "metric, reason"), "{{metric}} {{reason}}"),
            alerts=("MetricSeriesRefused",),
            width=8,
        ),
        events(
            "Series lost",
            "Series that found no room in the metrics directory, or that the exporter would leave out: what they count "
            "is not exposed.",
            Query(increase("baliblissed_metrics_series_lost_total"), "series"),
            Query(increase("baliblissed_metrics_writes_refused_total", "metric, reason"), "{{metric}} {{reason}}"),
            width=8,
        ),
    ]
