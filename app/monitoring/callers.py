"""The functions that a call comes from."""

import inspect
from types import FrameType


def caller(module: str, function: str) -> FrameType | None:
    """Return the innermost frame on this thread's stack that runs `function` of `module`; None where there is none."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == function and frame.f_globals.get("__name__") == module:
            return frame
        frame = frame.f_back
    return None
