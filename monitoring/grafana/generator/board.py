"""Common parts of all dashboards: identity, variables, links to one another, rows of panels."""

import json
import zlib
from collections.abc import Sequence
from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from .annotations import annotate
from .panels import DATASOURCE, Panel

TAG = "baliblissed"
# As monitoring/grafana/provisioning/datasources has it.
LOG_STORE, LOG_STORE_TYPE = "victorialogs", "victoriametrics-logs-datasource"
# Every process of the service exposes it, whether there is traffic or not.
ALWAYS_THERE = "baliblissed_workers"


def build(
    uid: str,
    title: str,
    description: str,
    rows: dict[str, Sequence[Panel]],
    variables: Sequence[builders.QueryVariable] = (),
    *,
    instances: bool = True,
) -> builders.Dashboard:
    """Build a read-only dashboard of titled `rows` of panels; `variables` come after datasource, job and instance.

    Without `instances` there is no choice of instances, for a dashboard of recorded series.
    """
    chosen = [_job(), *([_instance()] if instances else []), *variables]
    board = annotate(
        builders.Dashboard(f"BaliBlissed / {title}")
        .uid(f"baliblissed-{uid}")
        .description(description)
        .tags([TAG])
        .readonly()
        .time("now-1h", "now")
        .refresh("30s")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(_to_the_others())
        .link(_to_the_logs())
        .variables([_datasource(), *chosen])
    )
    for row, panels in rows.items():
        board.with_row(builders.Row(row).id(_number(row)))
        for panel in panels:
            board.with_panel(panel.id(_number(f"{row}/{panel.build().title}")))
    return board


def _number(place: str) -> int:
    """Return an id that stays as long as row and title do: the addresses in alerts have it. It fits in 31 bits."""
    return zlib.crc32(place.encode()) >> 1


def choice(name: str, label: str, description: str, query: str) -> builders.QueryVariable:
    """Return a multi-value variable with all values selected by default."""
    return (
        builders.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATASOURCE)
        .query(query)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(dashboard.VariableOption(selected=True, text="All", value="$__all"))
    )


def _datasource() -> builders.DatasourceVariable:
    return (
        builders.DatasourceVariable("datasource")
        .label("Data source")
        .description("The Prometheus that scrapes the service.")
        .type("prometheus")
        .current(dashboard.VariableOption(selected=True, text="Prometheus", value="prometheus"))
    )


def _job() -> builders.QueryVariable:
    return choice("job", "Job", "Scrape jobs of the service.", f"label_values({ALWAYS_THERE}, job)")


def _instance() -> builders.QueryVariable:
    query = f'label_values({ALWAYS_THERE}{{job=~"$job"}}, instance)'
    return choice("instance", "Instance", "Scraped addresses: one a container, whatever its workers.", query)


def _to_the_logs() -> builders.DashboardLink:
    query = {
        "refId": "A",
        "datasource": {"type": LOG_STORE_TYPE, "uid": LOG_STORE},
        "expr": "error | unpack_json | filter level:in(error, critical)",
    }
    shown = {"datasource": LOG_STORE, "queries": [query], "range": {"from": "${__from}", "to": "${__to}"}}
    # Variables stay as they are, so that Grafana puts the dashboard's time range in.
    panes = quote(json.dumps({"logs": shown}, separators=(",", ":")), safe="${}")
    return (
        builders.DashboardLink("Errors in the log")
        .type(dashboard.DashboardLinkType.LINK)
        .tooltip("Log lines of errors in the time range of this dashboard; each leads to its trace")
        .url(f"/explore?schemaVersion=1&panes={panes}")
        .target_blank(True)
    )


def _to_the_others() -> builders.DashboardLink:
    return (
        builders.DashboardLink("BaliBlissed")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .keep_time(True)
        .include_vars(True)
    )
