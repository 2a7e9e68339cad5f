"""Requests that do not count among those in flight while they wait: long polls, streams, calls of a slow upstream."""

from collections.abc import Mapping
from typing import Any

from .requests.slot import SLOT

__all__ = ["release_slot"]


def release_slot(scope: Mapping[str, Any]) -> None:
    """Stop counting the request of an ASGI scope towards MAX_IN_FLIGHT. It goes on, and another one may start.

    Call it before a wait that costs neither CPU nor a database connection. Responses of `text/event-stream` do so by
    themselves, and websockets never count. Does nothing where requests are not bounded, or the second time.
    """
    slot = scope.get(SLOT)
    if slot is not None:
        slot.release()
