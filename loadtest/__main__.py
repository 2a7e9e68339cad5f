"""The campaign: `python -m loadtest [healthy] [errors]`. Exits 0 when every check was passed, 1 when one was not, and 2
when a scenario could not be played.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import httpx

from app.embedded import EmbeddedError
from app.settings import ROOT
from loadtest import configuration, results
from loadtest.alerts import PrometheusError
from loadtest.configuration import ConfigurationError
from loadtest.programs import ProgramError, find
from loadtest.scenarios import SCENARIOS, Result, run
from loadtest.stack import Options

T = TypeVar("T")
FAILED, NOT_RUN = 1, 2
MIN_USERS, MAX_USERS, MAX_WORKERS = 10, 1000, 64
MAX_SPEED = 30.0
# An httpx error is a program that does not answer the campaign.
NOT_PLAYABLE = (ProgramError, ConfigurationError, EmbeddedError, PrometheusError, httpx.HTTPError)


async def campaign(names: list[str], directory: Path, options: Options) -> int:
    """Play the scenarios one after the other and write the results; returns the exit status."""
    played: list[Result] = []
    started = datetime.now(UTC)
    status = 0
    try:
        for name in names:
            begun = time.monotonic()
            print(f"{name}: {options.users} users on {options.workers} workers, durations divided by {options.speed:g}")
            played.append(await run(name, directory / name, options))
            played[-1].figures["duration_seconds"] = round(time.monotonic() - begun, 1)
            show(played[-1])
    except NOT_PLAYABLE as error:
        print(f"not run to its end: {str(error) or repr(error)}", file=sys.stderr)
        status = NOT_RUN
    facts = {
        "run_id": directory.name,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": len(played) == len(names),
        "speed": options.speed,
        "users": options.users,
        "workers": options.workers,
        "rules": options.rules.name,
        "locust": version("locust"),
    }
    print(f"results: {results.write(directory, facts, played)}")
    return status or (0 if results.passed(played) else FAILED)


def show(result: Result) -> None:
    """Print what a scenario has shown."""
    for check in result.checks:
        print(f"  {'passed' if check.passed else 'FAILED'}  {check.name}{': ' if check.detail else ''}{check.detail}")
    seconds = result.figures.get("first_error_to_notification_seconds")
    if seconds is not None:
        print(f"  from the first error to the notification: {seconds:g} s")


def arguments() -> argparse.Namespace:
    """Parse the command line; exit with status 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser(prog="loadtest", description=str(__doc__).split(". Exits", maxsplit=1)[0])
    parser.add_argument("scenario", nargs="*", help=f"{' or '.join(SCENARIOS)}; all of them where none is named")
    parser.add_argument(
        "--speed", type=float, default=Options.speed, help="divides every duration of the rules; 1 is production's"
    )
    parser.add_argument("--users", type=int, default=Options.users)
    parser.add_argument("--workers", type=int, default=Options.workers, help="worker processes of the service")
    parser.add_argument("--rules", type=Path, default=Options.rules, help="the rule file to prove")
    given = parser.parse_args()
    for name in given.scenario:
        if name not in SCENARIOS:
            parser.error(f"{name!r} is no scenario: want {' or '.join(SCENARIOS)}")
    for name, least, most in (
        ("speed", 1, MAX_SPEED),
        ("users", MIN_USERS, MAX_USERS),
        ("workers", 1, MAX_WORKERS),
    ):
        if not least <= getattr(given, name) <= most:
            parser.error(f"--{name} {getattr(given, name):g}: want {least:g} to {most:g}")
    return given


async def until_signalled(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; SIGTERM ends it as Ctrl-C does, with everything that it has started."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 -- a coroutine runs in one
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def main() -> int:
    """Run the command; return its exit status."""
    given = arguments()
    options = Options(given.rules, given.speed, given.users, given.workers)
    try:
        configuration.rules(options.rules, options.speed)
        for program in (("prometheus",), ("alertmanager", "prometheus-alertmanager")):
            find(*program)
    except (ProgramError, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return NOT_RUN
    directory = ROOT / "build" / "loadtest" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    directory.mkdir(parents=True)
    try:
        return asyncio.run(
            until_signalled(campaign(list(dict.fromkeys(given.scenario or SCENARIOS)), directory, options))
        )
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("ended early: no results", file=sys.stderr)
        return NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
