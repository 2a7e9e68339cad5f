"""Instrumentation of the libraries that make spans below a request.

A query under SQLAlchemy has SQLAlchemy's span alone: asyncpg makes none on the connections of an engine that is traced,
except for what SQLAlchemy has no span for.
"""

import importlib.util
import os
from collections.abc import Callable, Collection
from typing import Any, Final
from weakref import WeakSet

from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"
INSTRUMENTED: Final = {
    "asyncpg": "opentelemetry.instrumentation.asyncpg:AsyncPGInstrumentor",
    "httpx": "opentelemetry.instrumentation.httpx:HTTPXClientInstrumentor",
    "redis": "opentelemetry.instrumentation.redis:RedisInstrumentor",
    "sqlalchemy": "opentelemetry.instrumentation.sqlalchemy:SQLAlchemyInstrumentor",
}
"""Instrumentors by the name that OpenTelemetry gives them."""
# asyncpg's connections of SQLAlchemy's traced engines.
_of_sqlalchemy: WeakSet[Any] = WeakSet()


def disabled_instrumentations() -> frozenset[str]:
    """Return the names in OTEL_PYTHON_DISABLED_INSTRUMENTATIONS; all supported ones for `*`."""
    names = frozenset(name.strip() for name in os.environ.get(DISABLED, "").split(","))
    return names | {*INSTRUMENTED, "fastapi"} if "*" in names else names


def instrument_libraries(libraries: Collection[str] | None = None) -> None:
    """Instrument the installed ones of `libraries`, once in a process; None means all supported ones.

    Those in OTEL_PYTHON_DISABLED_INSTRUMENTATIONS are left out. Call it before the application is imported: `from
    sqlalchemy.ext.asyncio import create_async_engine` keeps the function as it is then.
    """
    chosen = (INSTRUMENTED.keys() if libraries is None else set(libraries)) - disabled_instrumentations()
    made = {library: _instrumentor(library) for library in INSTRUMENTED if library in chosen}
    waiting = {
        library: instrumentor
        for library, instrumentor in made.items()
        if instrumentor is not None and not instrumentor.is_instrumented_by_opentelemetry
    }
    if "asyncpg" in waiting and made.get("sqlalchemy") is not None:
        _leave_queries_to_sqlalchemy(type(waiting["asyncpg"]))
    for instrumentor in waiting.values():
        instrumentor.instrument()


def _instrumentor(library: str) -> BaseInstrumentor | None:
    """Return the instrumentor of `library`, None if either is not installed."""
    module, _, name = INSTRUMENTED[library].partition(":")
    # The library first: find_spec of a submodule raises if its parent package is missing.
    if importlib.util.find_spec(library) is None or importlib.util.find_spec(module) is None:
        return None
    instrumentor: BaseInstrumentor = getattr(importlib.import_module(module), name)()
    return instrumentor


def _leave_queries_to_sqlalchemy(instrumentor: Any) -> None:
    """Change the classes of both instrumentations, once, before asyncpg's is in use.

    SQLAlchemy's span is not the current one while its query runs, so a connection is recognized, not a context. Its
    adapter executes statements as prepared ones, by cursors and by `executemany`; BEGIN, COMMIT and ROLLBACK, which
    have no span of SQLAlchemy, go through `execute`.
    """
    from opentelemetry.instrumentation.sqlalchemy.engine import EngineTracer  # noqa: PLC0415 -- may be missing

    tracer: Any = EngineTracer
    if getattr(tracer, "_notes_connections", False):
        return
    connected = tracer._pool_connect  # noqa: SLF001 -- see the versions in pyproject.toml

    def pool_connect(self: Any, connection: Any, record: Any) -> None:
        driver = getattr(connection, "driver_connection", None)
        if type(driver).__module__.partition(".")[0] == "asyncpg":
            _of_sqlalchemy.add(driver)
        connected(self, connection, record)

    tracer._pool_connect = pool_connect  # noqa: SLF001
    tracer._notes_connections = True  # noqa: SLF001
    for method in ("_do_prepared_execute", "_do_cursor_execute", "_do_execute"):
        setattr(instrumentor, method, _except_for_sqlalchemy(getattr(instrumentor, method)))


def _except_for_sqlalchemy(traced: Callable[..., Any]) -> Callable[..., Any]:
    """Return `traced`, a wrapper of one of asyncpg's functions, without spans for what SQLAlchemy executes."""
    whole_connection = traced.__name__ == "_do_execute"

    async def execute(self: Any, function: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        connection = instance if whole_connection else instance._connection  # noqa: SLF001 -- asyncpg has no other way
        left = not whole_connection or function.__name__ == "executemany"
        if left and connection in _of_sqlalchemy:
            return await function(*args, **kwargs)
        return await traced(self, function, instance, args, kwargs)

    return execute
