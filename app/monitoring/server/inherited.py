"""Listening sockets that gunicorn inherits: those of systemd (LISTEN_FDS, LISTEN_PID), and `bind=fd://N`.

gunicorn ignores its other addresses then. It would end with a traceback at a descriptor that is no listening stream
socket.
"""

import os
import socket
from collections.abc import Sequence
from typing import Any

FIRST_DESCRIPTOR = 3


class InheritedSocketError(Exception):
    """An inherited descriptor cannot be listened on; the message is one line."""


def inherited_addresses(bound: Sequence[Any]) -> list[str]:
    """Return the addresses of the sockets that are inherited, in the form of gunicorn's setting `bind`.

    `bound` is that setting as gunicorn has parsed it: numbers are descriptors. Raise InheritedSocketError if one is not
    a listening stream socket.
    """
    named = {number: f"bind=fd://{number}" for number in bound if isinstance(number, int)}
    given = os.environ.get("LISTEN_FDS", "0")
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        if not given.isdecimal():
            raise InheritedSocketError(f"LISTEN_FDS={given!r}: want the number of sockets that systemd passes")
        named |= dict.fromkeys(range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(given)), f"LISTEN_FDS={given}")
    return [_address(number, setting) for number, setting in named.items()]


def _address(number: int, setting: str) -> str:
    try:
        with socket.socket(fileno=os.dup(number)) as listener:
            listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            stream, family, name = listener.type == socket.SOCK_STREAM, listener.family, listener.getsockname()
    except OSError:
        listening = stream = False
    if not listening or not stream:
        raise InheritedSocketError(f"{setting}: want a listening stream socket as descriptor {number}")
    if family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(name)}"
    host, port, *_ = name
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
