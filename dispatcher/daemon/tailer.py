"""Follows one lane of the outbox: reads what became visible, decides who is told, writes it down, queues it.

How this works. A step reads a page, matches each row against webhooks at least as new as the row, and writes
the messages, the deliveries and the lane's new position in one statement: a crash repeats the step or does
not, and never does half. Room in memory is reserved before the write, so each delivery is written as "taken
by this run" or "waits in the database", and a restart knows which ones may have been sent.

What the tail knows holds for one session with PostgreSQL (decision 9): a server that crashed gives
transaction ids again that had left no trace. So each session begins from the stored position, a page is
written in the session that it was read in or not at all, and a write whose end is unknown is settled first.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from dispatcher.core.body import Body, build_body
from dispatcher.core.errors import DatabaseUnavailable, LeaseLost
from dispatcher.core.ids import DeliveryKey, WebhookId
from dispatcher.core.lanes import Admission, Lane, Payload, Pending
from dispatcher.core.revisions import follows
from dispatcher.core.snapshot import Position
from dispatcher.daemon.doorbell import Doorbell
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.shared import Shared
from dispatcher.daemon.waiting import Waiting
from dispatcher.store.connection import Link, Session
from dispatcher.store.ledger import BatchTaken, Ledger, MessageRow
from dispatcher.store.outbox import OutboxReader, OutboxRow
from dispatcher.store.registry import Webhook
from dispatcher.store.revisions import Tellings
from dispatcher.telemetry.traces import Event

# One statement writes at most about this many deliveries, unless a single event goes to more; of the lower
# lanes fewer, since the loop is not the alerts' meanwhile (behind 100,000 sensor rows for ten webhooks
# an alert took 69 ms in the median with 1,000 here, and 17 ms with 200).
_MOST_DELIVERIES: Final = {Lane.ALERT: 10_000, Lane.EVENT: 500, Lane.ROUTINE: 200}
_FEWEST_ROWS: Final = 50  # read at a time
# Between two steps of a lane in a storm: many rows cost little more than one, for PostgreSQL and for us.
_PACE_S: Final = 0.01
_BREATH_S: Final = 0.02  # some batches of facts
_COURTESY_S: Final = 0.005
_LONGEST_COURTESY_S: Final = 5.0

log = structlog.get_logger("tail")


@dataclass(frozen=True)
class Downstream:
    """Where what is read goes on to."""

    waiting: Waiting
    progress: Progress
    pushed: Callable[[], None]  # something was queued
    stopped: Callable[[list[Webhook]], None]  # these webhooks are active no longer


class Tailer:
    """The tail of one lane, in one run."""

    def __init__(
        self, shared: Shared, lane: Lane, link: Link, doorbell: Doorbell, downstream: Downstream
    ) -> None:
        name = lane.name.lower()
        self._name = f"tail of lane {name}"
        self._lane = lane
        self._link = link
        self._run_id = shared.run_id
        self._registry = shared.registry
        self._lanes = shared.lanes
        self._order = shared.order
        self._waiting = downstream.waiting
        self._progress = downstream.progress
        self._pushed = downstream.pushed
        self._stopped = downstream.stopped
        self._doorbell = doorbell
        self._outage = shared.outage
        self._metrics = shared.metrics.lanes[name]
        self._traces = shared.process.traces
        self._most_deliveries = _MOST_DELIVERIES[lane]
        self._page_rows = shared.process.config.tail.page_rows
        self._limit = min(_FEWEST_ROWS, self._page_rows)  # of rows of the next page: what a step deals with
        self._more = False  # the last step left rows that it had seen
        self._session: Session
        self._reader: OutboxReader
        self._ledger: Ledger
        self._position: Position
        self._since = dt.date.min
        self._batch = 0
        self._system_id = 0

    async def begin(self) -> int:
        """Find where the last run left the lane; give its last batch.

        Raises `OperatorError` after a restore into another server.
        """
        self._batch = await self._outage.patiently(self._name, self._begin_session)
        self._progress.begin(self._lane, self._batch)
        return self._batch

    async def _begin_session(self) -> int:
        """Read the stored position, and nothing but it from now on; give its batch."""
        session = await self._link.session()
        reader = OutboxReader(session, self._lane)
        start = await reader.newest_position()
        self._session, self._reader, self._ledger = session, reader, Ledger(session, self._run_id)
        self._position, self._since, self._system_id = start.position, start.day, start.system_id
        return start.batch

    async def run(self) -> None:
        """Follow the lane until cancelled."""
        while True:
            seen = self._doorbell.count
            self._metrics.tail.begins()
            rows = await self._outage.patiently(self._name, self._step)
            self._metrics.tail.rests()
            if not rows:
                await self._doorbell.rings(self._lane, seen)
                continue
            self._doorbell.found(self._lane)
            if not self._more and self._doorbell.polled(self._lane):
                await asyncio.sleep(_PACE_S)

    async def _step(self) -> int:
        if self._session.ended and await self._begin_session() != self._batch:
            raise LeaseLost(f"the {self._name} does not stand where this run left it")
        page = await self._reader.read(self._position, self._since, self._limit)
        if page.registry_version > self._registry.version:
            self._stopped(await self._registry.refresh(page.registry_version))
        if not page.rows:
            self._position = Position.after(page.target)
            self._since = page.day
            return 0
        self._metrics.tail.found(page.rows[0].recorded_at)
        if self._lane is not Lane.ALERT:
            await self._breathe()
        await self._let_detections_pass(page.rows)
        told = await self._registry.told_before(self._session, page.rows)
        count, messages = self._route(page.rows, told)
        self._metrics.rows_read.inc(count)
        self._more = count < len(page.rows) or not page.exhausted
        self._limit = min(self._page_rows, max(_FEWEST_ROWS, 2 * (count if self._more else self._limit)))
        position = page.position_after(count)
        if await self._write(messages, position, page.day):
            if position.complete:
                self._since = page.day
            self._queue(messages, self._batch)
        else:
            self._give_up(messages)
        await asyncio.sleep(0)  # the requests leave before the next page is asked for
        return count

    async def _let_detections_pass(self, rows: list[OutboxRow]) -> None:
        """Wait until the lanes before this one have come to the events that these rows revise."""
        events = {row.event_id: row.id for row in rows if row.event_id and follows(row.type, row.event_id)}
        if self._lane is Lane.ALERT or not events:
            return
        waited_s = 0.0
        while waited_s < _LONGEST_COURTESY_S:
            found = await self._session.fetchrow(
                "unrouted_before", list(events), list(events.values()), self._lane
            )
            if found is None or not found[0]:
                return
            await asyncio.sleep(_COURTESY_S)
            waited_s += _COURTESY_S
        log.warning("revisions overtake their events: the lane of alerts does not advance")

    async def _breathe(self) -> None:
        """Wait for room as long as deliveries are being settled: cheaper than writing and reading back."""
        while self._lanes.crowded(self._lane):
            before = self._lanes.settled_count
            await asyncio.sleep(_BREATH_S)
            if self._lanes.settled_count == before:
                return

    def _route(self, rows: list[OutboxRow], told: Tellings) -> tuple[int, list[MessageRow]]:
        """Match rows until enough deliveries have come together; give how many rows, and the messages."""
        messages: list[MessageRow] = []
        deliveries = count = 0
        for row in rows:
            webhook_ids = self._registry.match(row, told)
            if deliveries and deliveries + len(webhook_ids) > self._most_deliveries:
                break
            deliveries += len(webhook_ids)
            count += 1
            try:
                body = build_body(row.type, row.occurred_at, row.data_text, test=row.test)
            except ValueError:
                # The outbox refuses such rows. One that is there all the same must not hold up the lane.
                log.exception("an event cannot be sent to anybody", outbox_id=row.id)
                body, webhook_ids = Body(b"", ()), []
            if body.inexact_integers:
                log.warning(
                    "integers that JSON readers cannot hold were rounded, as JavaScript does",
                    outbox_id=row.id,
                    integers=body.inexact_integers,
                )
            full_body, full_for = self._registry.full_body(row, webhook_ids, told)
            claimed: list[bool] = []
            message = MessageRow(
                day=row.day,
                outbox_id=row.id,
                type=row.type,
                occurred_at=row.occurred_at,
                recorded_at=row.recorded_at,
                body=body.content,
                test=row.test,
                webhook_ids=webhook_ids,
                claimed=claimed,
                full_body=full_body,
                full_for=full_for,
                traceparent=row.traceparent,
            )
            claimed += [
                self._admit(row, webhook_id, len(message.body_for(webhook_id))) for webhook_id in webhook_ids
            ]
            messages.append(message)
        return count, messages

    def _admit(self, row: OutboxRow, webhook_id: WebhookId, body_bytes: int) -> bool:
        if self._waiting.waits(self._lane, webhook_id):
            return False
        if self._lane is Lane.EVENT and self._waiting.waits(Lane.ALERT, webhook_id):
            return False  # what it revises may be among what waits
        key = DeliveryKey(row.day, row.id, webhook_id)
        return self._lanes.admit(self._lane, key, body_bytes) is Admission.ADMITTED

    async def _write(self, messages: list[MessageRow], position: Position, day: dt.date) -> bool:
        """Write a batch; false when it is certain that it was not and never will be written."""
        batch = self._batch + 1
        try:
            await self._fan_out(batch, messages, position, day)
        except DatabaseUnavailable:
            written = await self._outage.patiently(self._name, partial(self._settle, batch, position, day))
        else:
            self._position, written = position, True
        self._batch = batch
        return written

    async def _fan_out(
        self, batch: int, messages: list[MessageRow], position: Position, day: dt.date
    ) -> None:
        await self._ledger.fan_out(self._lane, batch, messages, position, self._system_id, day)

    async def _settle(self, batch: int, position: Position, day: dt.date) -> bool:
        """Find out whether a batch was written that left for `position`, and see that it stays so."""
        while await self._begin_session() < batch:
            # The server may still be at work on it. An empty batch in its place (of the same day, whatever
            # the time is by now) waits for the end of that, and then stands there or finds the place taken.
            with suppress(BatchTaken):
                await self._fan_out(batch, [], self._position, day)
        return self._position == position

    def _give_up(self, messages: list[MessageRow]) -> None:
        for message in messages:
            for webhook_id, claimed in zip(message.webhook_ids, message.claimed, strict=True):
                if claimed:
                    key = DeliveryKey(message.day, message.outbox_id, webhook_id)
                    self._lanes.give_up(self._lane, key, len(message.body_for(webhook_id)))

    def _queue(self, messages: list[MessageRow], batch: int) -> None:
        claimed_count = deliveries = 0
        for message in messages:
            payloads: dict[int, Payload] = {}  # by the body that it holds
            deliveries += len(message.webhook_ids)
            for webhook_id, claimed in zip(message.webhook_ids, message.claimed, strict=True):
                if claimed:
                    claimed_count += 1
                    key = DeliveryKey(message.day, message.outbox_id, webhook_id)
                    body = message.body_for(webhook_id)
                    payload = payloads.get(id(body))
                    if payload is None:
                        payload = Payload(
                            message.type, body, message.recorded_at, message.traceparent, test=message.test
                        )
                        payloads[id(body)] = payload
                    self._order.push(Pending(key, self._lane, payload, batch=batch))
                else:
                    self._waiting.mark(self._lane, webhook_id, message.outbox_id)
        self._progress.opened(self._lane, batch, claimed_count)
        now = dt.datetime.now(dt.UTC)
        for message in messages:
            self._metrics.fanned_out_s.observe((now - message.recorded_at).total_seconds())
            if self._traces is not None:
                event = Event(
                    message.day, message.outbox_id, message.type, message.recorded_at, message.traceparent
                )
                self._traces.fanned_out(event, self._lane, len(message.webhook_ids), now)
        self._metrics.messages.inc(len(messages))
        self._metrics.deliveries.inc(deliveries)
        if claimed_count:
            self._pushed()
