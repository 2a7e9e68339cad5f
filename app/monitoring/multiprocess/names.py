"""Names of metrics and labels under an escaping scheme, and names that are equal under one.

Prometheus 3 asks for `allow-utf-8` and gets names as they are. Other schemes replace what is no letter, digit or
underscore, so that two names may become one: a label that a series has twice makes Prometheus reject the scrape.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from prometheus_client.openmetrics.exposition import (
    ALLOWUTF8,
    DOTS,
    UNDERSCORES,
    VALUES,
    _escape,
    _is_legacy_labelname_rune,
    _is_legacy_metric_rune,
)

Labels = tuple[tuple[str, str], ...]
"""Pairs of a name and a value."""
LOSSY = (UNDERSCORES, DOTS, VALUES)
"""The schemes under which names may become equal."""
_RESERVED = "__"
_NAME_OF_METRIC = "__name__"
# The library's expressions end with `$`, which a line feed may follow.
_LEGACY_METRIC = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]*")
_LEGACY_LABEL = re.compile("(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class AmbiguousNameError(ValueError):
    """A metric's definition has a name that equals another one after escaping, or that cannot be exposed."""


def is_legacy(name: str) -> bool:
    """Return True if a metric's name is the same under every scheme but `dots`."""
    return _LEGACY_METRIC.fullmatch(name) is not None


def are_legacy(labels: Iterable[tuple[str, str]]) -> bool:
    """Return True if the names of all labels are the same under every scheme but `dots`."""
    return all(_LEGACY_LABEL.fullmatch(name) for name, _ in labels)


def metric_name(name: str, scheme: str) -> str:
    """Return a metric's name as an exposition has it, quoted if it is not a legacy name."""
    return name if scheme != DOTS and is_legacy(name) else _escaped(name, scheme, _is_legacy_metric_rune)


def label_name(name: str, scheme: str) -> str:
    """Return a label's name as an exposition has it, quoted if it is not a legacy name."""
    if scheme != DOTS and _LEGACY_LABEL.fullmatch(name):
        return name
    return _escaped(name, scheme, _is_legacy_labelname_rune)


def _escaped(name: str, scheme: str, is_valid: Callable[[str, int], bool]) -> str:
    text = _escape(name, scheme, is_valid)
    return f'"{text}"' if scheme == ALLOWUTF8 else text


def can_be_exposed(name: str, scheme: str) -> bool:
    """Return True if Prometheus can parse a name: its lexer ends at a NUL that is in no value."""
    return bool(name) and not (scheme == ALLOWUTF8 and "\0" in name)


def _are_distinct(labels: Labels, scheme: str) -> bool:
    """Return True if the labels have different names under `scheme` that Prometheus accepts."""
    shown = {label_name(name, scheme) for name, _ in labels if can_be_exposed(name, scheme)}
    return len(shown) == len(labels) and _NAME_OF_METRIC not in shown


def exposable(metric: str, label_sets: Iterable[Labels], scheme: str) -> set[Labels]:
    """Return the label sets of a sample of `metric` that an exposition under `scheme` has.

    Of sets that become equal one is left: that without an escaped name, else the first by its names and values.
    """
    chosen: dict[Labels, Labels] = {}
    if not can_be_exposed(metric, scheme):
        return set()
    for labels in sorted(label_sets, key=lambda one: (not are_legacy(one), one)):
        if _are_distinct(labels, scheme):
            chosen.setdefault(tuple(sorted((label_name(name, scheme), value) for name, value in labels)), labels)
    return set(chosen.values())


def exemplar_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return an exemplar's labels with names that every parser reads: escaped with underscores. Of equal ones, one."""
    pairs = sorted(labels.items(), key=lambda pair: (are_legacy([pair]), pair))
    return {label_name(name, UNDERSCORES): value for name, value in pairs if name}  # legacy names replace others


class Claim(NamedTuple):
    """The names that a family needs for itself: of its samples, and of its headers in both formats."""

    family: str
    samples: frozenset[str]
    headers: frozenset[str]

    def under(self, scheme: str) -> set[tuple[str, str]]:
        """Return the names under `scheme`. Samples and headers do not compete with each other."""
        samples = {("sample", metric_name(name, scheme)) for name in self.samples}
        return samples | {("header", metric_name(name, scheme)) for name in self.headers}


class Claimant(Protocol):
    """A family."""

    @property
    def claim(self) -> Claim:
        """The names that it needs."""


def claim(family: str, kind: str, samples: Iterable[str]) -> Claim:
    """Return the claim of a family of the library's type `kind`."""
    return Claim(family, frozenset(samples), frozenset({family, f"{family}_total"} if kind == "counter" else {family}))


def contested(families: Sequence[Claimant], scheme: str) -> list[int]:
    """Return the indexes of the families that need a name which a family of another name needs too.

    They are in the order in which they get it: those without an escaped name first.
    """
    owners: dict[tuple[str, str], set[str]] = {}
    needed = [family.claim.under(scheme) for family in families]
    for family, names in zip(families, needed, strict=True):
        for name in names:
            owners.setdefault(name, set()).add(family.claim.family)
    found = [index for index, names in enumerate(needed) if any(len(owners[name]) > 1 for name in names)]
    return sorted(found, key=lambda index: not is_legacy(families[index].claim.family))


def losers(claims: Iterable[Claim], scheme: str) -> set[str]:
    """Return the families that do not get their names; `claims` are in the order of preference."""
    taken: dict[tuple[str, str], str] = {}
    lost = set()
    for one in claims:
        names = one.under(scheme)
        if any(taken.get(name, one.family) != one.family for name in names):
            lost.add(one.family)
        else:
            taken.update(dict.fromkeys(names, one.family))
    return lost


def check_labels(metric: str, labels: Sequence[str]) -> None:
    """Raise AmbiguousNameError if a name cannot be exposed, or two labels are equal under a scheme."""
    for name in (metric, *labels):
        if not name or not name.isprintable():
            raise AmbiguousNameError(f"{metric}: the name {name!r} cannot be exposed: want printable characters")
    for scheme in LOSSY:
        shown: dict[str, str] = {}
        for name in labels:
            other = shown.setdefault(label_name(name, scheme), name)
            if other != name:
                raise AmbiguousNameError(
                    f"{metric}: the labels {other!r} and {name!r} are both {label_name(name, scheme)!r} for a scraper"
                    f" that asks for {scheme}: rename one"
                )
    for name in labels:
        if label_name(name, UNDERSCORES).startswith(_RESERVED):
            raise AmbiguousNameError(
                f"{metric}: the label {name!r} is {label_name(name, UNDERSCORES)!r} after escaping, which is reserved"
            )


def check_names(names: Iterable[str], others: Mapping[str, object]) -> None:
    """Raise AmbiguousNameError if one of a metric's `names` is equal under a scheme to one of `others`."""
    for scheme in LOSSY:
        taken = {metric_name(other, scheme): other for other in others}
        for name in names:
            shown = metric_name(name, scheme)
            if taken.get(shown, name) != name:
                raise AmbiguousNameError(
                    f"{name!r} and {taken[shown]!r} are both {shown!r} for a scraper that asks for {scheme}: rename one"
                )
