"""Connections to PostgreSQL: few, dedicated, long-held.

A `Link` is one connection that belongs to one loop. It connects when it is first used, and again after
it broke; every failure that means "PostgreSQL is away" is raised as `DatabaseUnavailable`, and the loop
that owns the link decides how long to wait. asyncpg runs one statement at a time on a connection; so
does a link, and a second caller waits for its turn. When one link gets no answer in time, the others drop
what they have not heard of since.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Final, NamedTuple

import asyncpg

from dispatcher.config import Database as DatabaseConfig
from dispatcher.core.errors import DatabaseUnavailable
from dispatcher.store.away import unavailable, unavailable_when_away
from dispatcher.store.driver import NO_SETTINGS, SERVER_SETTINGS, Watched, connect, hang_up, make_durable
from dispatcher.store.queries import QUERIES
from dispatcher.store.silence import Silence

# What the sessions of tail and backlog ask of the planner: to follow indexes, in their order. Their
# statements are planned once for all positions (planning over all partitions costs more than they do: 5 to
# 20 ms instead of 0.3), and the planner cannot know that nearly nothing lies beyond
# one: left alone it prefers, as soon as the statistics say that the tables have grown, to read two days of
# them and to sort or hash what is left (measured: 80 ms instead of 0.3 at 75,000 rows).
INDEXED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_bitmapscan": "off",
        "enable_sort": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "enable_material": "off",
        "enable_memoize": "off",
    }
)


class _OneAtATime(abc.ABC):
    """Named queries on one connection."""

    @abc.abstractmethod
    def use(self) -> contextlib.AbstractAsyncContextManager[asyncpg.Connection]:
        """Hold the connection."""

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Run the named query and give its rows."""
        async with self.use() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(QUERIES[query], *args)
            return rows

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        """Run the named query and give its first row."""
        async with self.use() as connection:
            return await connection.fetchrow(QUERIES[query], *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run the named query and give its command tag."""
        async with self.use() as connection:
            tag: str = await connection.execute(QUERIES[query], *args)
            return tag


class Link(_OneAtATime):
    """One connection of one loop, opened on first use and again after it broke."""

    def __init__(
        self,
        url: str,
        name: str,
        config: DatabaseConfig,
        settings: Mapping[str, str] = NO_SETTINGS,
        *,
        silence: Silence | None = None,
        connected: set[Link] | None = None,
    ) -> None:
        """Make it; `silence` is shared by the links that tell each other when nobody answers.

        It stands in `connected` from its first connection until it is closed.
        """
        self._url = url
        self._name = name
        self._config = config
        self._settings = settings
        self._silence = silence or Silence()
        self._all_connected = set() if connected is None else connected
        self._connection: asyncpg.Connection | None = None
        self._asked_at = self._heard_at = 0.0
        self._turn = asyncio.Lock()

    @property
    def statement_timeout_s(self) -> float:
        """For how long a statement may take, unless it says otherwise."""
        return self._config.statement_timeout_s

    def use(self, only: asyncpg.Connection | None = None) -> _Turn:
        """Hold the connection for a block, connecting first if needed; drops it when PostgreSQL goes away.

        With `only`, no other connection than this one will do.
        """
        return _Turn(self, only)

    async def take(self, only: asyncpg.Connection | None) -> asyncpg.Connection:
        """Wait for a turn and give the connection; every turn ends with `give_back`."""
        await self._turn.acquire()
        try:
            connection = await self._connected(only)
        except BaseException:
            self._turn.release()
            raise
        self._asked_at = time.monotonic()
        return connection

    async def _connected(self, only: asyncpg.Connection | None) -> asyncpg.Connection:
        connection = self._connection
        works = self._works(connection)
        if only is not None and (connection is not only or not works):
            raise DatabaseUnavailable("the session has ended")
        if not works:
            self._all_connected.add(self)
            if connection is not None:
                connection.terminate()
                self._connection = None
            connection = self._connection = await connect(
                self._url, name=self._name, config=self._config, settings=self._settings
            )
            self._heard_at = time.monotonic()
        return connection

    def _works(self, connection: asyncpg.Connection | None) -> bool:
        """Say whether a connection of ours is open, and may be expected to answer."""
        return (
            connection is not None and not connection.is_closed() and not self._silence.covers(self._heard_at)
        )

    def give_back(self, connection: asyncpg.Connection, error: BaseException | None) -> None:
        """End a turn; raises `DatabaseUnavailable` when `error` says that PostgreSQL went away."""
        self._turn.release()
        if error is None:
            self._heard_at = time.monotonic()
        elif isinstance(error, TimeoutError):
            self._silence.kept(self._asked_at)
        away = None if error is None else unavailable(error)
        if away is not None or isinstance(error, asyncio.CancelledError):
            # Whether the statement was done is unknown, and so is the state of the session.
            self._connection = None
            connection.terminate()
        if away is not None and away is not error:
            raise away from error

    def holds(self, connection: asyncpg.Connection) -> bool:
        """Say whether this is the connection, and open."""
        return connection is self._connection and self._works(connection)

    async def session(self) -> Session:
        """Give the present connection as a session, connecting first if needed."""
        async with self.use() as connection:
            return Session(self, connection)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        self._all_connected.discard(self)
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            await hang_up(connection)


class Session(_OneAtATime):
    """One connection of a link and no other: its statements raise `DatabaseUnavailable` once it has ended.

    What was read in one session need not hold in the next: the server may have crashed in between.
    """

    def __init__(self, link: Link, connection: asyncpg.Connection) -> None:
        self._link = link
        self._connection = connection

    @property
    def ended(self) -> bool:
        """True when the link has another connection by now, or none that is open."""
        return not self._link.holds(self._connection)

    def use(self) -> _Turn:
        """Hold the connection."""
        return self._link.use(self._connection)


class _Turn:
    """Holds a link's connection for a block. A generator would cost more than some statements do."""

    __slots__ = ("_connection", "_link", "_only")

    def __init__(self, link: Link, only: asyncpg.Connection | None) -> None:
        self._link = link
        self._only = only

    async def __aenter__(self) -> asyncpg.Connection:
        connection = self._connection = await self._link.take(self._only)
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.give_back(self._connection, error)


class PoolUse(NamedTuple):
    """Connections of a pool."""

    in_use: int
    idle: int


class Database:
    """Where PostgreSQL is: makes links for loops, and holds the small pool of the management API."""

    def __init__(self, url: str, config: DatabaseConfig) -> None:
        self.url = url
        self._config = config
        self._connected: set[Link] = set()
        self._silence = Silence()
        self._pool: asyncpg.Pool | None = None
        self._pool_turn = asyncio.Lock()

    def link(self, name: str, settings: Mapping[str, str] = NO_SETTINGS) -> Link:
        """Give a dedicated connection to a loop, its session with `settings`; it opens on first use."""
        return Link(self.url, name, self._config, settings, silence=self._silence, connected=self._connected)

    async def _open_pool(self) -> asyncpg.Pool:
        async with self._pool_turn:
            if self._pool is None:
                with unavailable_when_away():
                    self._pool = await asyncpg.create_pool(
                        self.url,
                        min_size=0,
                        max_size=self._config.api_connections,
                        timeout=self._config.connect_timeout_s,
                        command_timeout=self._config.statement_timeout_s,
                        connection_class=Watched,
                        init=make_durable,
                        server_settings={"application_name": "dispatcher api", **SERVER_SETTINGS},
                    )
            return self._pool

    @property
    def pool_use(self) -> PoolUse:
        """How many connections the pool has."""
        if self._pool is None:
            return PoolUse(0, 0)
        idle = self._pool.get_idle_size()
        return PoolUse(self._pool.get_size() - idle, idle)

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[asyncpg.Connection]:
        """Borrow a pooled connection; raises `DatabaseUnavailable` rather than wait for ever."""
        pool = self._pool or await self._open_pool()
        with unavailable_when_away():
            async with pool.acquire(timeout=self._config.connect_timeout_s) as connection:
                yield connection

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Run the named query on a pooled connection and give its rows."""
        async with self.acquire() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(QUERIES[query], *args)
            return rows

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        """Run the named query on a pooled connection and give its first row."""
        async with self.acquire() as connection:
            return await connection.fetchrow(QUERIES[query], *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run the named query on a pooled connection and give its command tag."""
        async with self.acquire() as connection:
            tag: str = await connection.execute(QUERIES[query], *args)
            return tag

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Database]:
        """Give a view of the database in which everything is one transaction, undone if the block raises."""
        async with self.acquire() as connection, connection.transaction():
            yield _InTransaction(self.url, self._config, connection)

    async def close(self) -> None:
        """Close every link and the pool."""
        async with asyncio.TaskGroup() as group:  # together: each may wait for PostgreSQL
            for link in list(self._connected):
                group.create_task(link.close())
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()


class _InTransaction(Database):
    """The same database through one connection, on which a transaction is open."""

    def __init__(self, url: str, config: DatabaseConfig, connection: asyncpg.Connection) -> None:
        super().__init__(url, config)
        self._connection = connection

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[asyncpg.Connection]:
        """Give the one connection; a transaction within it becomes a savepoint."""
        with unavailable_when_away():
            yield self._connection
