"""Amounts that are added must be finite: one NaN or infinity in a sum stays in it, over all processes and for ever.

The methods of prometheus-client's classes are wrapped, in single-process mode too, because a value cannot tell: a
histogram has counted an observation by the time its sum is added to. `Gauge.set` takes any number.
"""

import functools
import math
import sys
from collections.abc import Callable, Iterable

from prometheus_client import Counter, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase

from .entries import INFINITE, NOT_A_NUMBER

MAX = sys.float_info.max
Deny = Callable[[str, str], object]


def reason_of(amount: float) -> str:
    """Return the reason for which a number that is not finite is refused."""
    return NOT_A_NUMBER if amount != amount else INFINITE  # noqa: PLR0124 -- NaN of any type of number


def guard(deny: Deny) -> None:
    """Make metrics ignore amounts that are not finite, and call `deny` with the metric's name and the reason."""
    for metric, name, wrap in (
        (Counter, "inc", _counting),
        (Gauge, "inc", _moving),
        (Gauge, "dec", _moving),
        (Histogram, "observe", _observing_with_exemplar),
        (Summary, "observe", _observing),
    ):
        original: Callable[..., None] = getattr(metric, name)
        if not hasattr(original, "_is_guarded"):
            guarded = functools.wraps(original)(wrap(original, deny))
            guarded._is_guarded = True  # type: ignore[attr-defined]  # noqa: SLF001
            setattr(metric, name, guarded)


# A chained comparison is the cheapest test: it is False for NaN, infinities and integers past any float.


def _counting(original: Callable[..., None], deny: Deny) -> Callable[..., None]:
    def inc(self: MetricWrapperBase, amount: float = 1, exemplar: dict[str, str] | None = None) -> None:
        if -MAX <= amount <= MAX or amount < 0:  # the library raises ValueError if it is negative
            original(self, amount, exemplar)
        else:
            deny(self._name, reason_of(amount))

    return inc


def _moving(original: Callable[..., None], deny: Deny) -> Callable[..., None]:
    def move(self: MetricWrapperBase, amount: float = 1) -> None:
        if -MAX <= amount <= MAX:
            original(self, amount)
        else:
            deny(self._name, reason_of(amount))

    return move


def _observing(original: Callable[..., None], deny: Deny) -> Callable[..., None]:
    def observe(self: MetricWrapperBase, amount: float) -> None:
        if -MAX <= amount <= MAX:
            original(self, amount)
        else:
            deny(self._name, reason_of(amount))

    return observe


def _observing_with_exemplar(original: Callable[..., None], deny: Deny) -> Callable[..., None]:
    def observe(self: MetricWrapperBase, amount: float, exemplar: dict[str, str] | None = None) -> None:
        if -MAX <= amount <= MAX:
            original(self, amount, exemplar)
        else:
            deny(self._name, reason_of(amount))

    return observe


def without_nan(numbers: Iterable[float]) -> tuple[tuple[float, ...], list[int]]:
    """Return `numbers` with 0.0 in place of each NaN, and the places of those."""
    values = tuple(numbers)
    if not math.isnan(sum(values)):  # a call in C; also NaN for infinities of both signs
        return values, []
    places = [place for place, value in enumerate(values) if math.isnan(value)]
    return tuple(0.0 if math.isnan(value) else value for value in values), places
