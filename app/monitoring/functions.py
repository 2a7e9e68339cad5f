"""Functions of the application that are called for each counted request."""

from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_fastapi_instrumentator.metrics import Info

Function = Callable[["Info"], Any]


def plain(functions: Iterable[Function | None]) -> list[Function]:
    """Return `functions` without None. Raise TypeError if one is a coroutine function."""
    given = [function for function in functions if function is not None]
    for function in given:
        if iscoroutinefunction(function):
            raise TypeError(
                f"add({function.__name__}): coroutine functions are not awaited here: want a plain function,"
                " which may start a task"
            )
    return given
