"""Gauges of several processes, merged by mode as prometheus-client does.

all          each process's value with its `pid`: live processes and the last dead ones
min max sum  over all processes, live and dead
mostrecent   the value that was written last (clock.py)
live...      the same over live processes only
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from prometheus_client.openmetrics.exposition import UNDERSCORES

from .entries import BadEntryError, LeftOut, check_sample, conflict
from .labels import OVERFLOW, is_forbidden_label
from .layout import Key, encode_key, parse
from .names import Labels
from .series import Family, line_start, number

MODES = frozenset(f"{live}{mode}" for live in ("", "live") for mode in ("all", "min", "max", "sum", "mostrecent"))
Entry = tuple[float, float]
"""A value and its timestamp."""


@dataclass(eq=False)
class Readings:
    """The gauges of one file or of the archive: mode, `pid` label, an entry for each key; None if left out."""

    mode: str
    pid: str
    keys: Sequence[Key | None]
    entries: Sequence[Entry]


@dataclass
class _Merged:
    """One gauge while it is being merged."""

    entries: dict[Labels, Entry] = field(default_factory=dict)
    refused: int = 0


def _without_pid(key: Key) -> Key:
    """Remove a metric's own `pid` label. The library's replaces it too: a duplicate label would fail the scrape."""
    labels = tuple(pair for pair in key.labels if pair[0] != "pid")
    return key if labels == key.labels else key._replace(labels=labels)


def _overflow(labels: Labels) -> Labels:
    return tuple((name, OVERFLOW) for name, _ in labels)


def combine(mode: str, one: Entry, other: Entry) -> Entry:
    """Merge two processes' readings of one series; `one` was read first. Not for mode `all`.

    The minimum and the maximum are of the numbers: NaN, which compares with none, gives way in either order.
    """
    mode = mode.removeprefix("live")
    if mode == "min":
        return other if other[0] < one[0] or math.isnan(one[0]) else one
    if mode == "max":
        return other if other[0] > one[0] or math.isnan(one[0]) else one
    if mode == "sum":
        return one[0] + other[0], 0.0
    return other if other[1] > one[1] else one


class Gauges:
    """The gauges of a directory, merged into families."""

    def __init__(self, families: dict[str, Family], max_series: int, left_out: LeftOut) -> None:
        self.left_out = left_out
        self.refused: dict[str, int] = {}
        """Label sets over the limit when the metric was last merged, by metric."""
        self.archived: dict[str, set[Labels]] = {}
        """Label sets in the archive, by metric."""
        self._families = families
        self._max_series = max_series
        self._starts: dict[tuple[str, Labels], str] = {}
        self._before: list[Readings] = []
        self._merged: dict[str, _Merged] = {}

    def keys(self, raw: Iterable[bytes]) -> list[Key | None]:
        """Parse the keys of a file; None for one that is left out."""
        found: list[Key | None] = []
        for one in raw:
            try:
                found.append(self.key(one))
            except BadEntryError as error:
                self.left_out.add(error)
                found.append(None)
        return found

    def key(self, raw: bytes) -> Key:
        """Parse a key. Raise BadEntryError if it is invalid, or another kind uses its name."""
        key = _without_pid(parse(raw))
        check_sample("gauge", key.metric, key.sample, key.labels)
        family = self._families.get(key.metric)
        if family is None:
            self._families[key.metric] = Family(key.metric, "gauge", key.help)
        elif family.kind != "gauge":
            raise conflict(key.metric, "gauge", family.kind)
        return key

    def merge(self, readings: list[Readings]) -> None:
        """Update the lines of every gauge."""
        if readings == self._before:  # Readings compare by identity
            return
        self._before = readings
        merged = self._merged = {}
        for reading in readings:
            for key, entry in zip(reading.keys, reading.entries, strict=True):
                if key is not None:
                    self._add(merged, reading, key, entry)
        # Process ids change: only the texts in use are cached.
        known, self._starts = self._starts, {}
        for name, family in self._families.items():
            if family.kind == "gauge":
                gauge = merged.get(name, _Merged())
                lines = self._lines(family, gauge, known).encode()
                if lines != family.gauge_lines or not family.is_legacy:
                    family.gauge_lines = lines
                    family.invalidate()
        for name, gauge in merged.items():
            self.refused[name] = gauge.refused

    def merged(self) -> dict[str, tuple[str, dict[Labels, float]]]:
        """Return help and values by label set of each gauge that has a value, by name."""
        return {
            name: (self._families[name].help, {labels: value for labels, (value, _) in gauge.entries.items()})
            for name, gauge in self._merged.items()
            if gauge.entries
        }

    def archive_keys(self, raw: Iterable[bytes], keys: Iterable[Key]) -> list[bytes]:
        """Return the keys that a file's gauges have in the archive, limited to `max_series` label sets per metric."""
        found = []
        for one, key in zip(raw, keys, strict=True):
            known = self.archived.setdefault(key.metric, set())
            if not key.labels or key.labels in known or len(known) < self._max_series:
                known.add(key.labels)
                found.append(one)
            else:
                found.append(encode_key(key, _overflow(key.labels)))
        return found

    def _add(self, merged: dict[str, _Merged], reading: Readings, key: Key, entry: Entry) -> None:
        if any(is_forbidden_label(name) for name, _ in key.labels):
            return
        gauge = merged.setdefault(key.metric, _Merged())
        labels = self._limit(gauge, key.labels)
        if reading.mode.endswith("all"):
            gauge.entries[(*labels, ("pid", reading.pid))] = entry
        elif labels in gauge.entries:
            gauge.entries[labels] = combine(reading.mode, gauge.entries[labels], entry)
        elif not reading.mode.endswith("mostrecent") or entry[1] > 0:
            # The library omits a most recent value that was never set.
            gauge.entries[labels] = entry

    def count(self, name: str) -> int:
        """Return the number of series of a gauge at the last reading."""
        return self._families[name].gauge_lines.count(b"\n")

    def _limit(self, gauge: _Merged, labels: Labels) -> Labels:
        """Return `labels`, or those of the overflow series once the gauge has `max_series` label sets."""
        overflow = _overflow(labels)
        if not labels or labels == overflow or labels in gauge.entries or len(gauge.entries) < self._max_series:
            return labels
        gauge.refused += 1
        return overflow

    def _lines(self, family: Family, gauge: _Merged, known: dict[tuple[str, Labels], str]) -> str:
        lines, name = [], family.name
        family.gauge_values = {labels: value for labels, (value, _) in gauge.entries.items()}
        for labels, value in family.gauge_values.items():
            start = known.get((name, labels))
            if start is None:
                family.admit(labels)
                start = line_start(name, labels, UNDERSCORES)
            self._starts[name, labels] = start
            lines.append(f"{start}{number(value)}\n")
        return "".join(lines)
