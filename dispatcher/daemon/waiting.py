"""Reads back what found no room in memory, webhook by webhook, as room comes free.

How this works. When a delivery is not admitted, its webhook *waits* in that lane from that delivery on: later
ones are not admitted either until this reader has caught up, so their order is kept. The reader goes to the
database with the webhook's position, takes as many as there is room for, claims them and queues them. `safe`
is the position up to which everything is settled: that is what a checkpoint remembers, so that a restart
finds the rest. A row may be read twice: a transaction that commits late has a low id and moves the position
back, and a page that was being read meanwhile does not move it past that id. Whatever has a fact or is in
memory is skipped.

A read finds nothing that is written after it began, and events may come all the time. So when little was
found, what comes next goes to memory again, and stays *behind* there until one more read has found the rest:

    waits ──a page that is not full──▶ hands over ──another, and no mark since──▶ reads nothing any more
      ▲                                    │
      └── no room: what is behind goes back

Webhooks take turns, lane by lane, as long as the lane has room. One that has taken its own share leaves the
turns until something of it is settled; one whose host has taken its share, until that may hold more, and then
one of them comes for each delivery that is settled. So a wake-up costs what it can do and not a look at
everybody.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
from collections import deque
from collections.abc import Hashable, Iterable
from contextlib import suppress
from typing import Final

from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.lanes import Admission
from dispatcher.core.pending import TAILED, Lane, Payload, Pending
from dispatcher.daemon.progress import Progress
from dispatcher.daemon.shared import Shared, utc_now
from dispatcher.store.backlog import Backlog, WaitingRow
from dispatcher.store.ledger import Ledger

_PAGE_ROWS: Final = 256
_NONE: Final = OutboxId(2**63 - 1)
_GATHER_S: Final = 0.005  # every settled delivery wakes the reader: one round for many of them
_LOOK_AT_ALL_S: Final = 5.0  # whoever was forgotten, and has nothing in memory, gets his turn then


class _Served(enum.Enum):
    """How a webhook's turn ended."""

    MORE = enum.auto()  # it could go on at once
    DONE = enum.auto()  # nothing is left, or it has to wait for something of its own
    FULL = enum.auto()  # it found no room: nobody would


class _Turns:
    """Who may be served next in a lane; each webhook stands in it once."""

    def __init__(self) -> None:
        self._order: deque[WebhookId] = deque()
        self._listed: set[WebhookId] = set()

    def __bool__(self) -> bool:
        return bool(self._order)

    def add(self, webhook_id: WebhookId) -> None:
        if webhook_id not in self._listed:
            self._listed.add(webhook_id)
            self._order.append(webhook_id)

    @property
    def next(self) -> WebhookId:
        return self._order[0]

    def take(self) -> WebhookId:
        webhook_id = self._order.popleft()
        self._listed.discard(webhook_id)
        return webhook_id


class _Entry:
    __slots__ = ("behind", "lane", "low", "marks", "outstanding", "position", "reading", "safe")

    def __init__(self, lane: Lane, position: OutboxId) -> None:
        self.lane = lane
        self.position = position  # read up to here
        self.safe = position  # settled up to here
        self.outstanding = 0  # read back and not settled
        self.reading = True  # more may be found after `position`
        self.marks = 0  # how often it was marked: a mark during a read means that it may have missed rows
        # The lowest position marked since the last read began: it may have missed what follows.
        self.low = _NONE
        self.behind: list[Pending] | None = None  # of its hand-over, in their order


