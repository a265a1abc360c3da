"""Reads what the leader has written for a shard: batch by batch, as they were committed.

Batches of a lane are written one after the other, each after the commit of the one before, so whoever sees
one sees all before it: a number is a position.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from dispatcher.core.errors import LeaseLost
from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.pending import Lane
from dispatcher.store.queries import QUERIES
from dispatcher.store.wakeup import CHANNEL

if TYPE_CHECKING:
    import asyncpg

    from dispatcher.core.sharing import Shard
    from dispatcher.store.connection import Link

RING: Final = "batch"  # what the leader notifies with


class Reach(msgspec.Struct, frozen=True):
    """How far the leader is in a lane."""

    batch: int
    begun: tuple[int, int] | None  # batch and event of a message of which more deliveries are to be written


class Newest(msgspec.Struct, frozen=True):
    """How far the leader is."""

    reached: Mapping[Lane, Reach]
    registry_version: int

    @property
    def batches(self) -> dict[Lane, int]:
        """The newest batch of each lane."""
        return {lane: one.batch for lane, one in self.reached.items()}


class Followed(msgspec.Struct, frozen=True):
    """A message, and the shard's webhooks that it goes to and that have no fact of it."""

    batch: int
    day: dt.date
    outbox_id: OutboxId
    type: str
    recorded_at: dt.datetime
    traceparent: str | None
    body: bytes
    full_body: bytes | None
    full_for: Collection[WebhookId]
    test: bool
    webhook_ids: Sequence[WebhookId]

    def body_for(self, webhook_id: WebhookId) -> bytes:
        """Give the body that a webhook gets."""
        full = self.full_body
        return full if full is not None and webhook_id in self.full_for else self.body


class Batches:
    """The batches of a shard, on a link of its own that also hears the leader's ring."""

    def __init__(self, link: Link, shard: Shard, on_ring: Callable[[str], None]) -> None:
        self._link = link
        self._shard = shard
        self._on_ring = on_ring
        self._listening: asyncpg.Connection | None = None
        self._marks: dict[Lane, tuple[int, str]] = {}

    async def newest(self) -> Newest:
        """Give how far the leader is, listening from before that.

        Raises `LeaseLost` when the history is not the one that was read: the server was replaced by one that
        knows less.
        """
        async with self._link.use() as connection:
            if self._listening is not connection:
                await connection.add_listener(CHANNEL, self._heard)
                for lane, (batch, mark) in self._marks.items():
                    if batch and mark != await connection.fetchval(QUERIES["batch_mark"], lane, batch):
                        raise LeaseLost(f"batch {batch} of lane {lane.name.lower()} is not what it was")
                self._listening = connection
            rows = await connection.fetch(QUERIES["newest_batches"])
        self._marks = {Lane(row["lane"]): (row["batch"], row["mark"]) for row in rows}
        reached = {
            Lane(row["lane"]): Reach(
                row["batch"], None if row["begun"] is None else (row["begun"], row["outbox_id"])
            )
            for row in rows
        }
        return Newest(reached, rows[0]["registry_version"])

    async def after(
        self, lane: Lane, place: tuple[int, int], until: int, messages: int, deliveries: int
    ) -> tuple[list[Followed], bool]:
        """Give the messages after a place (batch, outbox id) up to a batch; and whether these are all.

        At most so many messages, and of so many deliveries, those of other shards included, unless a single
        one has more.
        """
        rows = await self._link.fetch(
            "followed", lane, *place, until, messages, deliveries, self._shard.count, self._shard.number
        )
        found = [
            Followed(
                row["batch"],
                row["day"],
                row["outbox_id"],
                row["type"],
                row["recorded_at"],
                row["traceparent"],
                row["body"],
                row["full_body"],
                frozenset(row["full_for"] or ()),
                row["test"],
                row["webhook_ids"],
            )
            for row in rows
        ]
        return found, len(rows) < messages and not (rows and rows[-1]["last"])

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._on_ring(str(payload))


class Bellringer:
    """Tells the other shards that batches were committed: at once, of several that came meanwhile once."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._due = asyncio.Event()

    def ring(self) -> None:
        """Let `wait` return."""
        self._due.set()

    async def wait(self) -> None:
        """Wait until there is something to tell."""
        await self._due.wait()
        self._due.clear()

    async def tell(self) -> None:
        """Notify."""
        await self._link.fetchrow("ring_followers", CHANNEL, RING)
