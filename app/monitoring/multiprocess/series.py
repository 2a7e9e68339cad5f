"""The cached text of every family and series; a scrape renders only the groups that have changed.

Formats: Prometheus text 0.0.4 and OpenMetrics 1.0, which differ in headers, exemplars and the last line.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import NamedTuple

from prometheus_client.openmetrics.exposition import ALLOWUTF8, DOTS, UNDERSCORES, _escape
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from . import names
from .names import Claim, Labels

Form = tuple[bool, str]
"""True for OpenMetrics, and the escaping scheme."""
SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
    "summary": ("_count", "_sum"),
}
"""The ends of the names of the samples of each kind."""
# From this value on the library writes an exponent, as Go does.
EXPONENT_FROM = 1e6


def number(value: float) -> str:
    """Return a sample's value as the library formats it."""
    return repr(value) if 0.0 <= value < EXPONENT_FROM else str(floatToGoString(value))  # type: ignore[no-untyped-call]


def label_pairs(labels: Iterable[tuple[str, str]], scheme: str) -> list[str]:
    """Return `name="value"` for each label, sorted by name."""
    return [f'{names.label_name(name, scheme)}="{_quoted(value)}"' for name, value in sorted(labels)]


def _quoted(text: str) -> str:
    return str(_escape(text, ALLOWUTF8, lambda _rune, _index: True))


def line_start(sample: str, labels: Iterable[tuple[str, str]], scheme: str) -> str:
    """Return a line up to its value. A quoted name of a sample is inside the braces."""
    name, pairs = names.metric_name(sample, scheme), label_pairs(labels, scheme)
    if name.startswith('"'):
        return "{" + ",".join([name, *pairs]) + "} "
    return f"{name}{{{','.join(pairs)}}} " if pairs else f"{name} "


def exemplar_text(exemplar: Exemplar) -> str:
    """Return the text that follows a value with an exemplar in OpenMetrics, the same under every scheme."""
    text = ",".join(label_pairs(names.exemplar_labels(exemplar.labels).items(), UNDERSCORES))
    return f" # {{{text}}} {number(exemplar.value)} {exemplar.timestamp}"


@dataclass
class Numbers:
    """The values that one table's groups render, by slot: totals and the text of exemplars."""

    totals: list[float]
    exemplars: dict[int, str]


NO_EXEMPLARS: dict[int, str] = {}


class Group:
    """The lines of one label set: one for a counter, two for a summary, buckets, count and sum for a histogram.

    Rendered on demand after a change, and cached by format and escaping scheme.
    """

    def __init__(self, family: "Family", numbers: Numbers, labels: Labels) -> None:
        self._family = family
        self._numbers = numbers
        self._labels = labels
        self._texts: dict[Form, bytes] = {}
        family.admit(labels)

    def invalidate(self) -> None:
        """Discard the cached text: a value, an exemplar or the set of lines has changed."""
        self._texts = {}
        self._family.invalidate()

    def text(self, form: Form) -> bytes:
        """Return the lines."""
        known = self._texts.get(form)
        if known is None:
            openmetrics, scheme = form
            exemplars = self._numbers.exemplars if openmetrics else NO_EXEMPLARS
            known = self._texts[form] = self.render(self._numbers.totals, exemplars, scheme).encode()
        return known

    def render(self, totals: Sequence[float], exemplars: Mapping[int, str], scheme: str) -> str:
        """Render the lines; `exemplars` by slot."""
        raise NotImplementedError


class Plain(Group):
    """Samples that are rendered as they are stored: counters and summaries."""

    def __init__(self, family: "Family", numbers: Numbers, labels: Labels) -> None:
        super().__init__(family, numbers, labels)
        self._samples: list[tuple[str, int]] = []
        self._lines: dict[str, list[tuple[str, int]]] = {}

    def add(self, slot: int, sample: str) -> None:
        """Add a line."""
        self._samples.append((sample, slot))
        self._lines = {}

    def render(self, totals: Sequence[float], exemplars: Mapping[int, str], scheme: str) -> str:
        """Render one line a sample."""
        lines = self._lines.get(scheme)
        if lines is None:
            lines = [(line_start(sample, self._labels, scheme), slot) for sample, slot in self._samples]
            self._lines[scheme] = lines
        return "".join(f"{start}{number(totals[slot])}{exemplars.get(slot, '')}\n" for start, slot in lines)


class _Template(NamedTuple):
    """The text of a histogram's lines: without exemplars, with them, and of the sum up to its value."""

    plain: str
    with_exemplars: str
    sum_start: str


