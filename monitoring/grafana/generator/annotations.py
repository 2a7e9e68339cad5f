"""Marks on all time axes of a dashboard: deploys, alerts, load runs."""

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard

from .limits import OBJECTIVES
from .panels import DATASOURCE

BUILD = "baliblissed_build_info"
FIRING = f'ALERTS{{alertstate="firing", service="{OBJECTIVES.service}", severity!="none"}}'


class _OfPrometheus(dashboard.AnnotationQuery):
    """An annotation with what Prometheus's data source reads beside the expression."""

    title_format: str
    text_format: str

    def to_json(self) -> dict[str, object]:
        return {
            **super().to_json(),
            "step": "60s",
            "titleFormat": self.title_format,
            "textFormat": self.text_format,
        }


class Annotation(Builder[dashboard.AnnotationQuery]):
    """A builder of an annotation: a region for as long as `expression` has series. `text` has {{label}}s."""

    def __init__(self, name: str, color: str, expression: str, title: str, text: str) -> None:
        self._made = _OfPrometheus(name=name, datasource=DATASOURCE, icon_color=color, expr=expression)
        self._made.title_format, self._made.text_format = title, text

    def build(self) -> dashboard.AnnotationQuery:
        return self._made


def annotate(board: builders.Dashboard) -> builders.Dashboard:
    """Add the annotations that every dashboard has."""
    for one in (deploys(), alerts(), load_runs()):
        board.annotation(one)
    return board


def deploys() -> Annotation:
    """Mark versions for five minutes from when the first instance runs them."""
    running = f'count by (job, version) ({BUILD}{{job=~"$job"}}'
    return Annotation(
        "Deploys",
        "blue",
        f"{running}) unless {running} offset 5m)",
        "Deploy of {{version}}",
        "{{job}} runs {{version}} for the first time",
    )


def alerts() -> Annotation:
    """Mark alerts for as long as they fire."""
    return Annotation(
        "Alerts",
        "red",
        f"max by (alertname, severity, job, instance) ({FIRING})",
        "{{alertname}}",
        "{{severity}} {{job}} {{instance}}",
    )


def load_runs() -> Annotation:
    """Mark load tests for as long as their users run."""
    return Annotation(
        "Load runs",
        "purple",
        'max by (run, scenario) (loadtest_run_info{run=~".+"})',
        "Load test {{run}}",
        "scenario {{scenario}}",
    )
