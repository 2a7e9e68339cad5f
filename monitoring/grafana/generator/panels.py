"""Panels as this project draws them: one datasource variable, a unit and a description on each, thresholds as lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common, dashboard, units

from .limits import OBJECTIVES

Panel = timeseries.Panel | stat.Panel | statetimeline.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, statetimeline.Panel)

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, BAD = "green", "red"

PER_SECOND, REQUESTS_PER_SECOND = units.CountsPerSecond, units.RequestsPerSecond
SHARE, SECONDS, BYTES, COUNT = units.PercentUnit, units.Seconds, units.BytesIEC, units.Short


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the name of its series, in which {{label}} stands for a label's value."""

    expr: str
    legend: str


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    limit: float | None = None,
    stacked: bool = False,
    exemplars: bool = False,
    alerts: Sequence[str] = (),
    width: int = 12,
) -> timeseries.Panel:
    """Draw lines over time, with a dashed one at `limit`; `exemplars` of the first query are dots linked to traces.

    The panel links to the runbooks of `alerts`, whose address of a dashboard is this panel.
    """
    panel = timeseries.Panel().title(title).description(description).unit(unit).links(_runbooks(alerts))
    panel = (
        _with_queries(panel, queries, exemplars=exemplars)
        .height(8)
        .span(width)
        .min(0)
        .line_width(1)
        .fill_opacity(20 if stacked else 0)
        .show_points(common.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if limit is not None:
        panel.thresholds(_limit(limit)).axis_soft_max(limit * 1.2).thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphTresholdsStyleMode.DASHED)
        )
    return panel


def events(
    title: str, description: str, *queries: Query, alerts: Sequence[str] = (), width: int = 12
) -> timeseries.Panel:
    """Draw bars for rare events. Their step is at least a minute, so that windows hardly overlap."""
    return (
        lines(title, description, COUNT, *queries, stacked=True, alerts=alerts, width=width)
        .interval("1m")
        .draw_style(common.GraphDrawStyle.BARS)
        .fill_opacity(80)
    )


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    limit: float | None = None,
    alerts: Sequence[str] = (),
    width: int = 6,
) -> stat.Panel:
    """Show the most recent value, red from `limit` on."""
    panel = (
        _with_queries(stat.Panel().title(title).description(description).unit(unit), queries)
        .links(_runbooks(alerts))
        .height(4)
        .span(width)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
    )
    # Without steps Grafana would add its own red one at 80.
    return panel.thresholds(_limit(limit) if limit is not None else _steps())


def states(
    title: str,
    description: str,
    meanings: dict[str, tuple[str, str]],
    *queries: Query,
    alerts: Sequence[str] = (),
    width: int = 12,
) -> statetimeline.Panel:
    """Make a panel of a gauge's states over time; `meanings` are their text and colour."""
    panel = statetimeline.Panel().title(title).description(description).unit(COUNT).links(_runbooks(alerts))
    return (
        _with_queries(panel, queries)
        .height(8)
        .span(width)
        .mappings(mapping(meanings))
        .thresholds(_steps())
        .show_value(common.VisibilityMode.ALWAYS)
        .merge_values(True)
        .legend(_legend())
    )


def mapping(meanings: dict[str, tuple[str, str]]) -> list[dashboard.ValueMapping]:
    """Map values to texts and colours."""
    options = {
        value: dashboard.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(meanings.items())
    }
    return [dashboard.ValueMap(options=options)]


def _with_queries(panel: P, queries: tuple[Query, ...], *, exemplars: bool = False) -> P:
    panel.datasource(DATASOURCE)
    for index, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + index))
        if exemplars and index == 0:  # the others would draw the same dots once more
            target.exemplar(True)
        panel.with_target(target.range().datasource(DATASOURCE))
    return panel


def _runbooks(alerts: Sequence[str]) -> list[builders.DashboardLink]:
    return [
        builders.DashboardLink(alert)
        .type(dashboard.DashboardLinkType.LINK)
        .tooltip(f"Runbook of {alert}")
        .url(f"{OBJECTIVES.runbooks}/{alert}.md")
        .target_blank(True)
        for alert in alerts
    ]


def _legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
    )


def _limit(value: float) -> builders.ThresholdsConfig:
    return _steps(dashboard.Threshold(value=value, color=BAD))


def _steps(*above: dashboard.Threshold) -> builders.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color=GOOD), *above]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
