"""Programs that the campaign starts, and ends again by their process ids."""

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from pathlib import Path

POLL_SECONDS = 0.1
MIN_PORT, MAX_PORT, BLOCK = 10_000, 32_768, 64


@dataclass
class _Ports:
    """Ports of this process that were not returned yet, and the descriptors whose locks keep its blocks."""

    left: Iterator[int] = field(default_factory=lambda: iter(()))
    locks: list[int] = field(default_factory=list)


_ports = _Ports()


class ProgramError(Exception):
    """A program is missing, does not start, or has ended early; the message says which and where its log is."""


class Program:
    """One started program; what it prints goes to `log`."""

    def __init__(self, argv: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        self.name = Path(argv[0]).name
        with log.open("wb") as output:
            # A session of its own: Ctrl-C reaches the campaign only, which ends its programs in order.
            self._process = subprocess.Popen(
                argv,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise ProgramError if the program has ended."""
        status = self._process.poll()
        if status is not None:
            text = self.log.read_text(errors="replace").strip()
            raise ProgramError(f"{self.name} ended with status {status}; its log, {self.log}, ends:\n{text[-2000:]}")

    async def wait(self, patience: float) -> int:
        """Return the exit status; kill the program after `patience` seconds."""
        try:
            return await asyncio.to_thread(self._process.wait, patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return await asyncio.to_thread(self._process.wait)

    async def stop(self, patience: float = 30.0, how: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; return its exit status."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        return await self.wait(patience)


def find(*names: str) -> str:
    """Return the first of these commands that is on PATH; raise ProgramError if none is."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise ProgramError(
        f"{names[0]} is not on the PATH: `make loadtest` unpacks Debian's package where apt is; elsewhere install it"
    )


def free_port() -> int:
    """Return a port of the loopback that nothing listens on and that was not returned before, by any running process.

    It is below the range from which the kernel takes the ports of clients and of port 0, so none of them can take it
    before the server that it is meant for. Test runs beside each other have disjoint ports: each process locks blocks
    of them.
    """
    while True:
        for port in _ports.left:
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
                return port
        _lock_block()


def _lock_block() -> None:
    directory = Path(tempfile.gettempdir()) / f"free-ports-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    while True:
        first = secrets.choice(range(MIN_PORT, MAX_PORT - BLOCK, BLOCK))
        # A descriptor and not a file object: it stays open until the process ends, and nothing warns of that.
        lock = os.open(directory / str(first), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            _ports.locks.append(lock)
            _ports.left = iter(range(first, first + BLOCK))
            return


async def until(reached: Callable[[], object], patience: float, programs: Sequence[Program] = ()) -> bool:
    """Return True once `reached` (awaited if need be) is true, False after `patience` seconds.

    Raise ProgramError if a program ends.
    """
    deadline = time.monotonic() + patience
    while True:
        for program in programs:
            program.check()
        looked = reached()
        if await looked if isawaitable(looked) else looked:
            return True
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_SECONDS)


async def last(seconds: float, programs: Sequence[Program]) -> None:
    """Wait while `programs` run; raises ProgramError if one ends."""
    await until(lambda: False, seconds, programs)
