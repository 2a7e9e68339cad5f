"""Load on a service that runs already: `python -m loadtest.against`. Its counts and latency buckets are compared with
the times of the clients; with --prometheus-url no alert but Watchdog may fire meanwhile. Exits 0 when every check was
passed, 1 when one was not, and 2 when the run could not be made.
"""

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx

from app.settings import ROOT
from loadtest import results
from loadtest.__main__ import FAILED, NOT_RUN, show, until_signalled
from loadtest.alerts import Prometheus, PrometheusError, Timeline, watched
from loadtest.comparison import figures
from loadtest.programs import ProgramError, last, until
from loadtest.scenarios import MARGIN_SECONDS, WATCHDOG, Result, check_figures, check_no_failure, check_silence, settled
from loadtest.users import users

NAME = "service"
MAX_USERS, MAX_SECONDS = 1000, 3600


@dataclass(frozen=True)
class Options:
    """The parameters of a run. The metrics have to be those of the one instance that answers at `url`."""

    url: str
    metrics_url: str
    locustfile: Path
    users: int
    seconds: int
    routes: list[str]
    prometheus_url: str | None


async def _scrape(url: str) -> str:
    async with httpx.AsyncClient(timeout=10) as client:
        return (await client.get(url)).raise_for_status().text


async def play(directory: Path, options: Options) -> Result:
    """Send the users' requests and compare; raises ProgramError, PrometheusError and httpx.HTTPError."""
    result, timeline = Result(NAME), Timeline()
    async with AsyncExitStack() as running:
        if options.prometheus_url:
            prometheus = Prometheus(options.prometheus_url)
            running.push_async_callback(prometheus.close)
            timeline = await running.enter_async_context(watched(prometheus))
        before = figures(await _scrape(options.metrics_url), options.routes)
        longest = options.seconds + MARGIN_SECONDS
        async with users(directory, options.url, options.users, longest, options.locustfile.resolve()) as visitors:
            await last(options.seconds, [visitors.program])
        ledger = visitors.ledger
        served = await settled(lambda: _scrape(options.metrics_url), before, ledger, options.routes)
        check_no_failure(result, ledger)
        check_figures(result, served, ledger)
        if options.prometheus_url:
            await until(lambda: timeline.at(WATCHDOG, "firing"), MARGIN_SECONDS)
            check_silence(result, timeline)
    return result


def arguments() -> Options:
    """Parse the command line; exit with status 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser(prog="loadtest.against", description=str(__doc__).split("Exits", maxsplit=1)[0])
    parser.add_argument("--url", required=True, help="the service, without a slash at the end")
    parser.add_argument("--metrics-url", required=True, help="the metrics of the same instance, with the path")
    parser.add_argument("--locustfile", required=True, type=Path, help="users; a request is named after its route")
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument(
        "--routes", nargs="+", default=["/"], help="beginnings of the routes that nothing else asks; by default all"
    )
    parser.add_argument("--prometheus-url", help="a Prometheus that has this service's rules and no others")
    given = parser.parse_args()
    for name, most in (("users", MAX_USERS), ("seconds", MAX_SECONDS)):
        if not 1 <= getattr(given, name) <= most:
            parser.error(f"--{name} {getattr(given, name)}: want 1 to {most}")
    if not given.locustfile.is_file():
        parser.error(f"--locustfile {given.locustfile}: no such file")
    return Options(**{field.name: getattr(given, field.name) for field in fields(Options)})


def main() -> int:
    """Run the command; return its exit status."""
    options, started = arguments(), datetime.now(UTC)
    directory = ROOT / "build" / "loadtest" / started.strftime("%Y%m%dT%H%M%S.%fZ")
    (directory / NAME).mkdir(parents=True)
    try:
        result = asyncio.run(until_signalled(play(directory / NAME, options)))
    except (ProgramError, PrometheusError, httpx.HTTPError) as error:
        print(f"not run to its end: {str(error) or repr(error)}", file=sys.stderr)
        return NOT_RUN
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("ended early: no results", file=sys.stderr)
        return NOT_RUN
    show(result)
    facts = {
        "run_id": directory.name,
        "started": started.isoformat(timespec="seconds"),
        "url": options.url,
        "users": options.users,
        "seconds": options.seconds,
        "locust": version("locust"),
    }
    print(f"results: {results.write(directory, facts, [result])}")
    return 0 if result.passed else FAILED


if __name__ == "__main__":
    sys.exit(main())
