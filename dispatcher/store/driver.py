"""One connection to PostgreSQL: what its session is told, and how each side notices the other's end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Mapping
from types import MappingProxyType, SimpleNamespace
from typing import Any, ClassVar, Final

import asyncpg

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.errors import DatabaseUnavailable
from dispatcher.store.away import unavailable_when_away

# The server closes dead peers' sessions by itself, which frees their locks.
SERVER_SETTINGS: Final = {
    "timezone": "UTC",
    "standard_conforming_strings": "on",  # schema.sql is written in it
    "search_path": "public",  # whatever the role or the database has set, and "$user" may be a schema
    "jit": "off",  # compiling costs more than any of our statements
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "60s",
}

# A request leaves only after its delivery is durable, whatever server, database or role have set. Whoever
# asks for less or more of standbys (`local`, `remote_write`, `remote_apply`) is heard: all these flush here.
_DURABLE: Final = """
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'
"""

NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})

# The same on our side. What is unacknowledged for so long is lost: a statement may take longer than that, its
# acknowledgement may not.
_CLIENT_TCP: Final = {
    socket.TCP_KEEPIDLE: 5,
    socket.TCP_KEEPINTVL: 2,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 5_000,
}


# Arrays of bytea, integer, text, bigint, date and timestamptz: their numbers are the same on every server.
_ARRAYS: Final = frozenset({1001, 1007, 1009, 1016, 1182, 1185})
_ASKED_BEFORE: Final = SimpleNamespace(name="asked before")


class Watched(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that breaks within seconds when the other side is gone without a word."""

    _arrays: ClassVar[Any] = None

    async def _introspect_types(self, typeoids: Iterable[int], timeout: float) -> Any:  # noqa: ASYNC109 - theirs
        """Ask once what common arrays are, not on each connection: it is three statements, 10 ms.

        The driver's own method: what it gives comes with the statement that asked, which had a name if it
        replaced no other.
        """
        if not _ARRAYS.issuperset(typeoids):
            return await super()._introspect_types(typeoids, timeout)
        if Watched._arrays is not None:
            return Watched._arrays, _ASKED_BEFORE
        Watched._arrays, statement = await super()._introspect_types(_ARRAYS, timeout)
        return Watched._arrays, statement

    def get_reset_query(self) -> str:
        """Give what is run when a pooled connection is given back: it resets the session's settings."""
        return f"{super().get_reset_query()}\n{_DURABLE}"

    def __init__(self, protocol: Any, transport: asyncio.Transport, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        connected = transport.get_extra_info("socket")
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in _CLIENT_TCP.items():
                connected.setsockopt(socket.IPPROTO_TCP, option, value)


async def connect(
    url: str, *, name: str, config: DatabaseConfig, settings: Mapping[str, str] = NO_SETTINGS
) -> asyncpg.Connection:
    """Open one connection; `name` is what `pg_stat_activity` shows, `settings` are the session's.

    Raises `DatabaseUnavailable`.
    """
    with unavailable_when_away():
        connection = await asyncpg.connect(
            url,
            timeout=config.connect_timeout_s,
            command_timeout=config.statement_timeout_s,
            # By itself the driver forgets statements after five minutes: the first alert after a quiet hour
            # would wait until PostgreSQL has planned again.
            max_cached_statement_lifetime=0,
            connection_class=Watched,
            server_settings={"application_name": f"dispatcher {name}", **SERVER_SETTINGS, **settings},
        )
        try:
            await make_durable(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection


async def make_durable(connection: asyncpg.Connection) -> None:
    """Let what the session commits be flushed before it is answered, where it would not be."""
    await connection.execute(_DURABLE)


async def hang_up(connection: asyncpg.Connection) -> None:
    """Close a connection, in a moment and without a word where PostgreSQL is away."""
    try:
        with unavailable_when_away():
            await connection.close(timeout=2)
    except DatabaseUnavailable:
        connection.terminate()
