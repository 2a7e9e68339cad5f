"""A Locust file without users. Given beside one with users it writes down each request as its client saw it:
`locust -f loadtest/recording.py,locustfile.py --ledger PATH`.

It also counts the tasks that began late: a user who waits for an answer hides the slowness of the next one (coordinated
omission).
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import gevent
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment


class Ledger:
    """Writes one JSON array a request, and the totals as an object at the end."""

    def __init__(self, path: Path) -> None:
        self.tasks = self.late = 0
        self._file: IO[str] = path.with_suffix(f".{os.getpid()}.jsonl").open("w")

    def note(
        self, request_type: str, name: str, response_time: float, response: Any, start_time: float, **_: Any
    ) -> None:
        """Record a request that has ended, successfully or not."""
        status = getattr(response, "status_code", 0) or 0
        line = [start_time, request_type, name, status, response_time / 1000]
        self._file.write(json.dumps(line) + "\n")

    def counting(self, wait_time: Callable[[Any], float]) -> Callable[[Any], float]:
        """Wrap `wait_time` to count tasks and late tasks: a pause of 0 means that the next task is late."""

        def counted(user: Any) -> float:
            pause = wait_time(user)
            self.tasks += 1
            self.late += pause <= 0
            return pause

        return counted

    def close(self) -> None:
        """Write the task counts and close the ledger."""
        self._file.write(json.dumps({"tasks": self.tasks, "late": self.late}) + "\n")
        self._file.close()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: LocustArgumentParser) -> None:
    """Add the option --ledger."""
    parser.add_argument("--ledger", metavar="PATH", default="", help="write each request to PATH with .<pid>.jsonl")


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: Any) -> None:
    """Write down every request from now on, and end in order on SIGUSR1.

    On SIGTERM Locust leaves its HTML report out.
    """
    assert environment.runner is not None  # noqa: S101 -- made before this event
    gevent.signal_handler(signal.SIGUSR1, environment.runner.quit)
    path = getattr(environment.parsed_options, "ledger", "")
    if path:
        ledger = Ledger(Path(path))
        events.request.add_listener(ledger.note)  # type: ignore[no-untyped-call]
        events.quit.add_listener(lambda **_: ledger.close())  # type: ignore[no-untyped-call]
        # All are read before one is replaced: a class may have inherited that of another.
        waits = [(user, user.wait_time) for user in environment.user_classes]
        for user, wait_time in waits:
            user.wait_time = ledger.counting(wait_time)
