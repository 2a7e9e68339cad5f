"""The functions that a call comes from."""

import inspect


def is_called_from(module: str, function: str) -> bool:
    """Return whether a function of that module and name is on the stack of this thread."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name == function and frame.f_globals.get("__name__") == module:
            return True
        frame = frame.f_back
    return False
