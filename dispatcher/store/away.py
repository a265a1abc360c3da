"""The one place that says which of the driver's errors mean that PostgreSQL is away."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import asyncpg

from dispatcher.core.errors import DatabaseUnavailable

_AWAY: Final = (
    OSError,  # includes TimeoutError and every refused or reset connection
    asyncpg.InternalClientError,  # it is being closed: the FATAL was read, the end of the stream was not
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, crash, cannot connect now, cancelled by an administrator
    asyncpg.InsufficientResourcesError,  # disk full, out of memory, too many connections
    asyncpg.ReadOnlySQLTransactionError,  # a standby, or a server that was told to be one
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,  # a deadlock with an operator's transaction: it was undone
)


def unavailable(error: BaseException) -> DatabaseUnavailable | None:
    """Give what an error means where it means that PostgreSQL is away; None otherwise.

    The driver has one error, `InterfaceError`, for a connection that is closed, or dying in the midst of a
    statement, and for calls that are wrong in themselves. Only the latter have a hint for whoever wrote them,
    such as the one about an argument too many, or are values that do not fit.
    """
    if isinstance(error, DatabaseUnavailable):
        return error
    closed = isinstance(error, asyncpg.InterfaceError) and not (error.hint or isinstance(error, ValueError))
    if not closed and not isinstance(error, _AWAY):
        return None
    return DatabaseUnavailable(f"{type(error).__name__}: {str(error) or 'no answer in time'}")


@contextlib.contextmanager
def unavailable_when_away() -> Iterator[None]:
    """Raise `DatabaseUnavailable` for what means that PostgreSQL is away; see `unavailable`."""
    try:
        yield
    except Exception as error:
        away = unavailable(error)
        if away is None or away is error:
            raise
        raise away from error
