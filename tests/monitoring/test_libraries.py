"""Instrumentation of libraries below a request; a query through SQLAlchemy has exactly one span."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text
from sqlalchemy.ext import asyncio as sqlalchemy_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.process.service import ROOT

CHOSEN = """
import importlib, sys
from app.monitoring import tracing
from app.monitoring.traces.libraries import INSTRUMENTED
tracing.instrument_libraries(eval(sys.argv[1]))
for name, reference in INSTRUMENTED.items():
    module, _, kind = reference.partition(":")
    if getattr(importlib.import_module(module), kind)().is_instrumented_by_opentelemetry:
        print(name)
"""


LAZY = """
import sys
from app.monitoring import tracing
tracing.instrument_libraries(eval(sys.argv[1]))
print([name for name in ("asyncpg", "httpx", "redis", "sqlalchemy") if name in sys.modules])
exec(sys.argv[2])
from importlib import import_module
from app.monitoring.traces.libraries import INSTRUMENTED
for name, reference in INSTRUMENTED.items():
    module, _, kind = reference.partition(":")
    if module in sys.modules and getattr(sys.modules[module], kind)().is_instrumented_by_opentelemetry:
        print(name)
"""


@pytest.fixture
def url(database_url: str) -> str:
    return database_url.replace("postgresql://", "postgresql+asyncpg://")


@pytest.fixture
async def engine(spans: InMemorySpanExporter, url: str) -> AsyncIterator[AsyncEngine]:
    """Yield an engine with open connections, so that `spans` has only the spans of the test's queries."""
    # Looked up in the module, because the fixture `spans` has replaced the function there.
    made = sqlalchemy_asyncio.create_async_engine(url, pool_size=5)
    await asyncio.gather(*(query(made, 0) for _ in range(5)))
    spans.clear()
    yield made
    await made.dispose()


async def query(engine: AsyncEngine, number: int) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(f"SELECT {number}, pg_sleep(0.01)"))


def statements(spans: Iterable[ReadableSpan]) -> Counter[tuple[str, str]]:
    """Count the spans by library and statement."""
    return Counter(
        (span.instrumentation_scope.name.rpartition(".")[2], str((span.attributes or {}).get("db.statement")))
        for span in spans
        if span.instrumentation_scope and "db.statement" in (span.attributes or {})
    )


async def test_concurrent_queries_under_sqlalchemy_have_one_span_each(
    engine: AsyncEngine, spans: InMemorySpanExporter, database_url: str
) -> None:
    async def beside(number: int) -> None:
        connection = await asyncpg.connect(database_url)
        await connection.fetch(f"SELECT {number}, pg_sleep(0.01)")
        await connection.close()

    with trace.get_tracer("test").start_as_current_span("request") as request:
        await asyncio.gather(*(query(engine, number) for number in range(5)), *(beside(n) for n in range(5, 8)))
    found = spans.get_finished_spans()
    expected = {("sqlalchemy", f"SELECT {number}, pg_sleep(0.01)"): 1 for number in range(5)}
    expected |= {("asyncpg", f"SELECT {number}, pg_sleep(0.01)"): 1 for number in range(5, 8)}
    expected |= {("asyncpg", "BEGIN;"): 5, ("asyncpg", "COMMIT;"): 5}
    assert statements(found) == expected
    below = [span for span in found if span.name != "request"]
    assert {span.parent and span.parent.span_id for span in below} == {request.get_span_context().span_id}


async def test_many_rows_in_or_out_are_one_span(engine: AsyncEngine, spans: InMemorySpanExporter) -> None:
    insert, select = "INSERT INTO numbers VALUES (:n)", "SELECT generate_series(1, 200)"
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TEMPORARY TABLE numbers (n int)"))
        await connection.execute(text(insert), [{"n": 1}, {"n": 2}])
        rows = [row async for row in await connection.stream(text(select))]
    assert len(rows) == 200
    found = statements(spans.get_finished_spans())
    assert {statement.split()[0]: count for (_, statement), count in found.items()} == {
        "BEGIN;": 1,
        "CREATE": 1,
        "INSERT": 1,
        "SELECT": 1,
        "COMMIT;": 1,
    }


