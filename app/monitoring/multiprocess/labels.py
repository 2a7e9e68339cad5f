"""Limits of labels, shared by those who write series and those who read them."""

import re

FORBIDDEN_LABELS = frozenset({"user_id", "session_id", "request_id", "email", "full_path"})
OVERFLOW = "__overflow__"
"""Value of every label in the series that takes the label sets past the limit."""
MAX_SERIES_PER_METRIC = 10_000
_FORBIDDEN_FOLDED = frozenset(name.replace("_", "") for name in FORBIDDEN_LABELS)


def is_forbidden_label(name: str) -> bool:
    """Return whether a label of this name, in any spelling, has one value for each user or request."""
    return re.sub("[^a-z]", "", name.lower()) in _FORBIDDEN_FOLDED
