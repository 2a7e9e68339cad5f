"""The cached text of every family and series; a scrape renders only the groups that have changed.

Formats: Prometheus text 0.0.4 and OpenMetrics 1.0, which differ in headers, exemplars and the last line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

from prometheus_client.openmetrics.exposition import (
    ALLOWUTF8,
    UNDERSCORES,
    _escape,
    escape_label_name,
    escape_metric_name,
)
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

Labels = tuple[tuple[str, str], ...]
# From this value on the library writes an exponent, as Go does.
EXPONENT_FROM = 1e6


def number(value: float) -> str:
    """Return a sample's value as the library formats it."""
    return repr(value) if 0.0 <= value < EXPONENT_FROM else str(floatToGoString(value))  # type: ignore[no-untyped-call]


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """Return `{name="value",...}`, sorted by name; empty without labels."""
    pairs = [f'{escape_label_name(name, UNDERSCORES)}="{_quoted(value)}"' for name, value in sorted(labels)]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _quoted(text: str) -> str:
    return str(_escape(text, ALLOWUTF8, lambda _rune, _index: True))


def line_start(sample: str, labels: Iterable[tuple[str, str]]) -> str:
    """Return a line up to its value."""
    return f"{escape_metric_name(sample, UNDERSCORES)}{label_text(labels)} "


def exemplar_text(exemplar: Exemplar) -> str:
    """Return the text that follows a value with an exemplar in OpenMetrics."""
    labels = label_text(exemplar.labels.items()) or "{}"
    return f" # {labels} {number(exemplar.value)} {exemplar.timestamp}"


@dataclass
class Numbers:
    """The values that one table's groups render, by slot: totals and the text of exemplars."""

    totals: list[float]
    exemplars: dict[int, str]


NO_EXEMPLARS: dict[int, str] = {}


class Group:
    """The lines of one label set: one for a counter, two for a summary, buckets, count and sum for a histogram.

    Rendered on demand after a change, and cached by format.
    """

    def __init__(self, family: "Family", numbers: Numbers) -> None:
        self._family = family
        self._numbers = numbers
        self._texts: list[bytes | None] = [None, None]

    def invalidate(self) -> None:
        """Discard the cached text: a value, an exemplar or the set of lines has changed."""
        self._texts = [None, None]
        self._family.invalidate()

    def text(self, *, openmetrics: bool) -> bytes:
        """Return the lines."""
        known = self._texts[openmetrics]
        if known is None:
            exemplars = self._numbers.exemplars if openmetrics else NO_EXEMPLARS
            known = self._texts[openmetrics] = self.render(self._numbers.totals, exemplars).encode()
        return known

    def render(self, totals: Sequence[float], exemplars: Mapping[int, str]) -> str:
        """Render the lines; `exemplars` by slot."""
        raise NotImplementedError


class Plain(Group):
    """Samples that are rendered as they are stored: counters and summaries."""

    def __init__(self, family: "Family", numbers: Numbers) -> None:
        super().__init__(family, numbers)
        self._lines: list[tuple[str, int]] = []

    def add(self, slot: int, start: str) -> None:
        """Add a line."""
        self._lines.append((start, slot))

    def render(self, totals: Sequence[float], exemplars: Mapping[int, str]) -> str:
        """Render one line a sample."""
        return "".join(f"{start}{number(totals[slot])}{exemplars.get(slot, '')}\n" for start, slot in self._lines)


class Histogram(Group):
    """A histogram: buckets are stored separately and rendered cumulatively; the count is their sum."""

    def __init__(self, family: "Family", numbers: Numbers, labels: Labels) -> None:
        super().__init__(family, numbers)
        name = self._name = family.name
        self._labels = labels
        self._buckets: list[tuple[float, int, str]] = []
        self._sum: tuple[int, str] | None = None
        self._count = line_start(f"{name}_count", labels)
        self._form = self._form_with_exemplars = ""
        self._slots: list[int] = []

    def add_bucket(self, slot: int, bound: str) -> None:
        """Add the bucket up to `bound`."""
        start = line_start(f"{self._name}_bucket", (*self._labels, ("le", bound)))
        self._buckets.append((float(bound), slot, start))
        self._buckets.sort()
        self._slots = [slot for _, slot, _ in self._buckets]
        # One formatting call renders all buckets and the count.
        starts = [start.replace("%", "%%") for _, _, start in self._buckets]
        count = f"{self._count.replace('%', '%%')}%s\n"
        self._form = "%s\n".join(starts) + f"%s\n{count}"
        self._form_with_exemplars = "%s%s\n".join(starts) + f"%s%s\n{count}"

    def add_sum(self, slot: int) -> None:
        """Add the sum of the observations."""
        self._sum = slot, line_start(f"{self._name}_sum", self._labels)

    def render(self, totals: Sequence[float], exemplars: Mapping[int, str]) -> str:
        """Render the buckets in ascending order, count and sum."""
        text = ""
        if self._buckets:
            below = list(accumulate([totals[slot] for slot in self._slots]))
            write = repr if 0.0 <= below[-1] < EXPONENT_FROM else number
            if exemplars:
                behind = [exemplars.get(slot, "") for slot in self._slots]
                pairs = zip(map(write, below), behind, strict=True)
                text = self._form_with_exemplars % (*chain.from_iterable(pairs), write(below[-1]))
            else:
                text = self._form % (*map(write, below), write(below[-1]))
        if self._sum is not None:
            slot, start = self._sum
            text += f"{start}{number(totals[slot])}\n"
        return text


class Family:
    """All series of one metric. `kind` is counter, histogram, summary or gauge."""

    def __init__(self, name: str, kind: str, documentation: str) -> None:
        self.name = name
        self.kind = kind
        shown = escape_metric_name(f"{name}_total" if kind == "counter" else name, UNDERSCORES)
        plain = documentation.replace("\\", r"\\").replace("\n", r"\n")
        header = f"# HELP {shown} {plain}\n# TYPE {shown} {kind}\n".encode()
        shown = escape_metric_name(name, UNDERSCORES)
        open_header = f"# HELP {shown} {_quoted(documentation)}\n# TYPE {shown} {kind}\n".encode()
        self._headers = header, open_header
        self._texts: list[bytes | None] = [None, None]
        self.groups: dict[Labels, Group] = {}
        self.gauge_lines = b""
        """The lines of a gauge; gauges have no groups."""

    def invalidate(self) -> None:
        """Discard the cached text: a group or the lines of a gauge have changed."""
        self._texts = [None, None]

    def text(self, *, openmetrics: bool) -> bytes:
        """Return header and lines; empty without lines."""
        known = self._texts[openmetrics]
        if known is None:
            body = self.gauge_lines
            if self.kind != "gauge":
                body = b"".join([group.text(openmetrics=openmetrics) for group in self.groups.values()])
            known = self._texts[openmetrics] = self._headers[openmetrics] + body if body else b""
        return known
