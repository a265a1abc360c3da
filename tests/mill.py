"""A tail and senders in small, around the reader of what waits in the database."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections import defaultdict
from dataclasses import dataclass, field

from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.lanes import Admission
from dispatcher.core.pending import Lane, Payload, Pending
from dispatcher.core.sharing import Shard
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.backlog import Backlog, WaitingRow
from dispatcher.store.transaction import Statements
from tests.parts import Event, Parts, attempted, detected
from tests.postgres import wait_for

LANE = Lane.ALERT
NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
NEVER_S = 1e6


@dataclass
class Mill:
    """A tail and senders in small: events go in, each delivery comes out and is recorded."""

    one: Parts
    waiting: Waiting
    progress: Progress
    sent: dict[WebhookId, list[OutboxId]] = field(default_factory=lambda: defaultdict(list))
    went_straight: int = 0
    batch: int = 0

    async def fan_out(self, event: Event, webhook_ids: list[WebhookId]) -> None:
        """Let an event go to webhooks: into memory where there is room, as `daemon/tailer.py` does."""
        straight = [one for one in webhook_ids if self.admit(DeliveryKey(*event, one))]
        rest = [one for one in webhook_ids if one not in straight]
        for claimed, those in ((True, straight), (False, rest)):
            if those:
                await self.one.fan_out([event], those, claimed=claimed)
        self.batch += 1
        self.progress.opened(LANE, self.batch, len(straight))
        for webhook_id in webhook_ids:
            if webhook_id in straight:
                payload = Payload("event.detected", b"{}", NOW, test=False)
                pending = Pending(DeliveryKey(*event, webhook_id), LANE, payload, batch=self.batch)
                self.went_straight += self.waiting.queue(pending)
            else:
                self.waiting.mark(LANE, webhook_id, event[1])
        self.waiting.pushed.set()

    def admit(self, key: DeliveryKey) -> bool:
        """Ask for room for a delivery that is to be written."""
        if self.waiting.waits(LANE, key.webhook_id):
            return False
        return self.one.lanes.admit(LANE, key, 2) is Admission.ADMITTED

    async def send(self) -> None:
        """Send whatever may go, in batches of chance, until cancelled."""
        rng = random.Random(7)
        while True:
            await self.waiting.pushed.wait()
            self.waiting.pushed.clear()
            while taken := self.one.take_all():
                for pending in taken:
                    self.sent[pending.key.webhook_id].append(pending.key.outbox_id)
                    self.one.lanes.landed(pending)
                rng.shuffle(taken)
                count = rng.randint(1, len(taken))
                for some in filter(None, (taken[:count], taken[count:])):
                    await self.one.record(*(attempted(pending.key) for pending in some))
                    for pending in some:
                        self._durable(pending)

    def _durable(self, pending: Pending) -> None:
        self.one.lanes.settled(pending)
        if pending.batch is None:
            self.waiting.settled(pending)
        else:
            self.progress.closed(LANE, pending.batch)
            self.waiting.room_freed(LANE, pending.key.webhook_id)

    def count(self) -> int:
        """Count what was sent."""
        return sum(len(sent) for sent in self.sent.values())


async def events_of(one: Parts, count: int) -> list[Event]:
    """Insert so many events."""
    rows = await one.connection.fetch(
        "insert into outbox (type, data) select 'event.detected', $1 from generate_series(1, $2::int)"
        " returning day, id",
        detected(),
        count,
    )
    return [(row["day"], row["id"]) for row in rows]


def waiting_of(one: Parts) -> Waiting:
    """Make the reader."""
    return Waiting(one.shared, one.backlog(), one.ledger(), Progress())


def mill_of(one: Parts, backlog: Backlog | None = None) -> Mill:
    """Make a reader that never looks at everybody, and what is around it."""
    progress = Progress()
    reads = backlog or one.backlog()
    return Mill(one, Waiting(one.shared, reads, one.ledger(), progress, look_at_all_s=NEVER_S), progress)


async def idle(one: Parts, waiting: Waiting) -> None:
    """Wait until nothing waits and nothing is held."""
    await wait_for(lambda: not waiting.positions(LANE) and not one.lanes.room.held, "everything is settled")


class Stepwise(Backlog):
    """Reads from the database at once, and lets each answer arrive when the test says so."""

    def __init__(self, link: Statements, shard: Shard) -> None:
        super().__init__(link, shard)
        self.reads = 0
        self.answers = asyncio.Semaphore(0)

    async def waiting(
        self, webhook_id: WebhookId, lane: int, after: OutboxId, limit: int
    ) -> list[WaitingRow]:
        """Give what was there when it was asked."""
        rows = await super().waiting(webhook_id, lane, after, limit)
        self.reads += 1
        await self.answers.acquire()
        return rows

    async def asked(self, times: int) -> None:
        """Wait until the answer to this read is on its way."""
        await wait_for(lambda: self.reads == times, f"{times} reads")

    def answer_all(self) -> None:
        """Hold nothing back any more."""
        self.answers = asyncio.Semaphore(10**6)
