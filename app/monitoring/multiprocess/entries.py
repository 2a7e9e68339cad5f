"""Rules for an entry of a file of values. The writer refuses what the reader leaves out.

An entry that breaks one costs its own value only; a file whose structure is broken is a BadFileError (layout.py).
"""

import math
from collections.abc import Iterable

MAX_KEY_LENGTH = 1 << 20
"""Bytes of the longest key: metric, sample, labels and help as JSON."""
SAMPLES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum"),
    "summary": ("_count", "_sum"),
}
"""Suffixes of the samples of each kind."""
INVALID_KEY, KEY_TOO_LONG, NAME_IN_USE, NOT_A_NUMBER = "invalid_key", "key_too_long", "name_in_use", "not_a_number"
INFINITE = "infinite"
"""Reason for which amounts are refused, beside NOT_A_NUMBER."""
REASONS = (INVALID_KEY, KEY_TOO_LONG, NAME_IN_USE, NOT_A_NUMBER)
"""Reasons for which entries are left out."""
_MAX_MESSAGE_LENGTH = 200


class BadEntryError(Exception):
    """An entry cannot be exposed. `reason` is one of REASONS."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message[:_MAX_MESSAGE_LENGTH])
        self.reason = reason


def check_length(key: bytes) -> None:
    """Raise BadEntryError if a key is too long."""
    if len(key) > MAX_KEY_LENGTH:
        raise BadEntryError(KEY_TOO_LONG, f"{key[:60]!r}... has {len(key)} bytes: want {MAX_KEY_LENGTH} or fewer")


def check_sample(kind: str, metric: str, sample: str, labels: Iterable[tuple[str, str]]) -> None:
    """Raise BadEntryError if a metric of `kind` has no such sample. Other kinds than those of SAMPLES are not read."""
    if not metric:
        raise BadEntryError(INVALID_KEY, "an entry names no metric")
    if kind not in SAMPLES:
        return
    if not sample.startswith(metric) or sample[len(metric) :] not in SAMPLES[kind]:
        raise BadEntryError(INVALID_KEY, f"{sample[:60]} is no sample of the {kind} {metric[:60]}")
    if kind == "histogram" and sample.endswith("_bucket"):
        _check_bound(dict(labels).get("le", ""))


def _check_bound(bound: str) -> None:
    try:
        wrong = math.isnan(float(bound))
    except ValueError:
        wrong = True
    if wrong:
        raise BadEntryError(INVALID_KEY, f"le={bound[:60]!r} is no boundary")


def conflict(metric: str, kind: str, other: str) -> BadEntryError:
    """Return the error of an entry of `kind` whose metric is of kind `other` elsewhere."""
    return BadEntryError(NAME_IN_USE, f"{metric[:60]} is a {other} elsewhere and a {kind} here")


class LeftOut:
    """The entries that a reader has left out."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        """Number of entries by reason."""
        self.examples: dict[str, str] = {}
        """Message of the last entry by reason."""
        self._archived: set[tuple[str, bytes]] = set()

    def add(self, error: BadEntryError, count: int = 1) -> None:
        """Count entries that are left out."""
        self.counts[error.reason] = self.counts.get(error.reason, 0) + count
        self.examples[error.reason] = str(error)

    def add_archived(self, error: BadEntryError, key: bytes) -> None:
        """Count an entry of the archive once: the archive is adopted again after each fold."""
        if (error.reason, key) not in self._archived:
            self._archived.add((error.reason, key))
            self.add(error)
