"""A finding of the doctor, and the exception that refuses a start."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

MAX_LISTED = 5


@dataclass(frozen=True)
class Finding:
    """One line: the state, its consequence and the remedy.

    An `error` makes numbers wrong, so the service must not start. A `warning` is logged once.
    """

    code: str
    severity: Literal["error", "warning"]
    what: str
    why: str
    instead: str

    def __str__(self) -> str:
        # Names of metrics, routes and variables come from elsewhere: a line break in them must not make a second line.
        return " ".join(f"{self.severity} {self.code}: {self.what}; {self.why}; instead: {self.instead}".split())


class ExaminationError(Exception):
    """The service must not start. `findings` are the errors; the message has one line for each."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__("\n".join(map(str, findings)))


def listed(names: Iterable[str]) -> str:
    """Return `a, b and 3 more` for names in order, without duplicates."""
    unique = sorted(set(names))
    more = len(unique) - MAX_LISTED
    return ", ".join(unique[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
