"""The command of a process manager, as far as its workers need it: `uvicorn --workers N --host ...`, `fastapi run`."""

import itertools
import multiprocessing
import os
import sys
from dataclasses import replace

import psutil

from ..doctor import Situation
from ..options import Options


def configured_workers() -> int:
    """Return the number of workers of the process manager's command; 0 if it does not say."""
    parent = multiprocessing.parent_process()
    otherwise = "1" if parent is None or parent.pid is None else "0"
    number = _given("--workers") or os.environ.get("WEB_CONCURRENCY") or otherwise
    return int(number) if number.isdecimal() else 0


def situation(options: Options) -> Situation:
    """Return the situation of a worker: the command first, then the options."""
    host, port, socket = _given("--host") or options.host, _given("--port") or options.port, _given("--uds")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return replace(
        Situation.of_options(options, [f"unix:{socket}" if socket else address]),
        workers=configured_workers() or options.workers,
        forwarded_allow_ips=_given("--forwarded-allow-ips") or options.forwarded_allow_ips,
    )


def _given(option: str) -> str | None:
    """Return the value of an option in the command of the process manager, or of this process where there is none."""
    parent = multiprocessing.parent_process()
    words = sys.argv if parent is None or parent.pid is None else psutil.Process(parent.pid).cmdline()
    given = itertools.chain.from_iterable(word.split("=", 1) for word in words)
    return dict(itertools.pairwise(given)).get(option)  # the last one holds
