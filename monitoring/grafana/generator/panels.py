"""Panels as this project draws them: one datasource variable, a unit and a description on each, thresholds as lines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import heatmap as heatmaps
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard, units
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from .limits import OBJECTIVES

Panel = timeseries.Panel | stat.Panel | statetimeline.Panel | heatmaps.Panel
P = TypeVar("P", timeseries.Panel, stat.Panel, statetimeline.Panel, heatmaps.Panel)

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
GOOD, WARNING, BAD = "green", "orange", "red"

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
    limit: float | Sequence[float] | None = None,
    floor: float | None = None,
    stacked: bool = False,
    exemplars: Query | None = None,
    alerts: Sequence[str] = (),
    width: int = 12,
) -> timeseries.Panel:
    """Draw lines over time, with dashed ones at `limit`, or at `floor` where less is bad.

    `exemplars` is a query of series as scraped, whose exemplars are dots linked to traces; recorded series have none.
    The panel links to the runbooks of `alerts`, whose address of a dashboard is this panel.
    """
    panel = timeseries.Panel().title(title).description(description).unit(unit).links(_runbooks(alerts))
    panel = (
        _with_queries(panel, queries, exemplars)
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
    if limit is not None or floor is not None:
        panel.thresholds(_limit(limit, floor)).axis_soft_max(_highest(limit, floor) * 1.2).thresholds_style(
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
    limit: float | Sequence[float] | None = None,
    floor: float | None = None,
    alerts: Sequence[str] = (),
    width: int = 6,
) -> stat.Panel:
    """Show the most recent value: red from `limit` on, orange from a lower one on, red below `floor`."""
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
    return panel.thresholds(_limit(limit, floor))


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


def buckets(title: str, description: str, query: Query, *, width: int = 12) -> heatmaps.Panel:
    """Draw a histogram's buckets over time; the legend of `query` is {{le}}."""
    panel = heatmaps.Panel().title(title).description(description).unit(SECONDS).datasource(DATASOURCE)
    target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id("A")
    return (
        panel.with_target(target.format(PromQueryFormat.HEATMAP).range().datasource(DATASOURCE))
        .height(8)
        .span(width)
        .calculate(False)
        .cell_gap(1)
        .y_axis(heatmaps.YAxisConfig().unit(SECONDS))
        .color(
            heatmaps.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
    )


def mapping(meanings: dict[str, tuple[str, str]]) -> list[dashboard.ValueMapping]:
    """Map values to texts and colours."""
    options = {
        value: dashboard.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(meanings.items())
    }
    return [dashboard.ValueMap(options=options)]


def _with_queries(panel: P, queries: tuple[Query, ...], exemplars: Query | None = None) -> P:
    panel.datasource(DATASOURCE)
    # First: Grafana asks for no exemplars of a metric whose name stands in a query before. At one moment only, since
    # the series as scraped are many; the exemplars are those of the whole range all the same.
    for index, query in enumerate([*([exemplars] if exemplars else []), *queries]):
        target = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + index))
        target = target.exemplar(True).instant() if query is exemplars else target.range()
        panel.with_target(target.datasource(DATASOURCE))
    return panel


def _runbooks(alerts: Sequence[str]) -> list[Builder[dashboard.DashboardLink]]:
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


def _highest(limit: float | Sequence[float] | None, floor: float | None) -> float:
    return max([*_all(limit), *([floor] if floor is not None else [])])


def _all(limit: float | Sequence[float] | None) -> Sequence[float]:
    if limit is None:
        return []
    return sorted(limit) if isinstance(limit, Sequence) else [limit]


def _limit(limit: float | Sequence[float] | None, floor: float | None) -> builders.ThresholdsConfig:
    """Return the colours: red from the highest limit on, orange from lower ones, red below a floor."""
    values = _all(limit)
    above = [dashboard.Threshold(value=value, color=WARNING) for value in values[:-1]]
    above += [dashboard.Threshold(value=value, color=BAD) for value in values[-1:]]
    if floor is None:
        return _steps(*above)
    return _steps(dashboard.Threshold(value=floor, color=GOOD), *above, lowest=BAD)


def _steps(*above: dashboard.Threshold, lowest: str = GOOD) -> builders.ThresholdsConfig:
    steps = [dashboard.Threshold(value=None, color=lowest), *above]
    return builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
