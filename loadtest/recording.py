"""A Locust file without users. Given beside one with users it writes down each request as its client saw it, and
exposes metrics of them: `locust -f loadtest/recording.py,locustfile.py --ledger PATH --metrics-port 9646`.

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
from gevent.pywsgi import WSGIServer
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from prometheus_client import make_wsgi_app

from app.monitoring.metrics.catalogue import LATENCY_BUCKETS
from loadtest.client_metrics import ClientMetrics


class Ledger:
    """Writes one JSON array a request, and the totals as an object at the end."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.with_suffix(f".{os.getpid()}.jsonl").open("w")

    def note(self, method: str, handler: str, status: int, seconds: float, started: float) -> None:
        """Record a request that has ended, successfully or not."""
        self._file.write(json.dumps([started, method, handler, status, seconds]) + "\n")

    def close(self, schedule: "Schedule") -> None:
        """Write the task counts and close the ledger."""
        self._file.write(json.dumps({"tasks": schedule.tasks, "late": schedule.late}) + "\n")
        self._file.close()


class Schedule:
    """The tasks of all users, and how many of them began late."""

    def __init__(self, environment: Environment) -> None:
        self.tasks = self.late = 0
        self._environment = environment
        # All are read before one is replaced: a class may have inherited that of another.
        waits = [(user, user.wait_time) for user in environment.user_classes]
        for user, wait_time in waits:
            user.wait_time = self._counting(wait_time)

    def _counting(self, wait_time: Callable[[Any], float]) -> Callable[[Any], float]:
        """Wrap `wait_time` to count tasks and late tasks: a pause of 0 means that the next task is late."""

        def counted(user: Any) -> float:
            pause = wait_time(user)
            self.tasks += 1
            self.late += pause <= 0
            return pause

        return counted

    def users(self) -> int:
        """Return the number of users at present."""
        return int(self._environment.runner.user_count) if self._environment.runner else 0

    def offered(self) -> float | None:
        """Return the tasks a second that the users ask for, None if one of their classes does not state its `rate`."""
        classes = self._environment.user_classes_by_name
        counts = self._environment.runner.user_classes_count if self._environment.runner else {}
        rates: list[float | None] = [getattr(classes[name], "rate", None) for name in counts]
        known = [rate for rate in rates if rate is not None]
        if len(known) < len(rates):
            return None
        return sum(count * rate for count, rate in zip(counts.values(), known, strict=True))


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def add_arguments(parser: LocustArgumentParser) -> None:
    """Add the options of this file."""
    parser.add_argument("--ledger", metavar="PATH", default="", help="write each request to PATH with .<pid>.jsonl")
    parser.add_argument(
        "--metrics-port", metavar="PORT", type=int, default=0, help="expose the clients' metrics on this loopback port"
    )
    parser.add_argument("--run-id", metavar="ID", default="locust", help="label `run` of these metrics")
    parser.add_argument("--scenario", metavar="NAME", default="users", help="label `scenario` of these metrics")


@events.init.add_listener  # type: ignore[untyped-decorator]
def prepare(environment: Environment, **_: Any) -> None:
    """Write down every request from now on, and end in order on SIGUSR1.

    On SIGTERM Locust leaves its HTML report out.
    """
    assert environment.runner is not None  # noqa: S101 -- made before this event
    gevent.signal_handler(signal.SIGUSR1, environment.runner.quit)
    options: Any = environment.parsed_options
    path, port = getattr(options, "ledger", ""), getattr(options, "metrics_port", 0)
    if not path and not port:
        return
    schedule = Schedule(environment)
    if path:
        ledger = Ledger(Path(path))
        events.request.add_listener(_noted(ledger.note))  # type: ignore[no-untyped-call]
        events.quit.add_listener(lambda **_: ledger.close(schedule))  # type: ignore[no-untyped-call]
    if port:
        metrics = ClientMetrics(
            options.run_id,
            options.scenario,
            LATENCY_BUCKETS,
            users=schedule.users,
            offered=schedule.offered,
            tasks=lambda: schedule.tasks,
            late=lambda: schedule.late,
        )
        note = _noted(lambda method, handler, status, seconds, _: metrics.note(method, handler, status, seconds))
        events.request.add_listener(note)  # type: ignore[no-untyped-call]
        WSGIServer(("127.0.0.1", port), make_wsgi_app(metrics.registry()), log=None).start()


def _noted(note: Callable[[str, str, int, float, float], None]) -> Callable[..., None]:
    """Return a listener of Locust's event that calls `note` with method, handler, status, seconds and start."""

    def listen(request_type: str, name: str, response_time: float, response: Any, start_time: float, **_: Any) -> None:
        status = getattr(response, "status_code", 0) or 0
        note(request_type, name, status, response_time / 1000, start_time)

    return listen
