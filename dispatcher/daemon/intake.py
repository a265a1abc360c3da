"""Takes what a tail has routed into memory: room before it is written, a place in its lane afterwards.

What finds no room is written all the same, and its webhook waits for it (`daemon/waiting.py`).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dispatcher.core.ids import DeliveryKey
from dispatcher.core.lanes import Admission
from dispatcher.core.pending import Lane, Payload, Pending
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.shared import Shared
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.ledger import MessageRow
from dispatcher.store.registry import Webhook
from dispatcher.telemetry.traces import Event


@dataclass(frozen=True)
class Downstream:
    """Where what a tail reads goes on to."""

    waiting: Waiting
    progress: Progress
    pushed: Callable[[], None]  # something was queued
    stopped: Callable[[list[Webhook]], None]  # these webhooks are active no longer
    written: Callable[[], None] = lambda: None  # there is something for other shards to read

    def telling(self, written: Callable[[], None]) -> Downstream:
        """Give the same where `written` is told of everything that is written."""
        return replace(self, written=written)


class Intake:
    """The intake of one lane, in one run."""

    def __init__(self, shared: Shared, lane: Lane, downstream: Downstream) -> None:
        self._lane = lane
        self._lanes = shared.lanes
        self._waiting = downstream.waiting
        self._progress = downstream.progress
        self._pushed = downstream.pushed
        self._written = downstream.written
        self._shard = shared.shard
        self._ids = shared.process.ids
        self._traces = shared.process.traces
        self._metrics = shared.metrics.lanes[lane.name.lower()]

    def admit(self, message: MessageRow) -> None:
        """Reserve room for each delivery of a message, and note in `claimed` which have found some."""
        lane, shard, lanes, waiting = self._lane, self._shard, self._lanes, self._waiting
        alone, nobody_waits = shard.alone, not waiting.count
        for webhook_id in message.webhook_ids:
            message.claimed.append(
                (alone or shard.owns(webhook_id))
                and (nobody_waits or not waiting.waits(lane, webhook_id))
                and lanes.admit(
                    lane,
                    DeliveryKey(message.day, message.outbox_id, webhook_id),
                    len(message.body if message.full_body is None else message.body_for(webhook_id)),
                )
                is Admission.ADMITTED
            )

    def give_up(self, messages: Sequence[MessageRow]) -> None:
        """Free the room of messages that were not written."""
        for message in messages:
            for webhook_id, claimed in zip(message.webhook_ids, message.claimed, strict=True):
                if claimed:
                    key = DeliveryKey(message.day, message.outbox_id, webhook_id)
                    self._lanes.give_up(self._lane, key, len(message.body_for(webhook_id)))
                    self._waiting.room_freed(self._lane, webhook_id)

    def queue(self, messages: Sequence[MessageRow], batch: int, *, complete: bool = True) -> None:
        """Queue what was written; `batch`: of the messages, `complete`: no chunk of them follows."""
        deliveries = queued = 0
        self._progress.opened(self._lane, batch, sum(sum(message.claimed) for message in messages))
        for message in messages:
            deliveries += len(message.webhook_ids)
            for pending in self._taken(message, batch):
                queued += self._waiting.queue(pending)
            for webhook_id, claimed in zip(message.webhook_ids, message.claimed, strict=True):
                if not claimed and self._shard.owns(webhook_id):
                    self._waiting.mark(self._lane, webhook_id, message.outbox_id)
        self._metrics.deliveries.inc(deliveries)
        if complete:
            now = dt.datetime.now(dt.UTC)
            for message in messages:
                self._metrics.fanned_out_s.observe((now - message.recorded_at).total_seconds())
                if self._traces is not None:
                    event = Event(
                        message.day, message.outbox_id, message.type, message.recorded_at, message.traceparent
                    )
                    self._traces.fanned_out(event, self._lane, message.deliveries, now)
            self._metrics.messages.inc(len(messages))
        if queued:
            self._pushed()
        self._written()

    def _taken(self, message: MessageRow, batch: int) -> list[Pending]:
        """Make of a message what has found room."""
        keys = [
            DeliveryKey(message.day, message.outbox_id, webhook_id)
            for webhook_id, claimed in zip(message.webhook_ids, message.claimed, strict=True)
            if claimed
        ]
        if not keys:
            return []
        usual = _payload(message, message.body)
        full = usual if message.full_body is None else _payload(message, message.full_body)
        taken: list[Pending] = []
        for key, public_id in zip(keys, self._ids.encode_all(keys), strict=True):
            pending = Pending(
                key, self._lane, full if key.webhook_id in message.full_for else usual, batch=batch
            )
            pending.public_id = public_id
            taken.append(pending)
        return taken


def _payload(message: MessageRow, body: bytes) -> Payload:
    return Payload(message.type, body, message.recorded_at, message.traceparent, test=message.test)
