"""Writes events into the outbox as any producer would: needs the right to INSERT and nothing else."""

from __future__ import annotations

import contextlib
import enum
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import msgspec

from dispatcher.store.away import unavailable_when_away
from dispatcher.store.driver import connect
from dispatcher.store.queries import QUERIES

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator

    from dispatcher.config import Database as DatabaseConfig


class NewEvent(msgspec.Struct, frozen=True):
    """What a producer writes; the database fills in and judges the rest."""

    type: str
    data: str  # the text of a JSON object, kept as it is
    occurred_at: dt.datetime | None = None  # None: now
    network_id: str | None = None
    dedup_key: str | None = None


class Written(enum.Enum):
    """What became of an event that the database did not refuse."""

    INSERTED = enum.auto()
    ALREADY_THERE = enum.auto()  # by its dedup_key


class Refused(msgspec.Struct, frozen=True):
    """The database refused the event; `problem` names the field and what was expected."""

    problem: str


Insertion: TypeAlias = Written | Refused


class Producer:
    """One connection that inserts events: each in a transaction of its own, unless inside `transaction`."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """Commit what is inserted inside the block, together; nothing of it where the block raises."""
        with unavailable_when_away():
            async with self._connection.transaction():
                yield

    async def insert(self, event: NewEvent) -> Insertion:
        """Insert one event. Inside `transaction`, a refusal spoils the transaction: leave it by raising."""
        try:
            with unavailable_when_away():
                tag: str = await self._connection.execute(
                    QUERIES["insert_event"],
                    event.type,
                    event.data,
                    event.occurred_at and event.occurred_at.isoformat(),  # the first one is no infinity
                    event.network_id,
                    event.dedup_key,
                )
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as error:
            detail = f" ({error.detail})" if error.detail else ""
            return Refused(f"{error.message}{detail}")
        return Written.INSERTED if tag == "INSERT 0 1" else Written.ALREADY_THERE


@contextlib.asynccontextmanager
async def open_producer(url: str, config: DatabaseConfig) -> AsyncIterator[Producer]:
    """Connect for the block; raises `DatabaseUnavailable`."""
    connection = await connect(url, name="producer", config=config)
    try:
        yield Producer(connection)
    finally:
        await connection.close(timeout=2)
