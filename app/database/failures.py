"""What an error of the driver means: the database is away, the connections are outdated, or a repetition is due."""

import asyncpg

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

# After these the server has done nothing, or has rolled the transaction back.
TRANSACT_AGAIN: tuple[type[Exception], ...] = FOREIGN_SESSION
READ_AGAIN: tuple[type[Exception], ...] = TRANSACT_AGAIN