class Waiting:
    """The webhooks that wait in each lane, and the loop that serves them."""

    def __init__(
        self,
        shared: Shared,
        backlog: Backlog,
        ledger: Ledger,
        progress: Progress,
        *,
        look_at_all_s: float = _LOOK_AT_ALL_S,
        gather_s: float = _GATHER_S,
    ) -> None:
        """Make it; a wake-up is a hint, and every so often it looks at everybody who waits."""
        self._look_at_all_s = look_at_all_s
        self._gather_s = gather_s
        self._backlog = backlog
        self._ledger = ledger
        self._progress = progress
        self._lanes = shared.lanes
        self._order = shared.order
        self._outage = shared.outage
        self._entries: dict[tuple[Lane, WebhookId], _Entry] = {}
        self._turns = tuple(_Turns() for _ in TAILED)
        self._crowded: tuple[dict[Hashable, _Turns], ...] = tuple({} for _ in TAILED)  # by host
        self._handing_over: tuple[set[_Entry], ...] = tuple(set() for _ in TAILED)
        self._claimed: dict[Pending, dt.datetime] = {}  # read back and not settled, the oldest first
        self._wake = asyncio.Event()
        self.pushed = asyncio.Event()  # set when something was queued

    @property
    def count(self) -> int:
        """How many webhooks wait, each counted once in every lane."""
        return len(self._entries)

    def waits(self, lane: Lane, webhook_id: WebhookId) -> bool:
        """Say whether a webhook's new deliveries must stay in the database."""
        if not self._entries:
            return False
        entry = self._entries.get((lane, webhook_id))
        if entry is not None and entry.reading and entry.behind is None:
            return True
        # What an event revises may be among the alerts that wait.
        return lane is Lane.EVENT and self.reads(Lane.ALERT, webhook_id)

    def reads(self, lane: Lane, webhook_id: WebhookId) -> bool:
        """Say whether something of a webhook may still have to be read back."""
        entry = self._entries.get((lane, webhook_id))
        return entry is not None and entry.reading

    def queue(self, pending: Pending) -> bool:
        """Queue what was admitted and written, in a batch that is open; false where it waits after all."""
        if not self._entries:
            self._order.push(pending)
            return True
        lane, webhook_id = pending.lane, pending.key.webhook_id
        entry = self._entries.get((lane, webhook_id))
        if entry is not None and entry.behind is not None:
            entry.behind.append(pending)
            # The reader may have come by while this was being written, and have found no room.
            self._turns[lane].add(webhook_id)
            self._wake.set()
        elif self.waits(lane, webhook_id):
            # Its hand-over was given up while it was being written, or what it may revise began to wait.
            self._give_back([pending])
            return False
        else:
            self._order.push(pending)
        return True

    def mark(self, lane: Lane, webhook_id: WebhookId, outbox_id: OutboxId) -> None:
        """Let a webhook wait, from this delivery on."""
        before = OutboxId(outbox_id - 1)
        entry = self._entries.get((lane, webhook_id))
        if entry is None:
            entry = self._entries[lane, webhook_id] = _Entry(lane, before)
        else:
            entry.position = min(entry.position, before)
            entry.safe = min(entry.safe, before)
            entry.reading = True
        entry.low = min(entry.low, before)
        entry.marks += 1
        self._turns[lane].add(webhook_id)
        self._wake.set()
        if entry.behind:  # it would be read back before these, and after what comes next
            self._abandon(entry)

    def _abandon(self, entry: _Entry) -> None:
        """Give a hand-over up: what came meanwhile is read back in its turn, like everything."""
        behind, entry.behind = entry.behind, None
        self._handing_over[entry.lane].discard(entry)
        self._give_back(behind or [])

    def _give_back(self, pendings: list[Pending]) -> None:
        """Let deliveries that are in memory, and were never queued, wait in the database."""
        for pending in pendings:
            assert pending.batch is not None  # noqa: S101 - it came straight from its fan-out
            self.mark(pending.lane, pending.key.webhook_id, pending.key.outbox_id)
            self._lanes.give_up(pending.lane, pending.key, len(pending.payload.body))
            self._progress.closed(pending.lane, pending.batch)

    def restore(self, lane: Lane, positions: Iterable[tuple[WebhookId, OutboxId]]) -> None:
        """Let the webhooks of a checkpoint wait again, from where they had settled everything."""
        for webhook_id, safe in positions:
            self.mark(lane, webhook_id, OutboxId(safe + 1))

    def positions(self, lane: Lane) -> list[tuple[WebhookId, OutboxId]]:
        """Give what a checkpoint has to remember: everything after these is not settled."""
        return [(webhook_id, entry.safe) for (at, webhook_id), entry in self._entries.items() if at == lane]

    def claimed_since(self) -> dt.datetime:
        """Give the time since when everything was claimed that is not settled; now, where all is."""
        return next(iter(self._claimed.values()), utc_now())

    def settled(self, pending: Pending) -> None:
        """Count a delivery that had been read back and now has its fact."""
        at = (pending.lane, pending.key.webhook_id)
        entry = self._entries[at]
        del self._claimed[pending]
        entry.outstanding -= 1
        if entry.outstanding == 0:
            entry.safe = entry.position
            if not entry.reading:
                del self._entries[at]
        self.room_freed(*at)

    def room_freed(self, lane: Lane, webhook_id: WebhookId) -> None:
        """Something left memory: perhaps there is room for those who wait."""
        if not self._entries:
            return
        if lane in TAILED and (lane, webhook_id) in self._entries:
            self._turns[lane].add(webhook_id)
        if any(self._crowded):
            self._let_in()
        self._wake.set()

    def _let_in(self) -> None:
        """Give one of those their turn whose hosts may hold more by now; hosts in turns."""
        for lane, crowded in zip(TAILED, self._crowded, strict=True):
            for host, waiting in crowded.items():
                if not self._lanes.is_host_full(lane, waiting.next):
                    del crowded[host]
                    self._turns[lane].add(waiting.take())
                    if waiting:
                        crowded[host] = waiting
                    return

    async def run(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()
        look_at = loop.time() + self._look_at_all_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(look_at):
                    await self._wake.wait()
            if loop.time() >= look_at:
                look_at = loop.time() + self._look_at_all_s
                for (lane, webhook_id), entry in self._entries.items():
                    if not entry.outstanding:
                        self._turns[lane].add(webhook_id)
            await asyncio.sleep(self._gather_s)
            self._wake.clear()
            for lane in TAILED:
                await self._serve_lane(lane)

    async def _serve_lane(self, lane: Lane) -> None:
        """Give each webhook whose turn it is one page, while there is room."""
        turns = self._turns[lane]
        again: list[WebhookId] = []
        served = _Served.MORE
        if not self._lanes.room.is_free(lane):
            for entry in list(self._handing_over[lane]):
                if entry.behind:  # it may be they who have it all, and wait for what they leave no room for
                    self._abandon(entry)
        while turns and served is not _Served.FULL and self._lanes.room.is_free(lane):
            webhook_id = turns.take()
            served = await self._serve(lane, webhook_id)
            if served is not _Served.DONE:
                again.append(webhook_id)
        for webhook_id in again:
            turns.add(webhook_id)
        if again and served is not _Served.FULL:
            self._wake.set()  # there is more: the other lanes first

    async def _serve(self, lane: Lane, webhook_id: WebhookId) -> _Served:
        """Read a page back for a webhook."""
        entry = self._entries.get((lane, webhook_id))
        room = 0 if entry is None else self._room(entry, lane, webhook_id)
        if entry is None or room == 0:
            if entry is not None and entry.reading:
                self._minds_its_host(lane, webhook_id)
            return _Served.DONE
        marks, entry.low = entry.marks, _NONE
        rows = await self._outage.patiently(
            "waiting", lambda: self._backlog.waiting(webhook_id, lane, entry.position, room)
        )
        admitted: list[Pending] = []
        full = self._admit(entry, lane, rows, admitted)
        await self._claim(entry, admitted)
        if full:
            self._abandon(entry)
            # It goes on when something of its own, or of its host's, is settled; or of anybody's.
            own = self._minds_its_host(lane, webhook_id) or entry.outstanding
            return _Served.DONE if own and self._lanes.room.is_free(lane) else _Served.FULL
        if len(rows) == room:
            return _Served.MORE
        if entry.marks != marks:
            entry.behind = entry.behind or []
            self._handing_over[lane].add(entry)
            return _Served.MORE
        self._caught_up(entry, lane, webhook_id)
        return _Served.DONE

    def _minds_its_host(self, lane: Lane, webhook_id: WebhookId) -> bool:
        """Let a webhook wait for room of its host's, if it is others of its host that have taken it."""
        if not self._lanes.is_host_full(lane, webhook_id):
            return False
        host = self._lanes.hosts.name_of(webhook_id)
        self._crowded[lane].setdefault(host, _Turns()).add(webhook_id)
        return True

    def _room(self, entry: _Entry, lane: Lane, webhook_id: WebhookId) -> int:
        """Give how many rows to read back now; 0: none."""
        if not entry.reading:
            return 0
        alerts_first = lane is Lane.EVENT and self.reads(Lane.ALERT, webhook_id)  # what it revises may wait
        room = min(_PAGE_ROWS, self._lanes.room_for(lane, webhook_id))
        if entry.behind and (alerts_first or room < len(entry.behind)):
            self._abandon(entry)
            room = min(_PAGE_ROWS, self._lanes.room_for(lane, webhook_id))
        if alerts_first:
            return 0
        # Pages of a few rows would cost a statement each: wait until a good part of the last is settled.
        return 0 if entry.outstanding > room else room

    async def _claim(self, entry: _Entry, admitted: list[Pending]) -> None:
        """Write down that these are taken into memory, and queue them."""
        if not admitted:
            return
        entry.outstanding += len(admitted)
        self._claimed |= dict.fromkeys(admitted, utc_now())
        claims = [(pending.key, pending.attempt_no) for pending in admitted]
        over = await self._outage.patiently("waiting", lambda: self._ledger.claim(claims))
        for pending in admitted:
            if pending.key in over:
                self._lanes.give_up(pending.lane, pending.key, len(pending.payload.body))
                self.settled(pending)
            else:
                self._order.push(pending)
        self.pushed.set()

    def _caught_up(self, entry: _Entry, lane: Lane, webhook_id: WebhookId) -> None:
        """Read no more for a webhook: what came meanwhile is in memory, and goes now."""
        behind, entry.behind = entry.behind, None
        self._handing_over[entry.lane].discard(entry)
        entry.reading = False
        for pending in behind or []:
            self._order.push(pending)
        if behind:
            self.pushed.set()
        if lane is Lane.ALERT and (Lane.EVENT, webhook_id) in self._entries:
            self._turns[Lane.EVENT].add(webhook_id)
        if entry.outstanding == 0:
            del self._entries[lane, webhook_id]

    def _admit(self, entry: _Entry, lane: Lane, rows: list[WaitingRow], admitted: list[Pending]) -> bool:
        """Admit rows while there is room, moving the position over them; true when there was none left."""
        for row in rows:
            if row.key.outbox_id > entry.low:
                return False  # it would pass what was marked meanwhile: they are read again
            answer = self._lanes.admit(lane, row.key, len(row.body))
            if answer is Admission.FULL:
                return True
            entry.position = min(row.key.outbox_id, entry.low)
            if answer is Admission.ADMITTED:
                payload = Payload(row.type, row.body, row.recorded_at, row.traceparent, test=row.test)
                admitted.append(Pending(row.key, lane, payload))
        return False
