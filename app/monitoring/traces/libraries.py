"""Instrumentation of the libraries that make spans below a request.

A query under SQLAlchemy has SQLAlchemy's span alone: asyncpg makes none on the connections of an engine that is traced,
except for what SQLAlchemy has no span for.
"""

import importlib
import os
import sys
from collections.abc import Callable, Collection
from functools import partial
from importlib.util import find_spec
from typing import Any, Final
from weakref import WeakSet

import structlog
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)

from .imports import when_imported

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

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("tracing")


def disabled_instrumentations() -> frozenset[str]:
    """Return the names in OTEL_PYTHON_DISABLED_INSTRUMENTATIONS; all supported ones for `*`."""
    names = frozenset(name.strip() for name in os.environ.get(DISABLED, "").split(","))
    return names | {*INSTRUMENTED, "fastapi"} if "*" in names else names


def instrument_libraries(libraries: Collection[str] | None = None) -> None:
    """Instrument each of `libraries` once, as soon as it is imported; None means all supported ones.

    Nothing is imported for it: a library that the application does not use costs a worker nothing. Those in
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS are left out. Call it before the application is imported: `from
    sqlalchemy.ext.asyncio import create_async_engine` keeps the function as it is then.
    """
    chosen = (INSTRUMENTED.keys() if libraries is None else set(libraries)) - disabled_instrumentations()
    for library in INSTRUMENTED:
        if library not in chosen:
            continue
        instrument = partial(_instrument, library, beside_sqlalchemy="sqlalchemy" in chosen)
        module, _, _ = INSTRUMENTED[library].partition(":")
        when_imported(library, instrument)
        # An application may import the instrumentation itself, which imports the library before it is complete.
        when_imported(module, instrument)
        if library in sys.modules:
            instrument()


def _instrument(library: str, *, beside_sqlalchemy: bool) -> None:
    """Instrument an imported library, unless its instrumentation is missing or is being imported. Never raises."""
    name, _, kind = INSTRUMENTED[library].partition(":")
    try:
        if find_spec(name) is None:
            return
        module = sys.modules.get(name) or importlib.import_module(name)
        made: type[BaseInstrumentor] | None = getattr(module, kind, None)
        if made is None:  # its own hook follows
            return
        instrumentor = made()
        if instrumentor.is_instrumented_by_opentelemetry:
            return
        if library == "sqlalchemy":
            _note_connections()
        if library == "asyncpg" and beside_sqlalchemy:
            _leave_queries_to_sqlalchemy(made)
        hooks: dict[str, Any] = {}
        if library == "httpx":
            from .propagation import note_async_call, note_call  # noqa: PLC0415 -- reads OTEL_PROPAGATORS

            hooks = {"request_hook": note_call, "async_request_hook": note_async_call}
        instrumentor.instrument(**hooks)
    except Exception:  # the application's import must not fail
        log.exception("library_not_instrumented", library=library)


def _note_connections() -> None:
    """Change SQLAlchemy's instrumentation, once: it notes the connections of asyncpg of the engines that it traces.

    SQLAlchemy's span is not the current one while its query runs, so a connection is recognized, not a context.
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


def _leave_queries_to_sqlalchemy(instrumentor: Any) -> None:
    """Change asyncpg's instrumentation, once, before it is in use.

    SQLAlchemy's adapter executes statements as prepared ones, by cursors and by `executemany`; BEGIN, COMMIT and
    ROLLBACK, which have no span of SQLAlchemy, go through `execute`.
    """
    if getattr(instrumentor, "_leaves_queries", False):
        return
    for method in ("_do_prepared_execute", "_do_cursor_execute", "_do_execute"):
        setattr(instrumentor, method, _except_for_sqlalchemy(getattr(instrumentor, method)))
    instrumentor._leaves_queries = True  # noqa: SLF001


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
