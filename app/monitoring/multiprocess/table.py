"""Sums over processes: one slot for each series of counters, of histograms, or of summaries.

Each file is a column of numbers, brought into the slots' order by one call; the columns are added up by another: to
find out which numbers have changed would cost more. Sums are rounded once (math.fsum), so a total does not depend on
the order in which files come, are folded and go; docs/decisions/0007-archive.md says where that ends.
"""

from collections.abc import Iterable, Sequence
from itertools import compress
from math import fsum
from operator import is_, itemgetter, ne

from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from .labels import OVERFLOW, is_forbidden_label
from .layout import BadFileError, Key, parse, written
from .series import (
    Family,
    Group,
    Histogram,
    Labels,
    Numbers,
    Plain,
    exemplar_text,
    line_start,
)

# Slots that are never shown; what must not be exposed is added up in the first. There are two of them, because
# itemgetter of one position gives no tuple.
HIDDEN, FIRST = 0, 2
SAMPLES = {"counter": ("_total",), "histogram": ("_bucket", "_sum"), "summary": ("_count", "_sum")}
Values = tuple[float, ...]


class Column:
    """The numbers of one file in the order of the slots. `slots` has one for each of them, and only grows."""

    def __init__(self, slots: Iterable[int] = ()) -> None:
        self.slots = list(slots)
        self.aligned: Values = ()
        self._values: Sequence[float] = ()
        self._order: itemgetter[Values] | None = None
        self._shape = (0, 0)

    def align(self, values: Sequence[float], width: int) -> None:
        """Take `values`, one for each of `slots`, as `width` slots."""
        if self._shape != (len(values), width):
            self._arrange(width)
        elif values is self._values:
            return
        self._values = values
        if self._order is not None:
            self.aligned = self._order((*values, 0.0))
            return
        sums = [0.0] * width
        for slot, value in zip(self.slots, values, strict=True):
            sums[slot] += value
        self.aligned = tuple(sums)

    def _arrange(self, width: int) -> None:
        """Find the call that brings values into the slots' order; there is none where several go into one slot."""
        self._shape, self._order = (len(self.slots), width), None
        if len(set(self.slots)) == len(self.slots):
            positions = [len(self.slots)] * width
            for position, slot in enumerate(self.slots):
                positions[slot] = position
            self._order = itemgetter(*positions)


