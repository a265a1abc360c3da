"""Brings what the leader has written for a shard into memory, lane by lane.

How this works. The leader reads the outbox and writes every delivery; those of other shards wait in the
database. It rings after each batch, and whoever holds a shard reads the new batches, admits what there is
room for, claims it and queues it; what finds no room waits as everywhere (`daemon/waiting.py`). Alerts are
read to their end before anything else is, as of one snapshot: so a revision never comes before its event.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from dispatcher.core.errors import LeaseLost
from dispatcher.core.ids import DeliveryKey, OutboxId, WebhookId
from dispatcher.core.lanes import Admission
from dispatcher.core.pending import TAILED, Lane, Payload, Pending
from dispatcher.store.following import RING, Batches, Followed, Reach
from dispatcher.store.ledger import Ledger
from dispatcher.store.outbox import OutboxReader
from dispatcher.store.wakeup import CHANGED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dispatcher.daemon.intake import Downstream
    from dispatcher.daemon.shared import Shared
    from dispatcher.store.connection import Link

_MOST_MESSAGES: Final = 500  # of one statement
_MOST_DELIVERIES: Final = 5_000
_BREATH_S: Final = 0.02  # some batches of facts
_LATE_S: Final = 10.0
_EVERYTHING: Final = 2**63 - 1  # behind every event of a batch


@dataclass
class _Place:
    batch: int
    outbox_id: int = _EVERYTHING


class Follower:
    """What a shard that does not lead is fed by, in one run."""

    def __init__(
        self,
        shared: Shared,
        link: Link,
        claims: Link,
        downstream: Downstream,
        interrupted: asyncio.Event,
    ) -> None:
        """Make it; `interrupted` is set when what the last run may have sent is written down."""
        self._interrupted = interrupted
        self._batches = Batches(link, shared.shard, self._heard)
        self._readers = [OutboxReader(link, lane) for lane in TAILED]
        self._ledger = Ledger(claims, shared.run_id)
        self._registry = shared.registry
        self._lanes = shared.lanes
        self._order = shared.order
        self._outage = shared.outage
        self._waiting = downstream.waiting
        self._progress = downstream.progress
        self._pushed = downstream.pushed
        self._stopped = downstream.stopped
        self._pulse = shared.pulse("follower", _LATE_S)
        self._poll_s = shared.process.config.tail.idle_poll_ms / 1000
        self._places: dict[Lane, _Place] = {}
        self._parts: dict[Lane, int] = {}  # the batch of which more is to be read
        self._unrescued: set[Lane] = set()  # a dead run may have taken some of the event that is begun
        self._settled = 0
        self._ring = asyncio.Event()
        self.due = asyncio.Event()  # somebody appended a fact that is due

    async def begin(self, clean: Mapping[Lane, int] | None) -> Mapping[Lane, int]:
        """Give the batch of each lane behind which everything is read from here on.

        That is where the last run had come to if it ended in order, or else the newest one. Raises
        `OperatorError` where the leader will: a restored shard's retries would be sent meanwhile.
        """
        for reader in self._readers:
            await self._outage.patiently("follower", reader.newest_position)
        newest = await self._outage.patiently("follower", self._batches.newest)
        for lane, reach in newest.reached.items():
            batch = reach.batch if clean is None else clean[lane]
            self._places[lane] = _Place(batch)
            self._progress.begin(lane, batch)
            if clean is None and reach.begun is not None:
                self._stay(lane, _before(reach.begun))
                self._unrescued.add(lane)
        return {lane: place.batch for lane, place in self._places.items()} if clean else newest.batches

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self._ring.clear()
            newest = await self._outage.patiently("follower", self._batches.newest)
            self._pulse.beat()
            if newest.registry_version > self._registry.version:
                refresh = partial(self._registry.refresh, newest.registry_version)
                self._stopped(await self._outage.patiently("follower", refresh))
            more = [await self._follow(lane, newest.reached[lane]) for lane in TAILED]
            if not any(more):
                await self._rest(self._poll_s)
            elif more[Lane.ALERT] is False and self._lanes.room.is_crowded(Lane.ROUTINE):
                await self._rest(_BREATH_S)

    async def _rest(self, longest_s: float) -> None:
        timer = asyncio.get_running_loop().call_later(longest_s, self._ring.set)
        await self._ring.wait()
        timer.cancel()

    async def _follow(self, lane: Lane, reach: Reach) -> bool:
        """Read a lane, alerts to the end, of others a page; true when there is more."""
        if self._unrescued and self._interrupted.is_set():
            self._unrescued.clear()
        if lane in self._unrescued or Lane.ALERT in self._unrescued:
            return False  # what the last run took of the event would be sent by the same number once more
        place = self._places[lane]
        if reach.batch < place.batch:
            raise LeaseLost(f"lane {lane.name.lower()} does not stand where this run saw it")
        more = place.batch < reach.batch or place.outbox_id != _EVERYTHING
        while more:
            if lane is not Lane.ALERT and self._lanes.room.is_crowded(lane):
                # Wait for room as long as deliveries are being settled: cheaper than reading them twice.
                before, self._settled = self._settled, self._lanes.settled_count
                if before != self._settled:
                    return True
            more = await self._page(lane, place, reach)
            if lane is not Lane.ALERT:
                break
        return more

    async def _page(self, lane: Lane, place: _Place, reach: Reach) -> bool:
        """Read a page; true when there is more."""
        found, whole = await self._outage.patiently(
            "follower",
            lambda: self._batches.after(
                lane, (place.batch, place.outbox_id), reach.batch, _MOST_MESSAGES, _MOST_DELIVERIES
            ),
        )
        late: dict[WebhookId, OutboxId] = {}  # who found no room, from which event on
        admitted = [pending for message in found for pending in self._admit(lane, message, late)]
        if admitted:
            claims = [(pending.key, pending.attempt_no) for pending in admitted]
            over = await self._outage.patiently("follower", lambda: self._ledger.claim(claims))
            for pending in admitted:
                if pending.key in over:
                    self._lanes.give_up(lane, pending.key, len(pending.payload.body))
            admitted = [pending for pending in admitted if pending.key not in over]
        for pending in admitted:
            assert pending.batch is not None  # noqa: S101 - as `_admit` made it
            self._progress.opened(lane, pending.batch, 1)
            self._order.push(pending)
        # Not before these are queued: what is read back would pass them.
        for webhook_id, outbox_id in late.items():
            self._waiting.mark(lane, webhook_id, outbox_id)
        last = (found[-1].batch, found[-1].outbox_id) if found else None
        whole = whole or last == reach.begun
        if not whole:
            self._stay(lane, last)
        elif reach.begun is not None:
            # It goes to very many, and is written in chunks: it is looked at again when there is more of it,
            # from before it on. The rest may be written, and it be over, by the next look.
            self._stay(lane, _before(reach.begun))
        else:
            place.batch, place.outbox_id = reach.batch, _EVERYTHING
            self._stay(lane, None)
        self._progress.opened(lane, place.batch, 0)
        if admitted:
            self._pushed()
        return not whole

    def _stay(self, lane: Lane, at: tuple[int, int] | None) -> None:
        """Keep a batch open of which more is to be read, from a place in it on; None: no more."""
        before, part = self._parts.pop(lane, None), None
        if at is not None:
            self._places[lane].batch, self._places[lane].outbox_id = at
            part = self._parts[lane] = at[0]
        if part == before:
            return
        if part is not None:
            self._progress.begun(lane, part)
        if before is not None:
            self._progress.ended(lane, before)

    def _admit(self, lane: Lane, message: Followed, late: dict[WebhookId, OutboxId]) -> list[Pending]:
        admitted: list[Pending] = []
        payloads: dict[int, Payload] = {}  # by the body that it holds
        for webhook_id in message.webhook_ids:
            body = message.body_for(webhook_id)
            key = DeliveryKey(message.day, message.outbox_id, webhook_id)
            waits = webhook_id in late or self._waits(lane, webhook_id)
            answer = Admission.FULL if waits else self._lanes.admit(lane, key, len(body))
            if answer is Admission.FULL:
                late[webhook_id] = min(message.outbox_id, late.get(webhook_id, message.outbox_id))
            elif answer is Admission.ADMITTED:
                payload = payloads.get(id(body))
                if payload is None:
                    payload = Payload(
                        message.type, body, message.recorded_at, message.traceparent, test=message.test
                    )
                    payloads[id(body)] = payload
                admitted.append(Pending(key, lane, payload, batch=message.batch))
        return admitted

    def _waits(self, lane: Lane, webhook_id: WebhookId) -> bool:
        if self._waiting.reads(lane, webhook_id):
            return True  # it takes no part in hand-overs: what it claims cannot be given back
        # What it revises may be among what waits.
        return lane is Lane.EVENT and self._waiting.reads(Lane.ALERT, webhook_id)

    def _heard(self, payload: str) -> None:
        if payload in {RING, CHANGED}:
            self._ring.set()
        elif payload == "due":
            self.due.set()


def _before(message: tuple[int, int]) -> tuple[int, int]:
    return message[0], message[1] - 1
