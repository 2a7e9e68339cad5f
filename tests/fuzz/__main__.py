"""`make fuzz`: Schemathesis against the real service, with servers of its own, until 10,000 requests have been made."""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from app.embedded import EmbeddedServers
from tests.fuzz.fuzzing import LIMITS, Outcome, fuzz
from tests.process.service import service

KEY = "a key for the fuzzer only"
CASES = 10_000
# Of a round and operation. Later rounds have other seeds: what depends on the order of requests comes in other orders.
EXAMPLES = 100
MAX_SEED = 2**32 - 1


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES, help="requests to make at least (default %(default)s)")
    parser.add_argument("--seed", type=int, help="seed of the first round, one more in each later one (default random)")
    arguments = parser.parse_args(words)
    if arguments.cases < 1:
        parser.error(f"--cases {arguments.cases}: want 1 or more")
    if arguments.seed is None:
        arguments.seed = random.randint(0, MAX_SEED)  # noqa: S311 -- not for secrets
    elif not 0 <= arguments.seed <= MAX_SEED:
        parser.error(f"--seed {arguments.seed}: want 0 to {MAX_SEED}")
    return arguments


def _report(seed: int, outcome: Outcome, seconds: float) -> None:
    answers = sorted(outcome.responses.items())
    print(*(f"{number:6} {operation} {status}" for (operation, status), number in answers), sep="\n")
    print(*outcome.findings, sep="\n\n")
    print(f"seed {seed}: {outcome.cases} requests, {len(outcome.findings)} findings, {seconds:.0f} s")


def main(words: list[str] | None = None) -> int:
    """Return 0 if nothing is found, else 1."""
    arguments = _arguments(words)
    total, seed, started = Outcome(), arguments.seed, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        servers = EmbeddedServers(Path(scratch) / "servers")
        try:
            addresses = servers.wait_until_ready()
            quiet = {"LOG_LEVEL": "WARNING", "ADMIN_API_KEY": KEY}
            with service(Path(scratch), **LIMITS, **quiet, **addresses) as running:
                while total.cases < arguments.cases and not total.findings:
                    print(f"round with seed {seed}", flush=True)
                    total.add(fuzz(running.url, seed=seed, examples=EXAMPLES, key=KEY))
                    seed += 1
        finally:
            servers.stop()
    _report(arguments.seed, total, time.monotonic() - started)
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())
