"""A world of chance around the reader of what waits: PostgreSQL, the tails and the senders in small.

How this works. The reader, the intake, lanes, order and progress are the real ones. Each statement and each
request takes as many turns of the loop as chance says, and everybody else goes on meanwhile; so a seed is an
interleaving. The reader never looks at everybody by itself: a wake-up that is lost is lost for good, and the
world stands still, which is told as `stuck`. Every delivery that is sent is compared with what was written
before it, and again and again with what a restart from a checkpoint would find.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from dispatcher.core.ids import DeliveryIds, DeliveryKey, OutboxId, RunId, WebhookId
from dispatcher.core.lanes import Lanes
from dispatcher.core.ordering import Ordering
from dispatcher.core.pending import TAILED, Lane, Pending
from dispatcher.core.room import Limits
from dispatcher.core.sharing import Shard
from dispatcher.daemon.intake import Downstream, Intake
from dispatcher.daemon.outage import Outage
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.shared import Process, Shared, utc_now
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.backlog import Backlog
from dispatcher.store.lease import Lease
from dispatcher.store.ledger import Ledger, MessageRow
from dispatcher.store.registry import Registry
from dispatcher.telemetry.metrics import Metrics
from tests.parts import running
from tests.waiting_database import NOW, Database, Written

NEVER_S = 1e6
STUCK_AFTER = 20_000  # turns of the loop in which nothing is under way and nothing moves
TURN_NS = 2_000_000  # how far the senders' clock goes on in each


@dataclass(frozen=True)
class Kind:
    """What a world is short of, and how much goes on in it."""

    sizes: Sequence[int] = (3, 8, 24, 60, 200)  # of the room, in deliveries: one of these
    max_bytes: int = 10**9
    changes: float = 0.03  # how likely the room changes with a page of a tail
    webhooks: Sequence[int] = (2, 5, 9, 12, 30)
    most_pages: Sequence[int] = (5, 20, 80)  # of a tail
    steady: float = 0.7  # how likely events come one by one, and not in bursts


@dataclass(frozen=True)
class _Process:
    """What the reader and the intake ask the process for."""

    metrics: Metrics
    outage: Outage
    ids: DeliveryIds
    traces: None = None


@dataclass(frozen=True)
class _Lease:
    shard: Shard = field(default_factory=Shard)


@dataclass(frozen=True)
class _Registry:
    unordered: set[WebhookId]

    def ordering_of(self, webhook_id: WebhookId) -> Ordering:
        """Give what a webhook wants."""
        return "none" if webhook_id in self.unordered else "subject"


class World:
    """Tails that write, senders that send, and between them the reader."""

    def __init__(self, seed: int, kind: Kind) -> None:
        rng = self._rng = random.Random(seed)
        self._kind = kind
        self._steady = rng.random() < kind.steady
        count = rng.choice(kind.webhooks)
        self._webhooks = [WebhookId(number + 1) for number in range(count)]
        self._unordered = self._some(0.2)
        self._hung = self._some(0.05 if self._steady else 0.2)
        hosts = rng.choice([1, 2, count])
        self._lanes = Lanes(self._limits(), lambda one: one % hosts)
        self._database = Database(rng, rng.choice([3, 20, 60]))
        metrics = Metrics()
        self._shared = Shared(  # of what it holds only these are asked for here
            process=cast("Process", _Process(metrics, Outage(metrics), DeliveryIds(bytes(16)))),
            lease=cast("Lease", _Lease()),
            run_id=RunId(1),
            lanes=self._lanes,
            registry=cast("Registry", _Registry(self._unordered)),
        )
        self._progress = Progress()
        self._waiting = Waiting(
            self._shared,
            cast("Backlog", self._database),
            cast("Ledger", self._database),
            self._progress,
            look_at_all_s=NEVER_S,
            gather_s=0,
        )
        self._ids = itertools.count(100)
        self._late: dict[Lane, list[int]] = {lane: [] for lane in TAILED}  # ids that will be seen later
        self._batches = [0] * len(TAILED)  # written
        self._reached = [0] * len(TAILED)  # and queued
        self._told: list[str] = []  # the earthquakes whose alert is queued
        self._claimed: set[DeliveryKey] = set()  # found room when they came
        self._taken: set[DeliveryKey] = set()
        self._settled: set[DeliveryKey] = set()
        self._now_ns = 0
        self._moved = False
        self.seen: Counter[str] = Counter()  # how often it came to what these tests are about

    def _some(self, share: float) -> set[WebhookId]:
        return {one for one in self._webhooks if self._rng.random() < share}

    def _limits(self) -> Limits:
        return Limits(
            max_in_flight=self._rng.choice([4, 12, 100]),
            max_in_flight_per_webhook=self._rng.choice([1, 4, 16]),
            max_held=self._rng.choice(self._kind.sizes),
            max_bytes=self._kind.max_bytes,
        )

    async def run(self) -> None:
        """Let everything happen, and see that all is sent and nothing stays in memory."""
        begun_at = utc_now()
        most = self._rng.choice(self._kind.most_pages) // (1 if self._steady else 3) + 1
        async with running(self._waiting.run(), self._send(), self._check_checkpoints()):
            async with asyncio.TaskGroup() as tails:
                for lane in TAILED:
                    tails.create_task(self._tail(lane, self._rng.randint(1, most)))
            still = 0
            while self._waiting.count or len(self._settled) < len(self._database.written):
                await asyncio.sleep(0)
                moved = self._moved or self._lanes.in_flight or self._lanes.rates.asleep
                still, self._moved = 0 if moved else still + 1, False
                assert still < STUCK_AFTER, f"stuck: {self._state()}"
        assert self._settled == self._taken == set(self._database.written)
        assert (0, 0, 0) == (self._lanes.room.held, self._lanes.room.held_bytes, self._shared.order.waiting)
        assert self._reached == [self._progress.low(lane) for lane in TAILED]
        assert begun_at <= self._waiting.claimed_since()  # nothing is claimed any more
        self.seen["sent"] = len(self._settled)

    def _state(self) -> str:
        waits = [
            f"{lane.name} {webhook_id} settled to {safe}, room {self._lanes.room_for(lane, webhook_id)},"
            f" reads {self._waiting.reads(lane, webhook_id)}, waits {self._waiting.waits(lane, webhook_id)}"
            for lane in TAILED
            for webhook_id, safe in self._waiting.positions(lane)
        ]
        lanes, order = self._lanes, self._shared.order
        return f"held {lanes.room.held}, queued {lanes.queued_in}, in order {order.waiting}; {waits}"

    # The tails.

    async def _tail(self, lane: Lane, pages: int) -> None:
        rng, database = self._rng, self._database
        downstream = Downstream(self._waiting, self._progress, self._waiting.pushed.set, lambda _: None)
        intake = Intake(self._shared, lane, downstream)
        for _ in range(pages):
            await database.pause(rng.choice([2, 30, 60] if self._steady else [2, 30, 200]))
            subjects = self._subjects(lane, 1 if self._steady else rng.choice([1, 1, 2, 5, 12]))
            if subjects and rng.random() < 0.1:
                await self._fan_out_in_chunks(intake, lane, *next(iter(subjects.items())))
            elif subjects:
                await self._fan_out(intake, lane, subjects)
            if rng.random() < self._kind.changes:
                self._lanes.bound(self._limits())
            if rng.random() < 0.03:
                limited = {one: rng.choice([1.0, 5.0, 50.0]) for one in self._some(0.2)}
                self._lanes.limit_rates(limited, self._now_ns)

    def _subjects(self, lane: Lane, count: int) -> dict[int, str]:
        """Give the events of a page, and what each is about; ids that commit late come in a later page."""
        rng, late, found = self._rng, self._late[lane], {}
        for _ in range(count):
            number = next(self._ids)
            subject = f"{lane.name} {rng.randint(1, 4)}"
            if lane is Lane.EVENT and self._told:
                subject = rng.choice(self._told)
            elif lane is Lane.ALERT:
                subject = rng.choice(self._told) if self._told and rng.random() < 0.3 else f"a{number}"
            if rng.random() < 0.1:
                late.append(number)
                continue
            if late and rng.random() < 0.3:
                number = late.pop(rng.randrange(len(late)))
            found[number] = subject
        return found

    def _message(
        self, number: int, subject: str, webhook_ids: list[WebhookId], fan_out: int | None = None
    ) -> MessageRow:
        size = self._rng.choice([0, 0, 0, 200]) if self._kind.max_bytes < 10**9 else 0
        body = f'{{"type":"x","timestamp":"t","data":{{"event_id":"{subject}","pad":"{"x" * size}"}}}}'
        return MessageRow(
            NOW.date(),
            OutboxId(number),
            "x",
            NOW,
            NOW,
            body.encode(),
            False,
            webhook_ids,
            [],
            fan_out=fan_out,
        )

    def _admit(self, intake: Intake, message: MessageRow) -> None:
        message.claimed.clear()
        intake.admit(message)

    def _keys(self, message: MessageRow) -> list[DeliveryKey]:
        return [DeliveryKey(message.day, message.outbox_id, one) for one in message.webhook_ids]

    def _write(self, lane: Lane, message: MessageRow, subject: str, batch: int) -> None:
        at = next(self._database.times)
        for key in self._keys(message):
            there = self._database.waits[lane, key.webhook_id]
            late = any(one.key.outbox_id > key.outbox_id for one in there)
            self._database.write(Written(key, lane, message.body, subject, batch, at, late))

    def _queue(
        self, intake: Intake, lane: Lane, messages: list[MessageRow], batch: int, *, complete: bool = True
    ) -> None:
        for message in messages:
            for key, claimed in zip(self._keys(message), message.claimed, strict=True):
                if claimed:
                    self._claimed.add(key)
                    self.seen["behind"] += self._waiting.reads(lane, key.webhook_id)
        intake.queue(messages, batch, complete=complete)
        self._reached[lane] = batch
        at = next(self._database.times)
        for message in messages:
            for key in self._keys(message):
                self._database.written[key].queued_at = at

    async def _fan_out(self, intake: Intake, lane: Lane, subjects: dict[int, str]) -> None:
        rng, some = self._rng, self._webhooks
        messages = [
            self._message(number, subject, rng.sample(some, rng.randint(1, len(some))))
            for number, subject in subjects.items()
        ]
        for message in messages:
            self._admit(intake, message)
        await self._database.pause()
        self._batches[lane] += 1
        if rng.random() < 0.1:  # the database refused it, and the tail asks for room again
            intake.give_up(messages)
            self._batches[lane] += 1
            await self._database.pause()
            for message in messages:
                self._admit(intake, message)
            await self._database.pause()
        for message in messages:
            self._write(lane, message, subjects[message.outbox_id], self._batches[lane])
        await self._database.pause()
        self._queue(intake, lane, messages, self._batches[lane])
        if lane is Lane.ALERT:
            self._told += subjects.values()

    async def _fan_out_in_chunks(self, intake: Intake, lane: Lane, number: int, subject: str) -> None:
        """As `daemon/tailer.py` tells very many webhooks of one event: each chunk is a transaction."""
        rest = self._rng.sample(self._webhooks, self._rng.randint(1, len(self._webhooks)))
        begun, fan_out = self._batches[lane] + 1, len(rest)
        while rest:
            size = self._rng.randint(1, len(rest))
            chunk = self._message(number, subject, rest[:size], fan_out)
            rest = rest[size:]
            self._admit(intake, chunk)
            await self._database.pause()
            self._batches[lane] += 1
            self._write(lane, chunk, subject, begun)
            await self._database.pause()
            if self._batches[lane] == begun:
                self._progress.begun(lane, begun)
            self._queue(intake, lane, [chunk], begun, complete=not rest)
        self._progress.ended(lane, begun)
        if lane is Lane.ALERT:
            self._told.append(subject)

    # The senders.

    async def _send(self) -> None:
        rng = self._rng
        flying: list[Pending] = []
        unrecorded: list[Pending] = []
        while True:
            await asyncio.sleep(0)
            self._now_ns += TURN_NS
            while rng.random() < 0.8 and (pending := self._lanes.take(self._now_ns)) is not None:
                self._check_sent(pending)
                self._taken.add(pending.key)
                flying.append(pending)
            for pending in list(flying):
                if rng.random() < (0.01 if pending.key.webhook_id in self._hung else 0.15):
                    flying.remove(pending)
                    self._lanes.landed(pending)
                    unrecorded.append(pending)
            if unrecorded and rng.random() < 0.3:
                rng.shuffle(unrecorded)
                self._database.facts.update(one.key for one in unrecorded)
                await self._database.pause(5)
                for pending in unrecorded:
                    self._durable(pending)
                unrecorded = []

    def _durable(self, pending: Pending) -> None:
        """As `Run` does with a fact that is durable."""
        self._moved = True
        self._settled.add(pending.key)
        self._lanes.settled(pending, answered=self._rng.random() < 0.9)
        self._shared.order.settled(pending, None, NOW)
        if pending.batch is not None:
            self._progress.closed(pending.lane, pending.batch)
            self._waiting.room_freed(pending.lane, pending.key.webhook_id)
        else:
            self._waiting.settled(pending)

    def _check_sent(self, pending: Pending) -> None:
        """See that it is sent once, is written or claimed before, and passes nothing that it may not."""
        mine = self._database.written.get(pending.key)
        assert mine is not None, f"{pending.key} is sent before it is written"
        assert pending.key not in self._taken, f"{mine} is sent twice"
        assert pending.batch is not None or pending.key in self._database.claims
        self.seen["straight"] += pending.batch is not None
        self.seen["given back"] += pending.batch is None and pending.key in self._claimed
        if pending.key.webhook_id in self._unordered:
            return
        for one in self._database.about[pending.key.webhook_id, mine.subject]:
            # What is committed late, with a smaller id, was overtaken already and goes at once.
            if one.key.outbox_id < mine.key.outbox_id and self._must_precede(one, mine):
                assert one.key in self._settled, f"{mine} passes {one}"

    @staticmethod
    def _must_precede(one: Written, mine: Written) -> bool:
        """Say whether a delivery of the same subject and a smaller id has to be over before this one goes."""
        if one.lane is not mine.lane:
            # An alert goes when it can; what revises it waits for the alerts that were told to this run.
            told = one.queued_at is not None and one.queued_at < mine.written_at
            return one.lane is Lane.ALERT and told
        # The reader may be past the id of one that is committed late, and find what the same transaction has
        # after that in the moment before the tail has told it to go back.
        told = mine.read_back_at is None or (one.queued_at is not None and one.queued_at < mine.read_back_at)
        return one.written_at < mine.written_at and (told or not one.late)

    async def _check_checkpoints(self) -> None:
        """See that a restart from a checkpoint that is written now would find all that is open."""
        while True:
            await self._database.pause(50)
            for lane in TAILED:
                low, safe = self._progress.low(lane), dict(self._waiting.positions(lane))
                for webhook_id in self._webhooks:
                    after = safe.get(webhook_id)
                    for one in self._database.waits[lane, webhook_id]:
                        if one.batch <= low and one.key not in self._database.facts:
                            assert after is not None, f"{one} is forgotten"
                            assert after < one.key.outbox_id, f"{one} is forgotten"
                self.seen["host full"] += self._lanes.room.is_free(lane) and any(
                    self._lanes.is_host_full(lane, webhook_id) for webhook_id in safe
                )
