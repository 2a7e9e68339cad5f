"""The chaos run: `python -m loadtest.chaos [--seconds 900] [--seed 1]`.

Exits 0 when every invariant held after every action, 1 when one did not, and 2 when the run could not be played.
"""

import argparse
import asyncio
import os
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import httpx

from app.embedded import EmbeddedError
from app.settings import ROOT
from loadtest.__main__ import until_signalled
from loadtest.chaos import report
from loadtest.chaos.actions import ACTIONS, SHORT, Action
from loadtest.chaos.campaign import Campaign, NotSettledError, Violation
from loadtest.chaos.plan import sequence
from loadtest.chaos.world import Options, under_traffic, world

FAILED, NOT_RUN = 1, 2
MIN_SECONDS, MAX_SECONDS, MAX_SEED = 5.0, 86_400.0, 2**32 - 1
# Shorter runs take the quick actions only, recycle their workers sooner, and share the machine with other tests.
MIN_RATE, MAX_RATE = 1.0, 10_000.0
LONG_SECONDS = 60.0
SHORT_RUN = Options(connections=12, rate=60, max_requests=150, worker_timeout=60)
WARM_UP_SECONDS = 1.0
CALM_SECONDS = (0.2, 1.0)


async def play(directory: Path, options: Options, actions: list[Action]) -> Campaign:
    """Start everything, take random `actions` until the time is over, and end everything."""
    async with world(directory, options) as parts:
        campaign = Campaign(parts, started=asyncio.get_running_loop().time())
        campaign.pass_over(actions)
        actions = [action for action in actions if action.name not in campaign.skipped]
        try:
            await campaign.settle([])
            campaign.started = asyncio.get_running_loop().time()
            async with under_traffic(parts):
                scraping = asyncio.create_task(campaign.scrape_for_ever())
                try:
                    await asyncio.sleep(WARM_UP_SECONDS)
                    await campaign.check()
                    await _act(campaign, actions)
                finally:
                    scraping.cancel()
                    with suppress(asyncio.CancelledError):
                        await scraping
                await campaign.check()
            await campaign.check_at_the_end()
            await campaign.stop()
        except NotSettledError as error:
            campaign.violations.append(Violation(campaign.label, "the service recovers", str(error)))
        except httpx.HTTPError as error:
            campaign.violations.append(Violation(campaign.label, "the exporter answers", repr(error)))
    return campaign


async def _act(campaign: Campaign, actions: list[Action]) -> None:
    """Take actions until the time is over. What does not fit into the time that is left is passed over."""
    options, by_name = campaign.world.options, {action.name: action for action in actions}
    skipped = 0
    for name in sequence(list(by_name), options.seed):
        if campaign.now() + by_name[name].seconds > options.seconds:
            skipped += 1
            if skipped >= len(by_name):
                return
            continue
        skipped = 0
        before = len(campaign.violations)
        await campaign.perform(by_name[name])
        _show(campaign, before)
        await asyncio.sleep(campaign.world.some(*CALM_SECONDS))


def _show(campaign: Campaign, before: int) -> None:
    one = campaign.actions[-1]
    failures = ", ".join(f"{number} {kind}" for kind, number in one["failures"].items())
    taken = f"{one['at']:7.1f} s  {one['action']:26}{one['requests']:6} requests"
    print(f"{taken}, recovered in {one['recovery_seconds']:5.1f} s{'; ' + failures if failures else ''}", flush=True)
    for violation in campaign.violations[before:]:
        print(f"           FAILED  {violation.invariant}: {violation.detail}", flush=True)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; exit with status 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser(prog="chaos", description=str(__doc__).split("`", maxsplit=1)[0].strip(" :"))
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="no action starts that would end later")
    parser.add_argument("--seed", type=int, default=Options.seed, help="the same seed gives the same sequence")
    parser.add_argument(
        "--rate", type=float, help=f"requests a second; {Options.rate:g}, in a short run {SHORT_RUN.rate:g}"
    )
    parser.add_argument("--only", action="append", default=[], metavar="ACTION", help=f"one of {', '.join(ACTIONS)}")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "chaos", help="directory of the results")
    given = parser.parse_args(argv)
    if not MIN_SECONDS <= given.seconds <= MAX_SECONDS:
        parser.error(f"--seconds {given.seconds:g}: want {MIN_SECONDS:g} to {MAX_SECONDS:g}")
    if not 0 <= given.seed <= MAX_SEED:
        parser.error(f"--seed {given.seed}: want 0 to {MAX_SEED}")
    if given.rate is not None and not MIN_RATE <= given.rate <= MAX_RATE:
        parser.error(f"--rate {given.rate:g}: want {MIN_RATE:g} to {MAX_RATE:g}")
    for name in given.only:
        if name not in ACTIONS:
            parser.error(f"--only {name!r} is no action: want one of {', '.join(ACTIONS)}")
    return given


def chosen(given: argparse.Namespace) -> tuple[Options, list[Action]]:
    """Return the options and the actions of a run."""
    if given.seconds >= LONG_SECONDS:
        options, actions = Options(seconds=given.seconds, seed=given.seed), list(ACTIONS.values())
    else:
        options, actions = replace(SHORT_RUN, seconds=given.seconds, seed=given.seed), list(SHORT)
    options = replace(options, rate=given.rate or options.rate)
    return options, [ACTIONS[name] for name in given.only] or actions


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    given = arguments(argv)
    if sys.platform != "linux":
        print("not run: the processes of a run are found in Linux's /proc", file=sys.stderr)
        return NOT_RUN
    options, actions = chosen(given)
    started = datetime.now(UTC)
    directory = given.results / f"{started:%Y%m%dT%H%M%SZ}-{options.seed}-{os.getpid()}"
    directory.mkdir(parents=True)
    print(f"seed {options.seed}, {options.workers} workers, {options.rate:g} requests a second, {options.seconds:g} s")
    try:
        campaign = asyncio.run(until_signalled(play(directory, options, actions)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("ended early: no results", file=sys.stderr)
        return NOT_RUN
    except EmbeddedError as error:
        print(f"not run: {error}", file=sys.stderr)
        return NOT_RUN
    facts = {
        "run": directory.name,
        **asdict(options),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    print(f"results: {report.write(directory, campaign, facts)}")
    for violation in campaign.violations:
        print(
            f"seed {options.seed}, action {violation.action}: {violation.invariant}: {violation.detail}",
            file=sys.stderr,
        )
    return FAILED if campaign.violations else 0


if __name__ == "__main__":
    sys.exit(main())
