"""Rebuilds every delivery's state from its facts, and compares the tables with each other.

How this works. Everything is read in one snapshot, beside a running dispatcher, as streams in the order of
primary keys: the rows of one delivery come together, so memory is bounded whatever the length of the history.
`core/verification.py` decides what must hold of a delivery's facts; here is what must hold between tables.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Final

import asyncpg
import msgspec

from dispatcher.core.delivery import Kind, State, Trigger
from dispatcher.core.ids import DeliveryIds, DeliveryKey, OutboxId, WebhookId
from dispatcher.core.pending import TAILED, Lane
from dispatcher.core.sharing import Shard
from dispatcher.core.verification import RecordedFact, problems, shown_state
from dispatcher.store.backlog import Backlog
from dispatcher.store.connection import Link
from dispatcher.store.outbox import OutboxReader, Start
from dispatcher.store.transaction import Transaction, transaction

_STATEMENT_S: Final = 86_400.0  # a history of years takes its time
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Discrepancy(msgspec.Struct, frozen=True):
    """Something that must not be; without a delivery it is about the event."""

    day: dt.date
    outbox_id: OutboxId
    delivery: str | None  # public id
    webhook: str | None  # public id
    problem: str


class Tally(msgspec.Struct):
    """What was looked at."""

    events: int = 0  # that were scheduled
    not_read_yet: int = 0  # rows of the outbox that the tail has not come to
    states: Counter[State] = msgspec.field(default_factory=Counter)
    facts: int = 0
    discrepancies: int = 0


class _Checkpoint(msgspec.Struct, frozen=True):
    """Up to where a restart takes for granted that everything was attempted."""

    batch: int
    waiting: Mapping[WebhookId, OutboxId]


class Verification:
    """One look at a whole database; `most_attempts` is how many the schedule makes by itself."""

    def __init__(self, link: Link, *, since: dt.date, most_attempts: int) -> None:
        self._link = link
        self._since = since
        self._most_attempts = most_attempts
        self._ids: DeliveryIds
        self._webhooks: Mapping[WebhookId, str] = {}
        self._starts: Mapping[Lane, Start] = {}
        self._shards: Sequence[Shard] = ()
        self._checkpoints: dict[tuple[int, Lane], _Checkpoint] = {}  # by shard
        self._retries_low: dict[int, dt.datetime] = {}  # by shard
        self.tally = Tally()

    async def discrepancies(self) -> AsyncIterator[Discrepancy]:
        """Give what is wrong, as it is found.

        Raises `OperatorError` after a restore into another server, before `dispatcher rebase`.
        """
        async with transaction(self._link, snapshot=True, timeout_s=_STATEMENT_S) as snapshot:
            await snapshot.execute("stay_connected")
            await self._prepare(snapshot)
            for check in (self._outbox, self._messages, self._deliveries, self._facts):
                async for found in check(snapshot):
                    self.tally.discrepancies += 1
                    yield found

    async def _prepare(self, snapshot: Transaction) -> None:
        (row,) = await snapshot.fetch("id_key")
        self._ids = DeliveryIds(row[0])
        self._webhooks = {row["id"]: row["public_id"] for row in await snapshot.fetch("verify_webhooks")}
        self._starts = {lane: await OutboxReader(snapshot, lane).newest_position() for lane in TAILED}
        (row,) = await snapshot.fetch("shard_count")
        self._shards = [Shard(number, row[0]) for number in range(row[0])]
        for shard in self._shards:
            backlog = Backlog(snapshot, shard)
            for lane in TAILED:
                batch, waiting = await backlog.checkpoint(lane)
                self._checkpoints[shard.number, lane] = _Checkpoint(batch, dict(waiting))
            low_us, _ = await backlog.checkpoint(Lane.RETRY)
            self._retries_low[shard.number] = _EPOCH + dt.timedelta(microseconds=low_us)

    async def _outbox(self, snapshot: Transaction) -> AsyncIterator[Discrepancy]:
        """Rows without a message are all beyond their lane's position."""
        async for row in snapshot.stream("verify_outbox", self._since):
            start = self._starts[Lane(row["lane"])]
            if row["outbox_id"] <= start.floor or start.position.covers(
                int(row["xid_text"]), row["outbox_id"]
            ):
                yield _of_event(row, f"a row of type {row['type']} was passed over: it has no message")
            else:
                self.tally.not_read_yet += 1

    async def _messages(self, snapshot: Transaction) -> AsyncIterator[Discrepancy]:
        """Each message is what its row says, and went to as many webhooks as it says."""
        (row,) = await snapshot.fetch("verify_message_count", self._since)
        self.tally.events = row[0]
        async for row in snapshot.stream("verify_messages", self._since):
            if row["no_row"]:
                yield _of_event(row, "there is a message, but no row in the outbox")
            elif row["another_row"]:
                yield _of_event(
                    row, "type, lane or time of the message are not those of the row in the outbox"
                )
            deliveries = row["deliveries"] or 0
            if row["fan_out"] != deliveries + self._to_come(row["outbox_id"]):
                yield _of_event(row, f"goes to {row['fan_out']} webhooks, but has {deliveries} deliveries")

    def _to_come(self, outbox_id: OutboxId) -> int:
        """Count the deliveries of an event that are still to be written: of one to very many, in chunks."""
        return sum(
            len(start.rest) for start in self._starts.values() if start.position.outbox_id == outbox_id
        )

    async def _deliveries(self, snapshot: Transaction) -> AsyncIterator[Discrepancy]:
        """Each delivery has its message, and its facts amount to what is shown."""
        rows: list[asyncpg.Record] = []
        async for row in snapshot.stream("verify_deliveries", self._since):
            if rows and _key(rows[0]) != _key(row):
                for problem in self._delivery(rows):
                    yield self._of_delivery(rows[0], problem)
                rows = []
            rows.append(row)
        if rows:
            for problem in self._delivery(rows):
                yield self._of_delivery(rows[0], problem)

    async def _facts(self, snapshot: Transaction) -> AsyncIterator[Discrepancy]:
        """Each fact has its delivery."""
        async for row in snapshot.stream("verify_facts", self._since):
            yield self._of_delivery(row, f"there are {row['facts']} facts, but no such delivery")

    def _delivery(self, rows: Sequence[asyncpg.Record]) -> Iterator[str]:
        first = rows[0]
        facts = [] if first["attempt_no"] is None else [_fact(row) for row in rows]
        self.tally.states[shown_state(facts)] += 1
        self.tally.facts += len(facts)
        if first["message_lane"] is None:
            yield "has no message: there is nothing to send"
        elif first["message_lane"] != first["lane"]:
            yield f"is in lane {first['lane']}, its message in lane {first['message_lane']}"
        if first["webhook_id"] not in self._webhooks:
            yield f"is for webhook number {first['webhook_id']}, which does not exist"
        yield from problems(facts, most_attempts=self._most_attempts)
        yield from self._forgotten(first, facts)

    def _forgotten(self, row: asyncpg.Record, facts: Sequence[RecordedFact]) -> Iterator[str]:
        """Say whether a restart, which begins at the checkpoints, would find what is still to be made."""
        shard = next(one.number for one in self._shards if one.owns(row["webhook_id"]))
        if facts:
            due_at = facts[-1].next_attempt_at
            if due_at is not None and due_at < self._retries_low[shard]:
                at = f"{due_at:%Y-%m-%dT%H:%M:%SZ}"
                yield f"was due at {at} and is forgotten: a restart looks for what is due later"
        elif row["message_lane"] is not None:
            checkpoint = self._checkpoints[shard, Lane(row["message_lane"])]
            waits_after = checkpoint.waiting.get(row["webhook_id"])
            waits = waits_after is not None and row["outbox_id"] > waits_after
            if row["batch"] <= checkpoint.batch and not waits:
                yield "was never attempted and is forgotten: a restart takes it for attempted"

    def _of_delivery(self, row: asyncpg.Record, problem: str) -> Discrepancy:
        public_id = self._ids.encode(_key(row))
        webhook = self._webhooks.get(row["webhook_id"])
        return Discrepancy(row["day"], row["outbox_id"], public_id, webhook, problem)


def _of_event(row: asyncpg.Record, problem: str) -> Discrepancy:
    return Discrepancy(row["day"], row["outbox_id"], None, None, problem)


def _key(row: asyncpg.Record) -> DeliveryKey:
    return DeliveryKey(row["day"], row["outbox_id"], row["webhook_id"])


def _fact(row: asyncpg.Record) -> RecordedFact:
    return RecordedFact(
        attempt_no=row["attempt_no"],
        kind=Kind(row["kind"]),
        state=State(row["state"]),
        trigger=None if row["trigger"] is None else Trigger(row["trigger"]),
        failures=row["failures"],
        status_code=row["status_code"],
        error_class=row["error_class"],
        next_attempt_at=row["next_attempt_at"],
    )
