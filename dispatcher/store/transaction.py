"""Several named queries as one transaction: all or nothing, or all from one snapshot.

A `Link` runs each statement by itself and connects again between two of them if it must; what belongs
together runs here, on one connection, and fails together.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

import asyncpg

from dispatcher.store.connection import Link
from dispatcher.store.queries import QUERIES

_PREFETCHED_ROWS = 2_000


class Statements(Protocol):
    """Whoever runs named queries: a `Link` or a `Transaction`."""

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Run the named query and give its rows."""

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        """Run the named query and give its first row."""

    async def execute(self, query: str, *args: object) -> str:
        """Run the named query and give its command tag."""


class Transaction:
    """An open transaction."""

    def __init__(self, connection: asyncpg.Connection, timeout_s: float) -> None:
        self._connection = connection
        self._timeout_s = timeout_s

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Run the named query and give its rows."""
        rows: list[asyncpg.Record] = await self._connection.fetch(
            QUERIES[query], *args, timeout=self._timeout_s
        )
        return rows

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        """Run the named query and give its first row."""
        return await self._connection.fetchrow(QUERIES[query], *args, timeout=self._timeout_s)

    async def execute(self, query: str, *args: object) -> str:
        """Run the named query and give its command tag."""
        tag: str = await self._connection.execute(QUERIES[query], *args, timeout=self._timeout_s)
        return tag

    async def stream(self, query: str, *args: object) -> AsyncIterator[asyncpg.Record]:
        """Run the named query and give its rows one by one, a bounded number of them in memory."""
        cursor = self._connection.cursor(
            QUERIES[query], *args, prefetch=_PREFETCHED_ROWS, timeout=self._timeout_s
        )
        async for row in cursor:
            yield row


@contextlib.asynccontextmanager
async def transaction(
    link: Link, *, snapshot: bool = False, timeout_s: float = 30.0
) -> AsyncIterator[Transaction]:
    """Begin a transaction that ends with the block, rolled back if that raises.

    With `snapshot` it reads only, and every statement sees the database as it was at the first one.
    `timeout_s` is for each statement.
    """
    isolation = "repeatable_read" if snapshot else "read_committed"
    async with (
        link.use() as connection,
        connection.transaction(isolation=isolation, readonly=snapshot),
    ):
        yield Transaction(connection, timeout_s)
