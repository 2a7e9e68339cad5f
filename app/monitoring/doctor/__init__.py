"""The package's examination of itself: at the start, and as `python -m <package> doctor module:app`."""

from .examination import enforce, examine, examine_surroundings, refuse_start, warn_unstarted
from .finding import ExaminationError, Finding
from .lifespan import examine_at_start
from .situation import Situation

__all__ = [
    "ExaminationError",
    "Finding",
    "Situation",
    "enforce",
    "examine",
    "examine_at_start",
    "examine_surroundings",
    "refuse_start",
    "warn_unstarted",
]