class Table:
    """The slots of one kind of metric, their totals, and the families that show them.

    A metric has at most `max_series` label sets.
    """

    def __init__(self, kind: str, families: dict[str, Family], max_series: int) -> None:
        self.kind = kind
        self.families = families
        self.numbers = Numbers([0.0] * FIRST, {})
        self.refused: dict[str, int] = {}
        """Label sets that found no place, by metric."""
        self._names: list[bytes] = [b""] * FIRST
        self._max_series = max_series
        self._groups: list[Group | None] = [None] * FIRST
        self._by_key: dict[bytes, int] = {}
        self._by_series: dict[tuple[str, str | None, Labels], int] = {}
        self._before: list[Values] = []
        self._exemplars: dict[int, Exemplar] = {}

    def slots(self, keys: Iterable[bytes]) -> list[int]:
        """The slot of each key of a file; new ones are made. Raises BadFileError."""
        found = []
        for key in keys:
            slot = self._by_key.get(key)
            found.append(self._place(key) if slot is None else slot)
        return found

    def remains(self, column: Column, values: Sequence[float]) -> tuple[list[bytes], list[float]]:
        """Return the keys and numbers of a file that go to the archive, with no more label sets than are shown."""
        column.align(values, self.width)
        slots = [slot for slot in dict.fromkeys(column.slots) if slot != HIDDEN]
        return [self._names[slot] for slot in slots], [column.aligned[slot] for slot in slots]

    def slot_or_hidden(self, key: bytes) -> int:
        """The slot of a key of the archive: nothing of that may fail, whatever the living have made of a name since."""
        try:
            return self.slots([key])[0]
        except BadFileError:
            return HIDDEN

    def _place(self, raw: bytes) -> int:
        """The slot of a series, which may have one by another key: with another help text, or over the limit."""
        key = parse(raw)
        if any(is_forbidden_label(name) for name, _ in key.labels):
            return HIDDEN
        family = self._family(key)
        bound, own = None, key.labels
        if self.kind == "histogram" and key.sample.endswith("_bucket"):
            bound = _canonical_bound(dict(own).get("le", ""))
            own = tuple(pair for pair in own if pair[0] != "le")
        labels = self._admitted(family, key.sample, own)
        slot = self._by_series.get((key.sample, bound, labels))
        if slot is None:
            slot = self._by_series[key.sample, bound, labels] = len(self.numbers.totals)
            self.numbers.totals.append(0.0)
            self._groups.append(self._grown(family, key.sample, labels, slot, bound))
            ends = () if bound is None else (("le", bound),)
            self._names.append(raw if labels == own else written(key, (*labels, *ends)))
        if labels == own:
            # What is over the limit is not kept in mind: there may be no end of it.
            self._by_key[raw] = slot
        return slot

    def _family(self, key: Key) -> Family:
        if key.sample.removeprefix(key.metric) not in SAMPLES[self.kind]:
            raise BadFileError(f"{key.sample} is no sample of the {self.kind} {key.metric}")
        family = self.families.get(key.metric)
        if family is None:
            family = self.families[key.metric] = Family(key.metric, self.kind, key.help)
        elif family.kind != self.kind:
            raise BadFileError(f"{key.metric} is a {family.kind} elsewhere and a {self.kind} here")
        return family

    def _admitted(self, family: Family, sample: str, labels: Labels) -> Labels:
        """`labels`, or those of the overflow series where the metric has as many label sets as it may have."""
        overflow = tuple((name, OVERFLOW) for name, _ in labels)
        if not labels or labels == overflow or labels in family.groups:
            return labels
        if len(family.groups) - (overflow in family.groups) < self._max_series:
            return labels
        if sample.endswith(("_total", "_sum")):  # each label set has one of them
            self.refused[family.name] = self.refused.get(family.name, 0) + 1
        return overflow

    def _grown(self, family: Family, sample: str, labels: Labels, slot: int, bound: str | None) -> Group:
        """The group of `labels` with one sample more."""
        group = family.groups.get(labels)
        if family.kind == "histogram":
            if group is None:
                group = family.groups[labels] = Histogram(family, self.numbers, labels)
            assert isinstance(group, Histogram)  # noqa: S101 -- by its family's kind
            if bound is not None:
                group.add_bucket(slot, bound)
            else:
                group.add_sum(slot)
        else:
            if group is None:
                group = family.groups[labels] = Plain(family, self.numbers)
            assert isinstance(group, Plain)  # noqa: S101
            group.add(slot, line_start(sample, labels))
        group.changed()
        return group

    @property
    def width(self) -> int:
        """Number of slots."""
        return len(self.numbers.totals)

    def add_up(self, columns: Sequence[Column]) -> None:
        """Bring totals and texts up to date with these columns, each of which is aligned to all slots."""
        aligned = [column.aligned for column in columns]
        if len(aligned) == len(self._before) and all(map(is_, aligned, self._before)):
            return
        self._before = aligned
        before = self.numbers.totals[:]
        try:
            self.numbers.totals[:] = map(fsum, zip(*aligned, strict=True))
        except (OverflowError, ValueError):
            self.numbers.totals[:] = map(_total, zip(*aligned, strict=True))
        self._renew(compress(range(len(before)), map(ne, self.numbers.totals, before)))

    def offer(self, exemplars: Iterable[tuple[bytes, Exemplar]]) -> list[tuple[bytes, Exemplar]]:
        """Show those that are newer than what is shown; returns those whose series is not known yet."""
        unknown, newer = [], []
        for key, exemplar in exemplars:
            slot = self._by_key.get(key)
            if slot is None:
                unknown.append((key, exemplar))
            elif slot != HIDDEN and is_newer(exemplar, self._exemplars.get(slot)):
                self._exemplars[slot] = exemplar
                self.numbers.exemplars[slot] = exemplar_text(exemplar)
                newer.append(slot)
        self._renew(newer)
        return unknown

    def _renew(self, slots: Iterable[int]) -> None:
        """Have the lines of these slots written anew."""
        for group in {self._groups[slot] for slot in slots}:
            if group is not None:
                group.changed()


def is_newer(one: Exemplar, other: Exemplar | None) -> bool:
    """Return True if `one` replaces `other`."""
    return other is None or float(one.timestamp or 0) > float(other.timestamp or 0)


def _total(values: Sequence[float]) -> float:
    """The exact sum; what infinities and overflow make of it where there are any."""
    try:
        return fsum(values)
    except (OverflowError, ValueError):
        return sum(values)


def _canonical_bound(bound: str) -> str:
    try:
        return str(floatToGoString(float(bound)))  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise BadFileError(f"le={bound!r} is no boundary") from error
