"""Names the mistakes of operators that PostgreSQL reports: a wrong login, a missing database or right."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import asyncpg

from dispatcher.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def operator_mistakes() -> Iterator[None]:
    """Raise `OperatorError`, with what to do, for refusals that only the operator can end."""
    try:
        yield
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
        # Its subclass InvalidPasswordError included.
        raise OperatorError(f"PostgreSQL refuses the connection: {error}; look at database.url") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise OperatorError(
            f"{error}: log in as the schema's owner, or as a member of the role dispatcher_daemon "
            "(outbox_producer suffices for `dispatcher emit`)"
        ) from error
    except asyncpg.ClientConfigurationError as error:
        raise OperatorError(f"database.url: {error}") from error
    except asyncpg.UndefinedTableError as error:
        raise OperatorError(f"{error}: run `dispatcher migrate`") from error
