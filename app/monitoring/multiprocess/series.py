"""The text of every family and series, made once; on a scrape only the numbers that have changed are written anew.

Formats: Prometheus text 0.0.4 and OpenMetrics 1.0, which differ in their headers, in exemplars and in the last line.
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
# From here on the library, as Go, writes an exponent.
EXPONENT_FROM = 1e6


def number(value: float) -> str:
    """A sample's value as the library writes it."""
    return repr(value) if 0.0 <= value < EXPONENT_FROM else str(floatToGoString(value))  # type: ignore[no-untyped-call]


def label_text(labels: Iterable[tuple[str, str]]) -> str:
    """`{name="value",...}`, sorted by name; nothing without labels."""
    pairs = [f'{escape_label_name(name, UNDERSCORES)}="{_quoted(value)}"' for name, value in sorted(labels)]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _quoted(text: str) -> str:
    return str(_escape(text, ALLOWUTF8, lambda _rune, _place: True))


def line_start(sample: str, labels: Iterable[tuple[str, str]]) -> str:
    """A line up to its value."""
    return f"{escape_metric_name(sample, UNDERSCORES)}{label_text(labels)} "


def exemplar_text(exemplar: Exemplar) -> str:
    """Return the exemplar's text after a value in OpenMetrics."""
    labels = label_text(exemplar.labels.items()) or "{}"
    return f" # {labels} {number(exemplar.value)} {exemplar.timestamp}"


@dataclass
class Numbers:
    """The output of one table's groups by slot: totals, and the text of exemplars."""

    totals: list[float]
    exemplars: dict[int, str]


NO_EXEMPLARS: dict[int, str] = {}


class Group:
    """The lines of one label set: one for a counter, two for a summary, buckets, count and sum for a histogram.

    They are written when they are asked for after a change, in the format that is asked for.
    """

    def __init__(self, family: "Family", numbers: Numbers) -> None:
        self._family = family
        self._numbers = numbers
        self._texts: list[bytes | None] = [None, None]

    def changed(self) -> None:
        """A number or an exemplar has changed, or there is a new line."""
        self._texts = [None, None]
        self._family.changed()

    def text(self, *, openmetrics: bool) -> bytes:
        """Its lines."""
        known = self._texts[openmetrics]
        if known is None:
            exemplars = self._numbers.exemplars if openmetrics else NO_EXEMPLARS
            known = self._texts[openmetrics] = self.render(self._numbers.totals, exemplars).encode()
        return known

    def render(self, totals: Sequence[float], exemplars: Mapping[int, str]) -> str:
        """Its lines, written anew; `exemplars` by slot."""
        raise NotImplementedError


class Plain(Group):
    """Samples that are written as they are."""

    def __init__(self, family: "Family", numbers: Numbers) -> None:
        super().__init__(family, numbers)
        self._lines: list[tuple[str, int]] = []

    def add(self, slot: int, start: str) -> None:
        """One more line."""
        self._lines.append((start, slot))

    def render(self, totals: Sequence[float], exemplars: Mapping[int, str]) -> str:
        """One line a sample."""
        return "".join(f"{start}{number(totals[slot])}{exemplars.get(slot, '')}\n" for start, slot in self._lines)


class Histogram(Group):
    """Buckets are stored one by one and written cumulative; the count is their sum."""

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
        """The bucket up to `bound`."""
        start = line_start(f"{self._name}_bucket", (*self._labels, ("le", bound)))
        self._buckets.append((float(bound), slot, start))
        self._buckets.sort()
        self._slots = [slot for _, slot, _ in self._buckets]
        # The numbers of all buckets, then the count, are written by one call.
        starts = [start.replace("%", "%%") for _, _, start in self._buckets]
        count = f"{self._count.replace('%', '%%')}%s\n"
        self._form = "%s\n".join(starts) + f"%s\n{count}"
        self._form_with_exemplars = "%s%s\n".join(starts) + f"%s%s\n{count}"

    def add_sum(self, slot: int) -> None:
        """The sum of what was observed."""
        self._sum = slot, line_start(f"{self._name}_sum", self._labels)

    def render(self, totals: Sequence[float], exemplars: Mapping[int, str]) -> str:
        """Buckets from the lowest, count, sum."""
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
        """The lines of a gauge, which has no groups."""

    def changed(self) -> None:
        """A group has changed, or the lines of a gauge."""
        self._texts = [None, None]

    def text(self, *, openmetrics: bool) -> bytes:
        """Header and lines; nothing where there are no lines."""
        known = self._texts[openmetrics]
        if known is None:
            body = self.gauge_lines
            if self.kind != "gauge":
                body = b"".join([group.text(openmetrics=openmetrics) for group in self.groups.values()])
            known = self._texts[openmetrics] = self._headers[openmetrics] + body if body else b""
        return known