async def test_a_query_that_fails_has_one_span_and_the_next_one_too(
    engine: AsyncEngine, spans: InMemorySpanExporter
) -> None:
    async with engine.connect() as connection:
        for statement in ("SELECT 1 / 0", "SELECT 2"):
            try:
                await connection.execute(text(statement))
            except Exception:  # noqa: BLE001 -- division by zero, as SQLAlchemy wraps it
                await connection.rollback()
    found = statements(spans.get_finished_spans())
    assert (found["sqlalchemy", "SELECT 1 / 0"], found["sqlalchemy", "SELECT 2"]) == (1, 1)
    assert {statement for library, statement in found if library == "asyncpg"} == {"BEGIN;", "ROLLBACK;"}


async def test_an_engine_that_is_not_traced_has_the_spans_of_asyncpg(
    engine: AsyncEngine, spans: InMemorySpanExporter, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EngineTracer, "__init__", lambda *_, **__: None)
    untraced = sqlalchemy_asyncio.create_async_engine(url)
    await query(untraced, 7)
    await untraced.dispose()
    found = statements(spans.get_finished_spans())
    assert found["asyncpg", "SELECT 7, pg_sleep(0.01)"] == 1


@pytest.mark.parametrize(
    ("chosen", "disabled", "expected"),
    [
        ("None", "", ["asyncpg", "httpx", "redis", "sqlalchemy"]),
        ("('redis', 'httpx')", "", ["httpx", "redis"]),
        ("()", "", []),
        ("None", "asyncpg , redis,flask", ["httpx", "sqlalchemy"]),
        ("('redis', 'httpx')", "redis", ["httpx"]),
        ("None", "*", []),
    ],
)
def test_libraries_are_instrumented_as_chosen(chosen: str, disabled: str, expected: list[str]) -> None:
    environment = {**os.environ, "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": disabled}
    command = [sys.executable, "-c", CHOSEN, chosen]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == expected


@pytest.mark.parametrize(
    ("chosen", "statement", "expected"),
    [
        ("None", "pass", []),
        ("None", "import redis.asyncio", ["redis"]),
        ("None", "from sqlalchemy.ext.asyncio import create_async_engine", ["sqlalchemy"]),
        ("None", "import asyncpg, httpx", ["asyncpg", "httpx"]),
        # The instrumentation imports the library before it is complete itself.
        ("None", "from opentelemetry.instrumentation.redis import RedisInstrumentor", ["redis"]),
        ("('httpx',)", "import redis, httpx", ["httpx"]),
    ],
)
def test_a_library_is_instrumented_as_soon_as_it_is_imported_and_not_before(
    chosen: str, statement: str, expected: list[str]
) -> None:
    command = [sys.executable, "-W", "error", "-c", LAZY, chosen, statement]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", *expected]


def test_a_function_that_the_application_imports_by_name_is_the_instrumented_one() -> None:
    statement = (
        "from sqlalchemy.ext.asyncio import create_async_engine; print(hasattr(create_async_engine, '__wrapped__'))"
    )
    command = [sys.executable, "-c", LAZY, "None", statement]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines() == ["[]", "True", "sqlalchemy"]


def test_an_instrumentation_that_fails_is_logged_and_the_import_succeeds() -> None:
    statement = "import opentelemetry.instrumentation.redis as i; i.RedisInstrumentor.instrument = lambda self: 1 / 0"
    command = [sys.executable, "-c", f"{statement}; sys = __import__('sys'); del sys.modules['redis']\n{LAZY}", "None"]
    done = subprocess.run([*command, "import redis"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert "library_not_instrumented" in done.stdout
    assert "ZeroDivisionError" in done.stdout
