"""Limits on labels, shared by the writers and the readers of series."""

import re

FORBIDDEN_LABELS = frozenset({"user_id", "session_id", "request_id", "email", "full_path"})
OVERFLOW = "__overflow__"
"""Value of every label of the overflow series, which replaces label sets past the limit."""
MAX_SERIES_PER_METRIC = 10_000
_FORBIDDEN_FOLDED = frozenset(name.replace("_", "") for name in FORBIDDEN_LABELS)


class CardinalityError(ValueError):
    """A metric's definition has no bound on its series or on the length of its names."""


def is_forbidden_label(name: str) -> bool:
    """Return True if a label of this name, in any spelling, has one value per user or request."""
    return re.sub("[^a-z]", "", name.lower()) in _FORBIDDEN_FOLDED
