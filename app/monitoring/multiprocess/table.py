"""Sums over processes: one slot for each series of counters, of histograms, or of summaries.

Each file is a column of values. One call reorders a column to the slots and another adds up all columns, which costs
less than tracking the values that have changed. Sums are rounded once (math.fsum), so a total does not depend on the
order in which files appear, are folded and removed; docs/decisions/0007-archive.md gives the limits of that.
"""

from collections.abc import Iterable, Sequence
from itertools import compress
from math import fsum, inf
from operator import is_, itemgetter, ne

from prometheus_client.utils import floatToGoString

from .entries import BadEntryError, LeftOut, check_sample, conflict
from .exemplars import Seen
from .labels import OVERFLOW, is_forbidden_label
from .layout import Key, encode_key, parse
from .names import Labels
from .series import (
    Family,
    Group,
    Histogram,
    Numbers,
    Plain,
    exemplar_text,
)

# Slots that are never exposed; the first is that of series with a forbidden label and of entries that are left out.
# There are two, because itemgetter with one position does not return a tuple.
HIDDEN, FIRST = 0, 2
Values = tuple[float, ...]


class Column:
    """The values of one file in the order of the slots. `slots` is the slot of each value, and only grows."""

    def __init__(self, slots: Iterable[int] = ()) -> None:
        self.slots = list(slots)
        self.aligned: Values = ()
        self._values: Sequence[float] = ()
        self._order: itemgetter[Values] | None = None
        self._shape = (0, 0)

    def align(self, values: Sequence[float], width: int) -> None:
        """Reorder `values`, one for each of `slots`, to `width` slots."""
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
        sums[HIDDEN] = 0.0
        self.aligned = tuple(sums)

    def _arrange(self, width: int) -> None:
        """Build the itemgetter that reorders values to the slots. There is none if several values share a slot."""
        self._shape, self._order = (len(self.slots), width), None
        shown = [slot for slot in self.slots if slot != HIDDEN]
        if len(set(shown)) == len(shown):
            positions = [len(self.slots)] * width
            for position, slot in enumerate(self.slots):
                positions[slot] = position
            positions[HIDDEN] = len(self.slots)
            self._order = itemgetter(*positions)


