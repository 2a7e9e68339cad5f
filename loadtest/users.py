"""Locust as a program: started headless, ended in order so that no request is cut off, and its ledger read."""

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app.settings import ROOT
from loadtest import ledger
from loadtest.ledger import Ledger
from loadtest.programs import Program, ProgramError, until

RECORDING, VISITORS = ROOT / "loadtest" / "recording.py", ROOT / "loadtest" / "locustfile.py"
STOP_TIMEOUT_SECONDS = 30
ARRIVALS_PER_SECOND = 10
FIRST_REQUEST_SECONDS = 30.0


@dataclass(frozen=True)
class Export:
    """The loopback port on which Locust exposes its metrics, and their labels."""

    port: int
    run: str
    scenario: str

    def arguments(self) -> list[str]:
        """Return the arguments of Locust."""
        return ["--metrics-port", str(self.port), "--run-id", self.run, "--scenario", self.scenario]


class Users:
    """The users of one scenario. `ledger` is complete once they have left."""

    def __init__(
        self,
        directory: Path,
        url: str,
        users: int,
        longest: float,
        locustfile: Path = VISITORS,
        export: Export | None = None,
    ) -> None:
        self._path = directory / "ledger"
        argv: list[str | Path] = [
            *(sys.executable, "-m", "locust", "--locustfile", f"{RECORDING},{locustfile}"),
            *("--headless", "--only-summary", "--host", url),
            *("--users", str(users), "--spawn-rate", str(ARRIVALS_PER_SECOND)),
            # An upper bound; the scenario usually ends it before.
            *("--run-time", f"{longest:.0f}s", "--stop-timeout", str(STOP_TIMEOUT_SECONDS)),
            # Failures are judged by the campaign: in a scenario of errors they are what is wanted.
            *("--exit-code-on-error", "0"),
            *("--html", directory / "locust.html", "--ledger", self._path),
            *(export.arguments() if export else ()),
        ]
        self.program = Program(argv, directory / "locust.log")
        self.ledger = Ledger()

    def files(self) -> list[Path]:
        """Return the files that the clients have written."""
        return sorted(self._path.parent.glob(f"{self._path.name}.*.jsonl"))

    async def leave(self) -> None:
        """Let every user finish its request, and read what they wrote; raises ProgramError."""
        status = await self.program.stop(STOP_TIMEOUT_SECONDS + 10, signal.SIGUSR1)
        if status != 0:
            raise ProgramError(f"Locust ended with status {status}: see {self.program.log}")
        try:
            self.ledger = ledger.read(self.files())
        except ValueError as error:
            raise ProgramError(str(error)) from error


@asynccontextmanager
async def users(
    directory: Path,
    url: str,
    count: int,
    longest: float,
    locustfile: Path = VISITORS,
    export: Export | None = None,
) -> AsyncIterator[Users]:
    """Run users of `locustfile` that send requests until the block ends."""
    arrived = Users(directory, url, count, longest, locustfile, export)
    try:
        if not await until(arrived.files, FIRST_REQUEST_SECONDS, [arrived.program]):
            raise ProgramError(f"Locust sent nothing within {FIRST_REQUEST_SECONDS:g} s: see {arrived.program.log}")
        yield arrived
        await arrived.leave()
    finally:
        await arrived.program.stop()