class Histogram(Group):
    """A histogram: buckets are stored separately and rendered cumulatively; the count is their sum."""

    def __init__(self, family: "Family", numbers: Numbers, labels: Labels) -> None:
        super().__init__(family, numbers, labels)
        self._buckets: list[tuple[float, int, str]] = []
        self._sum: int | None = None
        self._slots: list[int] = []
        self._templates: dict[str, _Template] = {}

    def add_bucket(self, slot: int, bound: str) -> None:
        """Add the bucket up to `bound`."""
        self._buckets.append((float(bound), slot, bound))
        self._buckets.sort()
        self._slots = [slot for _, slot, _ in self._buckets]
        self._templates = {}

    def add_sum(self, slot: int) -> None:
        """Add the sum of the observations."""
        self._sum = slot

    def _template(self, scheme: str) -> _Template:
        """Return the template whose one formatting call renders all buckets and the count."""
        found = self._templates.get(scheme)
        if found is None:
            name, labels = self._family.name, self._labels
            count, total = (line_start(f"{name}_{end}", labels, scheme) for end in ("count", "sum"))
            starts = [
                line_start(f"{name}_bucket", (*labels, ("le", bound)), scheme).replace("%", "%%")
                for _, _, bound in self._buckets
            ]
            last = f"{count.replace('%', '%%')}%s\n"
            found = _Template("%s\n".join(starts) + f"%s\n{last}", "%s%s\n".join(starts) + f"%s%s\n{last}", total)
            self._templates[scheme] = found
        return found

    def render(self, totals: Sequence[float], exemplars: Mapping[int, str], scheme: str) -> str:
        """Render the buckets in ascending order, count and sum."""
        text, template = "", self._template(scheme)
        if self._buckets:
            below = list(accumulate([totals[slot] for slot in self._slots]))
            write = repr if 0.0 <= below[-1] < EXPONENT_FROM else number
            if exemplars:
                behind = [exemplars.get(slot, "") for slot in self._slots]
                pairs = zip(map(write, below), behind, strict=True)
                text = template.with_exemplars % (*chain.from_iterable(pairs), write(below[-1]))
            else:
                text = template.plain % (*map(write, below), write(below[-1]))
        if self._sum is not None:
            text += f"{template.sum_start}{number(totals[self._sum])}\n"
        return text


class Family:
    """All series of one metric. `kind` is counter, histogram, summary or gauge."""

    def __init__(self, name: str, kind: str, documentation: str) -> None:
        self.name = name
        self.kind = kind
        self.claim: Claim = names.claim(name, kind, [name + suffix for suffix in SUFFIXES[kind]])
        self.help = documentation
        self.is_legacy = names.is_legacy(name)
        """True if no name is changed by a scheme other than `dots`."""
        self._texts: dict[Form, bytes] = {}
        self._headers: dict[Form, bytes] = {}
        self._hidden: dict[str, int] = {}
        self.groups: dict[Labels, Group] = {}
        self.gauge_values: dict[Labels, float] = {}
        """The values of a gauge; gauges have no groups."""
        self.gauge_lines = b""
        """The lines of a gauge, with names escaped with underscores."""

    def admit(self, labels: Labels) -> None:
        """Note the names of labels of the family."""
        if self.is_legacy and not names.are_legacy(labels):
            self.is_legacy = False
            self.invalidate()

    def invalidate(self) -> None:
        """Discard the cached text: a group or the lines of a gauge have changed."""
        self._texts = {}

    def text(self, *, openmetrics: bool, scheme: str = UNDERSCORES) -> bytes:
        """Return header and lines; empty without lines."""
        if self.is_legacy and scheme != DOTS:
            scheme = UNDERSCORES  # one cached text for all schemes
        form = (openmetrics, scheme)
        known = self._texts.get(form)
        if known is None:
            body = self._gauge_body(scheme) if self.kind == "gauge" else self._body(form)
            known = self._texts[form] = (self._headers.get(form) or self._make_header(form)) + body if body else b""
        return known

    def hidden(self, scheme: str) -> int:
        """Return the number of label sets that the last text under `scheme` leaves out, as they equal others."""
        return 0 if self.is_legacy else self._hidden.get(scheme, 0)

    def _exposed(self, label_sets: Mapping[Labels, object], scheme: str) -> set[Labels]:
        exposed = names.exposable(self.name, label_sets, scheme)
        self._hidden[scheme] = len(label_sets) - len(exposed)
        return exposed

    def _body(self, form: Form) -> bytes:
        if self.is_legacy:
            return b"".join([group.text(form) for group in self.groups.values()])
        exposed = self._exposed(self.groups, form[1])
        return b"".join([group.text(form) for labels, group in self.groups.items() if labels in exposed])

    def _gauge_body(self, scheme: str) -> bytes:
        if self.is_legacy and scheme == UNDERSCORES:
            return self.gauge_lines
        exposed = self._exposed(self.gauge_values, scheme)
        lines = [
            f"{line_start(self.name, labels, scheme)}{number(value)}\n"
            for labels, value in self.gauge_values.items()
            if labels in exposed
        ]
        return "".join(lines).encode()

    def _make_header(self, form: Form) -> bytes:
        """Return the lines before the samples. Store them."""
        openmetrics, scheme = form
        text = self.help
        end = "_total" if self.kind == "counter" and not openmetrics else ""
        shown = names.metric_name(f"{self.name}{end}", scheme)
        text = _quoted(text) if openmetrics else text.replace("\\", r"\\").replace("\n", r"\n")
        made = self._headers[form] = f"# HELP {shown} {text}\n# TYPE {shown} {self.kind}\n".encode()
        return made
