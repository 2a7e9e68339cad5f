"""`make fuzz`: Schemathesis against the real service, with servers of its own, until 10,000 requests have been made."""

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tests.fuzz.fuzzing import LIMITS, Outcome, fuzz

KEY = "a key for the fuzzer only"
CASES = 10_000
# Of a round and operation. Later rounds have other seeds: what depends on the order of requests comes in other orders.
EXAMPLES = 100
MAX_SEED = 2**32 - 1


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES, help="requests to make at least (default %(default)s)")
    parser.add_argument("--seed", type=int, help="seed of the first round, one more in each later one (default random)")
    parser.add_argument(
        "--examples", type=int, default=EXAMPLES, help="random requests of a round and operation (default %(default)s)"
    )
    parser.add_argument("--url", help="address of a service that runs already; everything it stores is kept")
    parser.add_argument("--key", default=KEY, help="its ADMIN_API_KEY")
    arguments = parser.parse_args(words)
    for name in ("cases", "examples"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} {getattr(arguments, name)}: want 1 or more")
    if arguments.seed is None:
        arguments.seed = random.randint(0, MAX_SEED)  # noqa: S311 -- not for secrets
    elif not 0 <= arguments.seed <= MAX_SEED:
        parser.error(f"--seed {arguments.seed}: want 0 to {MAX_SEED}")
    return arguments


@contextmanager
def _own_service(key: str) -> Iterator[str]:
    """Start the service with its servers, and yield its address."""
    from app.embedded import EmbeddedServers  # noqa: PLC0415 -- not needed for a service that runs already
    from tests.process.service import service  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        servers = EmbeddedServers(Path(scratch) / "servers")
        try:
            addresses = servers.wait_until_ready()
            quiet = {"LOG_LEVEL": "WARNING", "ADMIN_API_KEY": key}
            with service(Path(scratch), **LIMITS, **quiet, **addresses) as running:
                yield running.url
        finally:
            servers.stop()


def _run(url: str, arguments: argparse.Namespace) -> Outcome:
    """Run rounds until there are enough requests or there is a finding."""
    total, seed = Outcome(), arguments.seed
    while total.cases < arguments.cases and not total.findings:
        print(f"round with seed {seed}", flush=True)
        total.add(fuzz(url, seed=seed, examples=arguments.examples, key=arguments.key))
        seed += 1
    return total


def _leave(number: int, _frame: object) -> NoReturn:
    """End what was started, as Ctrl-C does."""
    raise SystemExit(128 + number)


def main(words: list[str] | None = None) -> int:
    """Return 0 if nothing is found, else 1."""
    arguments, started = _arguments(words), time.monotonic()
    signal.signal(signal.SIGTERM, _leave)
    if arguments.url:
        outcome = _run(arguments.url, arguments)
    else:
        with _own_service(arguments.key) as url:
            outcome = _run(url, arguments)
    for (operation, status), number in sorted(outcome.responses.items()):
        print(f"{number:6} {operation} {status}")
    print(*outcome.findings, sep="\n\n")
    seconds = time.monotonic() - started
    print(f"seed {arguments.seed}: {outcome.cases} requests, {len(outcome.findings)} findings, {seconds:.0f} s")
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
