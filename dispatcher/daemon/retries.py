"""Brings back what is due: retries, attempts that a crash interrupted, attempts asked for by hand.

How this works. Every fact that has a due time and no successor is due then: the facts are the schedule. A
cursor moves over them in the order of their due times, never beyond now; the loop sleeps until the earliest
due time that it knows of, and a moment longer while they flow. The last few seconds are read again each time,
since a fact may be committed a little after its due time was set. What finds no room waits by webhook, like
first attempts do (`daemon/waiting.py`), and is read back in the order of due times. First attempts that a
crash interrupted keep their lane and its room, and wait apart: an alert stands behind no retry, and no retry
behind what somebody asked for, of which less may be in memory.

Due times are wall-clock times, and the clock may be put back: `daemon/setback.py` notices, and what was
written by a clock that was ahead then comes as if it had not been.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, get_args

from dispatcher.core.delivery import Kind, Trigger
from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.lanes import Admission
from dispatcher.core.pending import TAILED, Lane, Payload, Pending
from dispatcher.daemon.setback import Setback
from dispatcher.daemon.shared import BEGINNING, Shared, utc_now
from dispatcher.store.backlog import Backlog, DueRow, Sort
from dispatcher.store.ledger import Ledger
from dispatcher.store.registry import Webhook

_PAGE_ROWS: Final = 500
_AWAITED_ROWS: Final = 64  # looked through for one that may go though there is no room
_READ_AGAIN: Final = dt.timedelta(seconds=5)
_COMMITTED_LATE: Final = dt.timedelta(minutes=1)  # a commit of others' may have waited so long for a disk
_LOOK_BACK_EVERY: Final = dt.timedelta(seconds=10)
_LONGEST_SLEEP_S: Final = 5.0  # what is due announces itself; this is for an announcement that got lost
_LATE_S: Final = 15.0
# After a sweep that found something: each reads some seconds again, and one for each retry of a steady flow
# cost more than the retries (1.1 ms of CPU each at 200 a second).
_GATHER_S: Final = 0.25
_NEVER: Final = dt.datetime.max.replace(tzinfo=dt.UTC)
_SORTS: Final = get_args(Sort)  # in the order in which they are read back


class _Cursor(NamedTuple):
    due_at: dt.datetime
    outbox_id: OutboxId
    webhook_id: WebhookId


class _Waiter(NamedTuple):
    """What of a webhook waits for room: each sort by itself, since some lanes may fill less of it."""

    webhook_id: WebhookId
    sort: Sort


class Retries:
    """The schedule of one run."""

    def __init__(
        self,
        shared: Shared,
        backlog: Backlog,
        ledger: Ledger,
        *,
        stopped: Callable[[list[Webhook]], object],
        now: Callable[[], dt.datetime] = utc_now,
    ) -> None:
        """Make it; `stopped` is told of webhooks that became inactive."""
        self._backlog = backlog
        self._ledger = ledger
        self._registry = shared.registry
        self._stopped = stopped
        self._lanes = shared.lanes
        self._order = shared.order
        self._outage = shared.outage
        self._pulse = shared.pulse("retries", _LATE_S)
        self._under_way = shared.process.under_way
        self._now = now
        self._setback = Setback()
        self._meanwhile = _NEVER  # the earliest due time that became durable since a sweep began
        self._cursor = _Cursor(BEGINNING, OutboxId(0), WebhookId(0))
        self._waiting: dict[_Waiter, tuple[dt.datetime, OutboxId]] = {}
        self._held: dict[Pending, dt.datetime] = {}
        self._expected: dt.datetime | None = None
        self._found = False  # something, by the last sweep
        # The database's clock when it was asked last, and when that was: ours may be put meanwhile.
        self._databases: tuple[dt.datetime, float] | None = None
        self._look_back = False  # over what others may have committed late
        self._looked_back_at = BEGINNING
        self._wake = asyncio.Event()
        self.pushed = asyncio.Event()  # set when something was queued

    def begin(self, low: dt.datetime) -> None:
        """Start from the time up to which the last run had attempted everything that was due."""
        self._cursor = _Cursor(low - _COMMITTED_LATE, OutboxId(0), WebhookId(0))

    def low(self) -> dt.datetime:
        """Give the time up to which everything that was due has been attempted."""
        waiting = (due_at for due_at, _ in self._waiting.values())
        now = self._by_database(self._now())
        return min(self._cursor.due_at - _READ_AGAIN, *self._held.values(), *waiting, now)

    def expect(self, due_at: dt.datetime) -> None:
        """Note a durable fact with a due time."""
        self._meanwhile = min(self._meanwhile, due_at)
        if due_at <= self._cursor.due_at:
            self._cursor = _Cursor(due_at - _READ_AGAIN, OutboxId(0), WebhookId(0))
        if self._expected is None or due_at < self._expected:
            self._expected = due_at
            self._wake.set()

    def ring(self) -> None:
        """Somebody else appended a fact that is due: look now, also at what was due a while ago."""
        self._look_back = True
        self._look()

    def _look(self) -> None:
        self._expected = self._now()
        self._wake.set()

    def brought(self, pending: Pending) -> bool:
        """Say whether an attempt was brought back from here."""
        return pending in self._held

    def waits(self, webhook_id: WebhookId) -> bool:
        """Say whether something that was asked for of a webhook found no room yet."""
        return _Waiter(webhook_id, "asked") in self._waiting

    @property
    def due(self) -> int:
        """How many attempts are due and have not left, webhooks that wait for room counted as one."""
        return len(self._held) + len(self._waiting)

    def settled(self, pending: Pending) -> None:
        """Forget an attempt that had been brought back and now has its fact."""
        del self._held[pending]
        if any(_Waiter(pending.key.webhook_id, sort) in self._waiting for sort in _SORTS):
            self._look()

    async def run(self) -> None:
        """Bring back what is due until cancelled."""
        await self._outage.patiently("retries", partial(self._next_due, self._now()))
        while True:
            self._wake.clear()
            self._expected = None
            now = self._now()
            if self._look_back and not now - _LOOK_BACK_EVERY < self._looked_back_at <= now:
                self._look_back, self._looked_back_at = False, now
                earlier = self._by_database(now) - _COMMITTED_LATE
                self._cursor = min(self._cursor, _Cursor(earlier, OutboxId(0), WebhookId(0)))
            if self._setback.noticed(now):
                found = await self._outage.patiently("retries", partial(self._backlog.written_ahead, now))
                self._setback.measured(now, found)
            more = await self._sweep(now)
            for waiter in sorted(self._waiting, key=lambda one: _SORTS.index(one.sort)):
                await self._serve(waiter, now)
            self._pulse.beat()
            self._under_way.set()
            if not more:
                if self._found and not self._waiting:
                    await asyncio.sleep(_GATHER_S)
                await self._sleep(now)

    async def _sleep(self, swept: dt.datetime) -> None:
        found = await self._outage.patiently("retries", partial(self._next_due, swept))
        if found is not None and (self._expected is None or found < self._expected):
            self._expected = found
        while True:
            wait_s = _LONGEST_SLEEP_S
            if self._expected is not None:
                wait_s = min(wait_s, (self._expected - self._now()).total_seconds())
            if wait_s <= 0:
                return
            try:
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()
            except TimeoutError:
                return
            self._wake.clear()

    async def _next_due(self, after: dt.datetime) -> dt.datetime | None:
        """Give the earliest due time after a time, and note the database's clock."""
        asked = time.monotonic()
        found, clock = await self._backlog.next_due(after)
        self._databases = clock, asked
        return found

    def _by_database(self, now: dt.datetime) -> dt.datetime:
        """Give the earlier of our time and the database's: others' facts are due by that."""
        if self._databases is None:  # nothing was read yet
            return now
        clock, asked = self._databases
        return min(now, clock + dt.timedelta(seconds=time.monotonic() - asked))

    async def _sweep(self, now: dt.datetime) -> bool:
        """Read one page of what is due for everybody; true when there may be more."""
        start, self._meanwhile = self._cursor, _NEVER
        ahead = self._setback.reach(now)
        rows = await self._outage.patiently(
            "retries", lambda: self._backlog.due(start, now, _PAGE_ROWS, ahead)
        )
        admitted: list[tuple[Pending, dt.datetime]] = []
        for row in rows:
            waiter = _Waiter(row.key.webhook_id, _sort(_lane(row)))
            waiting_from = self._waiting.get(waiter)
            if waiting_from is not None and waiting_from < (row.due_at, row.key.outbox_id):
                continue  # its webhook's own reader will come to it
            if not self._admit(row, admitted):
                before = (row.due_at, OutboxId(row.key.outbox_id - 1))
                self._waiting[waiter] = min(before, waiting_from or before)
        await self._push(admitted)
        self._found = bool(admitted)
        more = len(rows) == _PAGE_ROWS
        if ahead and not more:
            self._setback.reached()
        if self._cursor is start:
            if more:
                last = rows[-1]
                self._cursor = _Cursor(last.due_at, last.key.outbox_id, last.key.webhook_id)
            else:
                self._cursor = _Cursor(self._by_database(now) - _READ_AGAIN, OutboxId(0), WebhookId(0))
            # A fact that was recorded late, after an outage, may have been due long before the page was read.
            if self._meanwhile <= self._cursor.due_at:
                self._cursor = _Cursor(self._meanwhile - _READ_AGAIN, OutboxId(0), WebhookId(0))
        return more

    async def _serve(self, waiter: _Waiter, now: dt.datetime) -> None:
        """Read back what is due for a webhook that waits."""
        if waiter.sort == "first":  # beside what the tails bring: it takes whatever room there is
            room = min(_PAGE_ROWS, max(self._lanes.room_for(lane, waiter.webhook_id) for lane in TAILED))
        else:
            lane = Lane.RETRY if waiter.sort == "retry" else Lane.RECOVERY
            room = self._lanes.page_for(lane, waiter.webhook_id, _PAGE_ROWS)
        awaited = self._is_awaited(waiter)
        if awaited:
            room = max(room, _AWAITED_ROWS)
        start = self._waiting[waiter]
        if room == 0:
            return
        rows = await self._outage.patiently(
            "retries",
            lambda: self._backlog.due_of_webhook(
                waiter.webhook_id, start, now, room, sort=waiter.sort, ahead=self._setback.ahead
            ),
        )
        admitted: list[tuple[Pending, dt.datetime]] = []
        stopped = False
        for row in rows:  # to the end of the page: its alerts may have room where others have none
            stopped = not self._admit(row, admitted, awaited=awaited) or stopped
            if not stopped:
                self._waiting[waiter] = (row.due_at, row.key.outbox_id)
        if not stopped and len(rows) < room:
            del self._waiting[waiter]
        await self._push(admitted)

    def _is_awaited(self, waiter: _Waiter) -> bool:
        """Say whether what is held waits for what is due: without it, none of that would ever leave.

        Only where order is strict, or was: elsewhere what is held is let go after a while.
        """
        return (
            waiter.sort != "asked"
            and self._order.holds_back(waiter.webhook_id)
            and self._lanes.room.may_exceed(waiter.webhook_id)
            and (waiter.sort == "first" or not self._lanes.moves(Lane.RETRY, waiter.webhook_id))
        )

    def _admit(
        self, row: DueRow, admitted: list[tuple[Pending, dt.datetime]], *, awaited: bool = False
    ) -> bool:
        lane = _lane(row)
        if awaited:
            subject = Payload(row.type, row.body, row.recorded_at, test=row.test).subject
            awaited = self._order.lets_go(row.key.webhook_id, subject, row.key.outbox_id)
        answer = self._lanes.admit(lane, row.key, len(row.body), row.attempt_no, awaited=awaited)
        if answer is Admission.ADMITTED:
            payload = Payload(row.type, row.body, row.recorded_at, row.traceparent, test=row.test)
            pending = Pending(
                row.key,
                lane,
                payload,
                attempt_no=row.attempt_no,
                trigger=row.trigger,
                state=row.state,
                failures=row.failures,
            )
            pending.due_at, pending.asked = row.due_at, row.asked
            admitted.append((pending, row.due_at))
        return answer in {Admission.ADMITTED, Admission.HELD}

    async def _push(self, admitted: list[tuple[Pending, dt.datetime]]) -> None:
        if not admitted:
            return
        for pending, due_at in admitted:
            self._held[pending] = due_at
        claims = [(pending.key, pending.attempt_no) for pending, _ in admitted]
        over = await self._outage.patiently("retries", lambda: self._ledger.claim(claims))
        await self._outage.patiently("retries", self._freshen)
        for pending, _ in admitted:
            if pending.key in over:
                self._lanes.give_up(pending.lane, pending.key, len(pending.payload.body))
                self.settled(pending)
            else:
                self._order.push(pending)
        self.pushed.set()

    async def _freshen(self) -> None:
        """Learn of changes to webhooks: they apply from the next attempt on, this one included.

        The tails learn of them as well, but may be a poll behind a change and what was asked for after it.
        """
        self._stopped(await self._registry.refresh(await self._backlog.registry_version()))


def _sort(lane: Lane) -> Sort:
    if lane in TAILED:
        return "first"
    return "retry" if lane is Lane.RETRY else "asked"


def _lane(row: DueRow) -> Lane:
    """Give the lane of a due attempt: a first attempt that a crash interrupted keeps its own."""
    if row.trigger in {Trigger.MANUAL, Trigger.RECOVER}:
        return Lane.RECOVERY
    if row.kind in {Kind.INTERRUPTED, Kind.POSTPONED} and row.trigger in {Trigger.FIRST, Trigger.TEST}:
        return Lane(row.lane)
    return Lane.RETRY
