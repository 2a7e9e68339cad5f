"""Rules as data: alerts, recorded series and their groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Record:
    """A recording rule. `name` is level:metric:operations."""

    name: str
    expr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    comment: str = ""


@dataclass(frozen=True)
class Alert:
    """An alerting rule. The panel that shows it names it, in monitoring/grafana/generator/."""

    name: str
    severity: str
    expr: str
    summary: str
    description: str
    """Holds the figure, `{{ $value | ... }}`."""
    wait: str = ""
    """`for`, such as 2m; empty to fire at once."""
    keep: str = ""
    """`keep_firing_for`: how long the alert fires after its condition has ended."""
    labels: Mapping[str, str] = field(default_factory=dict)
    comment: str = ""
    """Reason for the form of the expression; it stands above the rule."""


@dataclass(frozen=True)
class Group:
    """A group of rules, evaluated in their order every `interval` (empty: Prometheus's default)."""

    name: str
    rules: Sequence[Record | Alert]
    interval: str = ""
