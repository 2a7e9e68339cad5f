"""Kinds of the driver's errors: the database is away, connections are outdated, or a repetition is due."""

import re

import asyncpg

from app.database.turns import PoolTimeoutError
from app.metrics import QueryError

# Errors of the connection or the server, not of the statement. asyncpg raises InterfaceError for a connection that was
# closed during its use.
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, in recovery, a query cancelled
    asyncpg.InsufficientResourcesError,  # connections, memory, disk
    asyncpg.PostgresSystemError,
    asyncpg.InvalidAuthorizationSpecificationError,  # a password is being changed
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, in the middle of a failover
    # The server has ended a session that took too long.
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.LockNotAvailableError,  # lock_timeout
    asyncpg.TransactionRollbackError,  # a deadlock, a serialization failure
    asyncpg.InvalidCachedStatementError,  # a migration has changed the table under a transaction
    asyncpg.UndefinedTableError,  # the migrations have not run yet
    asyncpg.InvalidSQLStatementNameError,  # a pooler has given the connection another session of the server
    asyncpg.DuplicatePreparedStatementError,
)

FOREIGN_SESSION = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
"""A named statement is unknown or known already: several connections share a session of the server."""

OTHER_PRIMARY = (
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
)
"""The server is no longer the primary, or leaves: connections to it are of no use, and another may have its address."""

# The first that fits counts: TimeoutError is an OSError, and QueryCanceledError an OperatorInterventionError.
_REASONS: tuple[tuple[QueryError, tuple[type[Exception], ...]], ...] = (
    (
        "timeout",
        (
            TimeoutError,
            asyncpg.QueryCanceledError,
            asyncpg.IdleInTransactionSessionTimeoutError,
            asyncpg.TransactionTimeoutError,
        ),
    ),
    ("read_only", (asyncpg.ReadOnlySQLTransactionError,)),
    ("conflict", (asyncpg.TransactionRollbackError, asyncpg.LockNotAvailableError)),
    ("resources", (asyncpg.InsufficientResourcesError, asyncpg.PostgresSystemError)),
    (
        "connection_lost",
        (
            OSError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
        ),
    ),
    ("schema", (asyncpg.UndefinedTableError, *FOREIGN_SESSION)),
    ("statement", (asyncpg.PostgresError,)),
)

# PostgreSQL has no code for these. It raises them by elog, whose messages are not translated.
_CATALOGUE_CHANGED = re.compile(r"cache lookup failed for |could not open relation with OID |tuple concurrently ")


def schema_has_changed(error: BaseException) -> bool:
    """Return True if what is known of the schema is older than the schema: cached statements, types and their fields.

    An operator that does not exist is one of these errors: a statement is kept with the types of its parameters. If the
    statement is wrong, the error comes again.
    """
    if isinstance(error, asyncpg.InternalServerError):
        return _CATALOGUE_CHANGED.match(str(error)) is not None
    outdated = asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError
    return isinstance(error, (*outdated, asyncpg.UndefinedFunctionError, asyncpg.DatatypeMismatchError))


def is_away(error: BaseException) -> bool:
    """Return True if the same request may succeed later, unchanged."""
    if isinstance(error, asyncpg.InternalServerError):
        return schema_has_changed(error)
    return isinstance(error, AWAY)


def is_undone(error: BaseException | None) -> bool:
    """Return True if the server has done nothing or has rolled the transaction back, and a repetition may succeed."""
    if error is None or isinstance(error, asyncpg.StatementCompletionUnknownError):
        return False
    known = *FOREIGN_SESSION, asyncpg.TransactionRollbackError, asyncpg.ReadOnlySQLTransactionError
    return isinstance(error, known) or schema_has_changed(error)


def reason_of(error: Exception, *, connected: bool) -> QueryError | None:
    """Return the kind of an error for the metrics; None if it is none of the driver's.

    Without a connection (not `connected`) each error is a failure to get one.
    """
    if isinstance(error, PoolTimeoutError):
        return "pool_timeout"
    if not connected:
        return "connect_failed"
    if schema_has_changed(error):
        return "schema"
    return next((reason for reason, kinds in _REASONS if isinstance(error, kinds)), None)
