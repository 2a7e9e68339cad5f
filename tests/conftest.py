"""Real servers for every test: one PostgreSQL and one Redis for the session, a fresh database for each test."""

import compileall
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis
from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from app.database.migrate import migrate
from app.database.pool import Database
from app.embedded import EmbeddedServers
from app.main import create_app
from app.observability import NAMESPACE
from app.settings import Settings
from tests import coverage_forks  # noqa: F401 -- for its effect
from tests.fixtures import anyio_backend, exporter, maker, running, spans

__all__ = ["anyio_backend", "exporter", "maker", "running", "spans"]

# Tests make metrics without an application too, and look for them by the service's names.
os.environ["METRICS_NAMESPACE"] = NAMESPACE
ADMIN_KEY = "a key for the tests only"
ROOT = Path(__file__).parents[1]
# Set by coverage for the programs that a measured process starts.
COVERAGE_OF_PROGRAMS = "COVERAGE_PROCESS_CONFIG"
# The tests whose programs are measured too: together they run what no test runs in its own process. Measuring takes
# half as much CPU time again, most of it at the start of a program.
MEASURED = {
    "monitoring/doctor/test_command.py",
    "monitoring/doctor/test_configuration.py",
    "monitoring/doctor/test_start.py",
    "monitoring/multiprocess/test_companion.py",
    "monitoring/multiprocess/test_exporter.py",
    "monitoring/test_log_hooks.py",
    "monitoring/test_log_loguru.py",
    "process/test_exits.py",
    "process/test_standalone.py",
    "test_embedded.py",
}
Application = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


# Tests that wait for a service more than they compute.
SLOW = ("dashboards", "telemetry", "process", "loadtest", "chaos", "k8s", "alerts", "adoption", "wheel")


# The tests of these files look at one and the same traffic, which takes half a minute: one process has all of them.
OF_TRAFFIC = {f"tests/telemetry/test_{name}.py" for name in ("redaction", "sampling", "signals")}


class ByFile(LoadFileScheduling):  # type: ignore[misc] # has no types
    """Gives each process whole files, and the files that share what is slow to make to one process."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "traffic" if file in OF_TRAFFIC else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Deal the tests out with `ByFile`, which takes the place of --dist loadfile."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slow directories first: a slow file that is dealt out last keeps one process busy and the others idle."""
    here = Path(__file__).parent
    items.sort(key=lambda item: item.path.relative_to(here).parts[0] not in SLOW)


def pytest_configure(config: pytest.Config) -> None:
    """Compile the service before the tests start it, which PYTHONDONTWRITEBYTECODE leaves to each of its processes."""
    if not hasattr(config, "workerinput"):
        for name in ("app", "loadtest"):
            compileall.compile_dir(ROOT / name, quiet=2)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the tests' bytecode for the other processes and the next run. Modules that tests write are not kept."""
    kept = sys.dont_write_bytecode
    sys.dont_write_bytecode = False
    try:
        return (yield)
    finally:
        sys.dont_write_bytecode = kept


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Leave the programs that a test starts unmeasured, unless its file is one of MEASURED."""
    measuring = os.environ.get(COVERAGE_OF_PROGRAMS)
    if measuring is None or str(item.path.relative_to(Path(__file__).parent)) in MEASURED:
        return (yield)
    del os.environ[COVERAGE_OF_PROGRAMS]
    try:
        return (yield)
    finally:
        os.environ[COVERAGE_OF_PROGRAMS] = measuring


@pytest.fixture(scope="session", autouse=True)
def _plain_environment() -> Iterator[None]:
    """Remove the settings of the shell that runs the tests from the environment of the service under test."""
    kept = dict(os.environ)
    for name in Settings.model_fields:
        os.environ.pop(name.upper(), None)
    yield
    os.environ.clear()
    os.environ.update(kept)


# A new database costs a fifth of the CPU time there. Containers often have 64 MB of it.
MEMORY = Path("/dev/shm")  # noqa: S108
IN_MEMORY = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2 * 2**30
# Without copies of the new pages in the write-ahead log, which grows to a gigabyte.
STRATEGY = "FILE_COPY" if IN_MEMORY else "WAL_LOG"


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """Yield a directory for servers' data, in memory if there is enough, with a path that suits Unix sockets."""
    path = Path(tempfile.mkdtemp(prefix="bali-", dir=MEMORY if IN_MEMORY else None))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def servers(scratch: Path) -> Iterator[dict[str, str]]:
    """Yield DATABASE_URL and REDIS_URL of the session's servers."""
    embedded = EmbeddedServers(scratch / "session")
    yield embedded.wait_until_ready()
    embedded.stop()


def database_named(url: str, name: str) -> str:
    """Return `url` with another database of the same server."""
    return url.replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="session")
async def template(servers: dict[str, str], anyio_backend: Any) -> str:
    """Return the name of a migrated database that each test's own is copied from."""
    connection = await asyncpg.connect(servers["DATABASE_URL"])
    await connection.execute("CREATE DATABASE template_bali")
    await connection.close()
    database = Database(database_named(servers["DATABASE_URL"], "template_bali"))
    await database.open()
    await migrate(database)
    await database.close()
    return "template_bali"


@asynccontextmanager
async def own_database(url: str, template: str) -> AsyncIterator[str]:
    """Yield the address of a new database on the server at `url`, a copy of `template`; drop it afterwards."""
    connection = await asyncpg.connect(url)
    name = f"test_{os.urandom(6).hex()}"
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY {STRATEGY}")
    yield database_named(url, name)
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def database_url(servers: dict[str, str], template: str) -> AsyncIterator[str]:
    """Yield the address of a migrated database of the test's own."""
    async with own_database(servers["DATABASE_URL"], template) as url:
        yield url


@pytest.fixture
async def empty_database_url(servers: dict[str, str], anyio_backend: Any) -> AsyncIterator[str]:
    """Yield the address of an empty database of the test's own."""
    async with own_database(servers["DATABASE_URL"], "template1") as url:
        yield url


@pytest.fixture
async def redis_url(servers: dict[str, str], anyio_backend: Any) -> str:
    """Return the address of the session's Redis, emptied."""
    client = Redis.from_url(servers["REDIS_URL"])
    await client.flushall()
    await client.aclose()
    return servers["REDIS_URL"]


@pytest.fixture
def addresses(database_url: str, redis_url: str) -> dict[str, str]:
    """Return DATABASE_URL and REDIS_URL for one started service."""
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Yield an open pool on the test's database."""
    opened = Database(database_url)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def make_settings(database_url: str, redis_url: str) -> Callable[..., Settings]:
    """Return `make(**changes)`, which makes settings for the test's servers."""

    def make(**changes: Any) -> Settings:
        values: dict[str, Any] = {
            "environment": "test",
            "database_url": database_url,
            "redis_url": redis_url,
            "admin_api_key": ADMIN_KEY,
            "rate_limit_writes": "10000/minute",
            "rate_limit_ai": "10000/minute",
            "rate_limit_keys": "10000/minute",
        }
        return Settings(**{**values, **changes})

    return make


@pytest.fixture
def application(make_settings: Callable[..., Settings]) -> Application:
    """Return `application(**changes)`, a context manager: it runs the real application and yields a client."""

    @asynccontextmanager
    async def run(peer: tuple[str, int] = ("127.0.0.1", 40_000), **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        async with running(create_app(make_settings(**changes)), peer) as client:
            yield client

    return run


@pytest.fixture
async def client(application: Application) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the application with the settings for tests."""
    async with application() as opened:
        yield opened
