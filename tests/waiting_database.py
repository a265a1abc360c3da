"""The database in small: what waits and is claimed, as the reader of what waits sees it."""

from __future__ import annotations

import asyncio
import datetime as dt
import itertools
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.pending import Lane
from dispatcher.store.backlog import WaitingRow

NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


@dataclass(eq=False)
class Written:
    """A delivery that is in the database."""

    key: DeliveryKey
    lane: Lane
    body: bytes
    subject: str
    batch: int
    written_at: int  # in the order of all that happens
    late: bool  # what has a greater id was there before
    queued_at: int | None = None  # its tail has taken it to memory, or told the reader
    read_back_at: int | None = None


class Database:
    """What is written, and how the reader finds it."""

    def __init__(self, rng: random.Random, slow: int) -> None:
        self._rng = rng
        self.times = itertools.count(1)
        self._slow = slow
        self.written: dict[DeliveryKey, Written] = {}
        self.waits: dict[tuple[Lane, WebhookId], list[Written]] = defaultdict(list)
        self.about: dict[tuple[WebhookId, str], list[Written]] = defaultdict(list)
        self.facts: set[DeliveryKey] = set()
        self.claims: set[DeliveryKey] = set()

    async def pause(self, most: int | None = None) -> None:
        """Let others go on for a while of chance."""
        for _ in range(self._rng.randint(0, self._slow if most is None else most)):
            await asyncio.sleep(0)

    def write(self, one: Written) -> None:
        """Write a delivery."""
        assert one.key not in self.written
        self.written[one.key] = one
        self.waits[one.lane, one.key.webhook_id].append(one)
        self.about[one.key.webhook_id, one.subject].append(one)

    async def waiting(
        self, webhook_id: WebhookId, lane: int, after: OutboxId, limit: int
    ) -> list[WaitingRow]:
        """Answer as `Backlog.waiting`: what was there at some time between the question and the answer."""
        await self.pause()
        open_ones = (
            one
            for one in self.waits[Lane(lane), webhook_id]
            if one.key.outbox_id > after and one.key not in self.facts
        )
        found = sorted(open_ones, key=lambda one: one.key.outbox_id)[:limit]
        await self.pause()
        return [WaitingRow(one.key, "x", one.body, NOW, False, None) for one in found]

    async def claim(self, claims: Sequence[tuple[DeliveryKey, int]]) -> set[DeliveryKey]:
        """Answer as `Ledger.claim`."""
        at = next(self.times)
        for key, _ in claims:
            self.written[key].read_back_at = at
        await self.pause()
        over = {key for key, _ in claims if key in self.facts}
        self.claims |= {key for key, _ in claims} - over
        await self.pause()
        return over
