"""Fixtures of the shop: an environment with the wheel and its libraries, data stores, Sentry and a span collector."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import pytest

from tests.adoption.running import adopted
from tests.adoption.spans import Spans, receiving_spans
from tests.monitoring.requests.sentry_receiver import Receiver, receiving
from tests.wheel import environment
from tests.wheel.environment import Environment


class Warehouse(BaseHTTPRequestHandler):
    """A stub of the warehouse API: seven of each article are in stock."""

    def do_GET(self) -> None:
        body = b'{"left": 7}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Do not log."""


@pytest.fixture(scope="session")
def shop_environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = environment.make(tmp_path_factory.mktemp("wheel"))
    made.add("sqlalchemy[asyncio]")
    return made


@pytest.fixture(scope="session")
def warehouse() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Warehouse) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


@pytest.fixture
def sentry() -> Iterator[Receiver]:
    """Yield the server behind the shop's Sentry DSN."""
    with receiving() as server:
        yield server


@pytest.fixture
def exported() -> Iterator[Spans]:
    """Yield the spans that the shop exports."""
    with receiving_spans() as received:
        yield received


@pytest.fixture
async def stores(empty_database_url: str, redis_url: str, warehouse: str, sentry: Receiver) -> dict[str, str]:
    """Create the shop's tables and return its environment variables."""
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute("CREATE TABLE articles (name varchar(40) PRIMARY KEY, price float NOT NULL)")
    await connection.execute("INSERT INTO articles VALUES ('mask', 64), ('sarong', 8)")
    await connection.close()
    return {
        "SHOP_DATABASE_URL": empty_database_url.replace("postgresql://", "postgresql+asyncpg://"),
        "SHOP_REDIS_URL": redis_url,
        "SHOP_WAREHOUSE_URL": warehouse,
        "SENTRY_DSN": sentry.dsn,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@pytest.fixture
def shop_directory(tmp_path: Path) -> Path:
    """Return a directory with a patched copy of the shop."""
    return adopted(tmp_path)
