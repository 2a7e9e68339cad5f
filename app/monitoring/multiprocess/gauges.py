"""Gauges of several processes, by their mode, as prometheus-client merges them.

all          each process's value under its `pid`, of the living and the last of the dead
min max sum  over all processes that ever were
mostrecent   the value with the newest timestamp
live...      the same over the living only
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .labels import OVERFLOW, is_forbidden_label
from .layout import BadFileError, Key, parse, written
from .series import Family, Labels, line_start, number

MODES = frozenset(f"{live}{mode}" for live in ("", "live") for mode in ("all", "min", "max", "sum", "mostrecent"))
Entry = tuple[float, float]
"""A value and its timestamp."""


@dataclass(eq=False)
class Readings:
    """The gauges of one file or of the archive: mode, `pid` label, entries by key."""

    mode: str
    pid: str
    keys: Sequence[Key]
    entries: Sequence[Entry]


@dataclass
class _Merged:
    """One gauge while it is put together."""

    entries: dict[Labels, Entry] = field(default_factory=dict)
    refused: int = 0


def _without_pid(key: Key) -> Key:
    """A metric's own label `pid` gives way to the process's, as the library has it: twice it would spoil a scrape."""
    labels = tuple(pair for pair in key.labels if pair[0] != "pid")
    return key if labels == key.labels else key._replace(labels=labels)


def _overflow(labels: Labels) -> Labels:
    return tuple((name, OVERFLOW) for name, _ in labels)


def combine(mode: str, one: Entry, other: Entry) -> Entry:
    """Two processes' readings of one series as one; `one` came first. Not for `all`."""
    mode = mode.removeprefix("live")
    if mode == "min":
        return other if other[0] < one[0] else one
    if mode == "max":
        return other if other[0] > one[0] else one
    if mode == "sum":
        return one[0] + other[0], 0.0
    return other if other[1] > one[1] else one


class Gauges:
    """Merges readings into families."""

    def __init__(self, families: dict[str, Family], max_series: int) -> None:
        self.refused: dict[str, int] = {}
        """Label sets over the limit when the metric was last merged, by metric."""
        self.archived: dict[str, set[Labels]] = {}
        """Label sets in the archive, by metric."""
        self._families = families
        self._max_series = max_series
        self._starts: dict[tuple[str, Labels], str] = {}
        self._before: list[Readings] = []

    def keys(self, raw: Iterable[bytes]) -> list[Key]:
        """The keys of a file's entries. Raises BadFileError where one is none, or its name is another kind's."""
        found = [_without_pid(parse(key)) for key in raw]
        for key in found:
            if key.sample != key.metric:
                raise BadFileError(f"{key.sample} is no sample of the gauge {key.metric}")
            family = self._families.get(key.metric)
            if family is None:
                self._families[key.metric] = Family(key.metric, "gauge", key.help)
            elif family.kind != "gauge":
                raise BadFileError(f"{key.metric} is a {family.kind} elsewhere and a gauge here")
        return found

    def merge(self, readings: list[Readings]) -> None:
        """Bring the lines of every gauge up to date."""
        if readings == self._before:  # the very same objects: readings know no other equality
            return
        self._before = readings
        merged: dict[str, _Merged] = {}
        for reading in readings:
            for key, entry in zip(reading.keys, reading.entries, strict=True):
                self._add(merged, reading, key, entry)
        # Process ids come and go: only the texts of those that are shown are kept.
        known, self._starts = self._starts, {}
        for name, family in self._families.items():
            if family.kind == "gauge":
                lines = self._lines(name, merged[name], known).encode() if name in merged else b""
                if lines != family.gauge_lines:
                    family.gauge_lines = lines
                    family.changed()
        for name, gauge in merged.items():
            self.refused[name] = gauge.refused

    def remains(self, raw: Iterable[bytes], keys: Iterable[Key]) -> list[bytes]:
        """The keys under which a file's gauges go to the archive: of no more label sets than are shown."""
        found = []
        for one, key in zip(raw, keys, strict=True):
            known = self.archived.setdefault(key.metric, set())
            if not key.labels or key.labels in known or len(known) < self._max_series:
                known.add(key.labels)
                found.append(one)
            else:
                found.append(written(key, _overflow(key.labels)))
        return found

    def _add(self, merged: dict[str, _Merged], reading: Readings, key: Key, entry: Entry) -> None:
        if any(is_forbidden_label(name) for name, _ in key.labels):
            return
        gauge = merged.setdefault(key.metric, _Merged())
        labels = self._admitted(gauge, key.labels)
        if reading.mode.endswith("all"):
            gauge.entries[(*labels, ("pid", reading.pid))] = entry
        elif labels in gauge.entries:
            gauge.entries[labels] = combine(reading.mode, gauge.entries[labels], entry)
        elif not reading.mode.endswith("mostrecent") or entry[1] > 0:
            # The library shows no most recent value that was never set.
            gauge.entries[labels] = entry

    def count(self, name: str) -> int:
        """Series of a gauge, as of the last reading."""
        return self._families[name].gauge_lines.count(b"\n")

    def _admitted(self, gauge: _Merged, labels: Labels) -> Labels:
        overflow = _overflow(labels)
        if not labels or labels == overflow or labels in gauge.entries or len(gauge.entries) < self._max_series:
            return labels
        gauge.refused += 1
        return overflow

    def _lines(self, name: str, gauge: _Merged, known: dict[tuple[str, Labels], str]) -> str:
        lines = []
        for labels, (value, _) in gauge.entries.items():
            start = known.get((name, labels)) or line_start(name, labels)
            self._starts[name, labels] = start
            lines.append(f"{start}{number(value)}\n")
        return "".join(lines)
