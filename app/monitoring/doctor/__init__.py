"""The package's examination of itself: at the start, and as `python -m <package> doctor module:app`."""

from .examination import enforce, examine
from .finding import ExaminationError, Finding
from .situation import Situation

__all__ = ["ExaminationError", "Finding", "Situation", "enforce", "examine"]