class Table:
    """The slots of one kind of metric, their totals, and the families that render them.

    A metric has at most `max_series` label sets.
    """

    def __init__(self, kind: str, families: dict[str, Family], max_series: int, left_out: LeftOut) -> None:
        self.kind = kind
        self.left_out = left_out
        self.families = families
        self.numbers = Numbers([0.0] * FIRST, {})
        self.refused: dict[str, int] = {}
        """Number of label sets past the limit, by metric."""
        self.names: list[bytes] = [b""] * FIRST
        """The key of each slot."""
        self._max_series = max_series
        self._groups: list[Group | None] = [None] * FIRST
        self._by_key: dict[bytes, int] = {}
        self._by_series: dict[tuple[str, str | None, Labels], int] = {}
        self._before: list[Values] = []
        self._exemplars: dict[int, float] = {}

    def slots(self, keys: Iterable[bytes]) -> list[int]:
        """Return the slot of each key of a file, adding new ones; HIDDEN for a key that is left out."""
        found = []
        for key in keys:
            slot = self._by_key.get(key)
            if slot is None:
                try:
                    slot = self._add_slot(key)
                except BadEntryError as error:
                    self.left_out.add(error)
                    slot = HIDDEN
            found.append(slot)
        return found

    def archive_entries(self, column: Column, values: Sequence[float]) -> tuple[list[bytes], list[float]]:
        """Return the keys and values of a file for the archive, limited to `max_series` label sets per metric."""
        column.align(values, self.width)
        slots = [slot for slot in dict.fromkeys(column.slots) if slot != HIDDEN]
        return [self.names[slot] for slot in slots], [column.aligned[slot] for slot in slots]

    def archive_slot(self, key: bytes) -> int:
        """Return the slot of a key of the archive; HIDDEN if it is left out: live processes use its name otherwise."""
        slot = self._by_key.get(key)
        if slot is not None:
            return slot
        try:
            return self._add_slot(key)
        except BadEntryError as error:
            self.left_out.add_archived(error, key)
            return HIDDEN

    def _add_slot(self, raw: bytes) -> int:
        """Return the slot of a new key. Its series may have one already: by another help text, or past the limit."""
        key = parse(raw)
        check_sample(self.kind, key.metric, key.sample, key.labels)
        if any(is_forbidden_label(name) for name, _ in key.labels):
            return HIDDEN
        family = self._family(key)
        bound, own = None, key.labels
        if self.kind == "histogram" and key.sample.endswith("_bucket"):
            bound = str(floatToGoString(float(dict(own)["le"])))  # type: ignore[no-untyped-call]
            own = tuple(pair for pair in own if pair[0] != "le")
        labels = self._limit(family, key.sample, own)
        slot = self._by_series.get((key.sample, bound, labels))
        if slot is None:
            slot = self._by_series[key.sample, bound, labels] = len(self.numbers.totals)
            self.numbers.totals.append(0.0)
            self._groups.append(self._add_sample(family, key.sample, labels, slot, bound))
            ends = () if bound is None else (("le", bound),)
            self.names.append(raw if labels == own else encode_key(key, (*labels, *ends)))
        if labels == own:
            # Keys past the limit are not cached: their number is unbounded.
            self._by_key[raw] = slot
        return slot

    def _family(self, key: Key) -> Family:
        family = self.families.get(key.metric)
        if family is None:
            family = self.families[key.metric] = Family(key.metric, self.kind, key.help)
        elif family.kind != self.kind:
            raise conflict(key.metric, self.kind, family.kind)
        return family

    def _limit(self, family: Family, sample: str, labels: Labels) -> Labels:
        """Return `labels`, or those of the overflow series once the metric has `max_series` label sets."""
        overflow = tuple((name, OVERFLOW) for name, _ in labels)
        if not labels or labels == overflow or labels in family.groups:
            return labels
        if len(family.groups) - (overflow in family.groups) < self._max_series:
            return labels
        if sample.endswith(("_total", "_sum")):  # each label set has one of them
            self.refused[family.name] = self.refused.get(family.name, 0) + 1
        return overflow

    def _add_sample(self, family: Family, sample: str, labels: Labels, slot: int, bound: str | None) -> Group:
        """Add a sample to the group of `labels`, creating it if needed. Return the group."""
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
                group = family.groups[labels] = Plain(family, self.numbers, labels)
            assert isinstance(group, Plain)  # noqa: S101
            group.add(slot, sample)
        group.invalidate()
        return group

    @property
    def width(self) -> int:
        """Number of slots."""
        return len(self.numbers.totals)

    def add_up(self, columns: Sequence[Column]) -> None:
        """Update totals from `columns`, each aligned to all slots, and invalidate the texts that change."""
        aligned = [column.aligned for column in columns]
        if len(aligned) == len(self._before) and all(map(is_, aligned, self._before)):
            return
        self._before = aligned
        before = self.numbers.totals[:]
        try:
            self.numbers.totals[:] = map(fsum, zip(*aligned, strict=True))
        except (OverflowError, ValueError):
            self.numbers.totals[:] = map(_total, zip(*aligned, strict=True))
        self._invalidate(compress(range(len(before)), map(ne, self.numbers.totals, before)))

    def store_exemplars(self, exemplars: Iterable[Seen]) -> list[Seen]:
        """Store the exemplars that are newer than the stored ones. Return those whose series is not known yet."""
        unknown, newer = [], []
        for seen in exemplars:
            slot = self._by_key.get(seen.key)
            if slot is None:
                unknown.append(seen)
            elif slot != HIDDEN and seen.order > self._exemplars.get(slot, -inf):
                self._exemplars[slot] = seen.order
                self.numbers.exemplars[slot] = exemplar_text(seen.exemplar)
                newer.append(slot)
        self._invalidate(newer)
        return unknown

    def _invalidate(self, slots: Iterable[int]) -> None:
        """Invalidate the texts of these slots."""
        for group in {self._groups[slot] for slot in slots}:
            if group is not None:
                group.invalidate()


def _total(values: Sequence[float]) -> float:
    """Return the exact sum, or the float sum in case of infinities or overflow."""
    try:
        return fsum(values)
    except (OverflowError, ValueError):
        return sum(values)
