"""Follows one lane of the outbox: reads what became visible, decides who is told, writes it down, queues it.

How this works. A step reads a page, matches each row against webhooks at least as new as the row, and writes
the messages, the deliveries and the lane's new position in one statement: a crash repeats the step or does
not, and never does half. Room in memory is reserved before the write, so each delivery is written as "taken
by this run" or "waits in the database", and a restart knows which ones may have been sent. An event that goes
to very many is written in chunks: beside the position stands who is still to be told, until nobody is.

What the tail knows holds for one session with PostgreSQL (decision 9): a server that crashed gives
transaction ids again that had left no trace. So each session begins from the stored position, a page is
written in the session that it was read in or not at all, and a write whose end is unknown is settled first.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
import structlog

from dispatcher.core.body import Body, build_body
from dispatcher.core.chunks import in_turns, sizes
from dispatcher.core.errors import DatabaseUnavailable, LeaseLost
from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.pending import Lane
from dispatcher.core.snapshot import Position
from dispatcher.daemon.courtesy import Courtesy
from dispatcher.daemon.doorbell import Doorbell
from dispatcher.daemon.intake import Downstream, Intake
from dispatcher.daemon.shared import Shared
from dispatcher.store.begun import Begun, read_begun
from dispatcher.store.connection import Link, Session
from dispatcher.store.incarnation import enter
from dispatcher.store.ledger import BatchTaken, Ledger, MessageRow, rehearse
from dispatcher.store.outbox import OutboxReader, OutboxRow, Start
from dispatcher.store.revisions import Tellings

# One statement writes at most about this many deliveries; of the lower lanes fewer, since the loop is not
# the alerts' meanwhile (behind 100,000 sensor rows for ten webhooks an alert took 69 ms in the median with
# 1,000 here, and 17 ms with 200).
_MOST_DELIVERIES: Final = {Lane.ALERT: 2_000, Lane.EVENT: 500, Lane.ROUTINE: 200}
_FEWEST_ROWS: Final = 50  # read at a time
# Between two steps of a lane in a storm: many rows cost little more than one, for PostgreSQL and for us.
_PACE_S: Final = 0.01

log = structlog.get_logger("tail")


class Tailer:
    """The tail of one lane, in one run."""

    def __init__(
        self, shared: Shared, lane: Lane, link: Link, doorbell: Doorbell, downstream: Downstream
    ) -> None:
        name = lane.name.lower()
        self._name = f"tail of lane {name}"
        self._lane = lane
        self._link = link
        self._shared = shared
        self._run_id = shared.run_id
        self._registry = shared.registry
        self._courtesy = Courtesy(shared, lane)
        self._intake = Intake(shared, lane, downstream)
        self._progress = downstream.progress
        self._stopped = downstream.stopped
        self._doorbell = doorbell
        self._outage = shared.outage
        self._right_of_way = shared.lanes.right_of_way
        self._pushed = downstream.pushed
        self._metrics = shared.metrics.lanes[name]
        self._most_deliveries = _MOST_DELIVERIES[lane]
        self._page_rows = shared.process.config.tail.page_rows
        self._chunk = min(shared.process.config.tail.chunk_deliveries, self._most_deliveries)
        self._sizes: Iterator[int] = sizes(self._chunk, self._most_deliveries)  # of the chunks to come
        self._begun: Begun | None = None  # the event that is being written in chunks
        self._limit = min(_FEWEST_ROWS, self._page_rows)  # of rows of the next page: what a step deals with
        self._more = False  # the last step left rows that it had seen
        self._under_way = shared.process.under_way
        self._session: Session
        self._rehearsed: Session | None = None  # the session that has planned the fan-out
        self._reader: OutboxReader
        self._ledger: Ledger
        self._position: Position
        self._rest: tuple[WebhookId, ...] = ()  # whom the event at the position goes to besides
        self._since = self._day = dt.date.min  # of the stored position, and of what is written
        self._batch = 0
        self._system_id = 0

    async def begin(self) -> int:
        """Find where the last run left the lane; give its last batch.

        Raises `OperatorError` after a restore into another server or database.
        """
        start = await self._outage.patiently(self._name, self._begin_session)
        self._batch, self._day = start.batch, start.today
        self._progress.begin(self._lane, self._batch)
        if self._rest:
            begun = self._begun = await self._outage.patiently(self._name, self._read_begun)
            self._shared.begun[self._lane] = begun.message.event_id
            self._progress.begun(self._lane, begun.batch)
        return self._batch

    async def _read_begun(self) -> Begun:
        return await read_begun(self._link, self._lane, OutboxId(self._position.outbox_id), self._rest)

    async def _begin_session(self) -> Start:
        """Read the stored position, and nothing but it from now on."""
        session = await self._link.session()
        reader = OutboxReader(session, self._lane)
        start = await reader.newest_position()
        if not start.entered and (branch := await enter(session, self._run_id)) is not None:
            log.warning("history branched", **msgspec.to_builtins(branch), reason=str(branch))
        self._session, self._reader, self._ledger = session, reader, Ledger(session, self._run_id)
        self._position, self._since, self._system_id = start.position, start.day, start.system_id
        self._rest = start.rest
        return start

    async def run(self) -> None:
        """Follow the lane until cancelled."""
        while True:
            seen = self._doorbell.count
            await self._courtesy.give_way()
            self._metrics.tail.begins()
            rows = await self._outage.patiently(self._name, self._step)
            self._metrics.tail.rests()
            if self._lane is Lane.ALERT and self._right_of_way.give_back():
                self._pushed()  # perhaps something else may go now
            if not rows:
                await self._doorbell.rings(self._lane, seen)
                continue
            self._doorbell.found(self._lane)
            if not self._more and self._doorbell.polled(self._lane):
                await asyncio.sleep(_PACE_S)

    async def _step(self) -> int:
        if self._session.ended and (await self._begin_session()).batch != self._batch:
            raise LeaseLost(f"the {self._name} does not stand where this run left it")
        if self._begun is not None:
            self._metrics.tail.found(self._begun.message.recorded_at)
            await self._courtesy.breathe()
            await self._go_on(self._begun, self._position)
            await asyncio.sleep(0)
            return 1
        page = await self._reader.read(self._position, self._since, self._limit)
        if page.registry_version > self._registry.version:
            self._stopped(await self._registry.refresh(page.registry_version))
        if not page.rows:
            self._position = Position.after(page.target)
            self._since = page.day
            if self._under_way.is_set() and self._rehearsed is not self._session:
                self._rehearsed = self._session
                await rehearse(self._session, self._lane, self._position, page.day)
            return 0
        self._day = page.day
        self._metrics.tail.found(page.rows[0].recorded_at)
        if self._lane is Lane.ALERT:
            self._right_of_way.take(time.monotonic_ns())
        await self._courtesy.breathe()
        await self._courtesy.let_detections_pass(self._session, page.rows)
        told = await self._registry.told_before(self._session, page.rows)
        messages = self._route(page.rows, told)
        count = len(messages)
        self._metrics.rows_read.inc(count)
        self._more = count < len(page.rows) or not page.exhausted
        self._limit = min(self._page_rows, max(_FEWEST_ROWS, 2 * (count if self._more else self._limit)))
        if len(messages[0].webhook_ids) > self._chunk:
            self._more = True
            await self._begin(messages[0], page.position_at(page.rows[0]))
        else:
            await self._deal_with(messages, page.position_after(count))
        await asyncio.sleep(0)  # the requests leave before the next page is asked for
        return count

    def _route(self, rows: list[OutboxRow], told: Tellings) -> list[MessageRow]:
        """Match rows until enough deliveries have come together, one row at least; give the messages.

        An event that goes to very many is alone.
        """
        messages: list[MessageRow] = []
        deliveries = 0
        for row in rows:
            webhook_ids = self._registry.match(row, told)
            many = len(webhook_ids) > self._chunk
            if messages and (many or deliveries + len(webhook_ids) > self._most_deliveries):
                break
            deliveries += len(webhook_ids)
            messages.append(self._message(row, webhook_ids, told))
            if many:
                break
        return messages

    def _message(self, row: OutboxRow, webhook_ids: list[WebhookId], told: Tellings) -> MessageRow:
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
        return MessageRow(
            day=row.day,
            outbox_id=row.id,
            type=row.type,
            occurred_at=row.occurred_at,
            recorded_at=row.recorded_at,
            body=body.content,
            test=row.test,
            webhook_ids=webhook_ids,
            claimed=[],
            full_body=full_body,
            full_for=full_for,
            traceparent=row.traceparent,
            event_id=row.event_id,
        )

    async def _deal_with(self, messages: list[MessageRow], position: Position) -> None:
        """Write messages and queue their deliveries; where they are not written, they are read again."""
        for message in messages:
            self._intake.admit(message)
        if await self._write(messages, position):
            if position.complete:
                self._since = self._day
            self._intake.queue(messages, self._batch)
        else:
            self._intake.give_up(messages)

    async def _begin(self, message: MessageRow, position: Position) -> None:
        """Write the first chunk of an event that goes to very many webhooks."""
        in_order = in_turns(message.webhook_ids, self._registry.host_of)
        whole = msgspec.structs.replace(message, webhook_ids=in_order, fan_out=len(in_order))
        begun = Begun(whole, self._batch + 1)
        self._shared.begun[self._lane] = message.event_id
        self._sizes = sizes(self._chunk, self._most_deliveries)
        await self._go_on(begun, position)
        if self._begun is None:
            self._shared.begun.pop(self._lane, None)  # it was not written, and is read again

    async def _go_on(self, begun: Begun, position: Position) -> None:
        """Write the next chunk of an event, and queue its deliveries."""
        size = next(self._sizes)
        message, rest = begun.message, tuple(begun.message.webhook_ids[size:])
        chunk = msgspec.structs.replace(message, webhook_ids=message.webhook_ids[:size], claimed=[])
        self._intake.admit(chunk)
        if not await self._write([chunk], position, rest):
            self._intake.give_up([chunk])
            return
        if not message.written:
            self._progress.begun(self._lane, begun.batch)
        self._intake.queue([chunk], begun.batch, complete=not rest)
        self._begun = None
        if rest:
            following = msgspec.structs.replace(message, webhook_ids=rest, written=True)
            self._begun = Begun(following, begun.batch)
        else:
            self._progress.ended(self._lane, begun.batch)
            self._shared.begun.pop(self._lane, None)

    async def _write(
        self, messages: list[MessageRow], position: Position, rest: tuple[WebhookId, ...] = ()
    ) -> bool:
        """Write a batch; false when it is certain that it was not and never will be written."""
        batch = self._batch + 1
        try:
            await self._fan_out(batch, messages, position, rest)
        except DatabaseUnavailable:
            written = await self._outage.patiently(self._name, partial(self._settle, batch, position, rest))
        else:
            self._position, self._rest, written = position, rest, True
        self._batch = batch
        return written

    async def _fan_out(
        self, batch: int, messages: list[MessageRow], position: Position, rest: tuple[WebhookId, ...]
    ) -> None:
        await self._ledger.fan_out(self._lane, batch, messages, position, self._system_id, self._day, rest)

    async def _settle(self, batch: int, position: Position, rest: tuple[WebhookId, ...]) -> bool:
        """Find out whether a batch was written that left for `position`, and see that it stays so."""
        while (await self._begin_session()).batch < batch:
            # The server may still be at work on it. An empty batch in its place (of the same day, whatever
            # the time is by now) waits for the end of that, and then stands there or finds the place taken.
            with suppress(BatchTaken):
                await self._fan_out(batch, [], self._position, self._rest)
        return (self._position, self._rest) == (position, rest)
