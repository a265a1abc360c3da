"""Makes facts durable, in small batches, by one writer; a fact is never dropped.

How this works. Facts gather while a write is under way; when it is over, all that has gathered goes next, at
most 1,000 rows, after lingering a few milliseconds so that a steady flow shares commits. A write whose answer
was lost is repeated with the same keys and absorbed. Whoever puts a fact waits while too many are waiting, so
an outage of the database holds the senders, not memory.

A restart looks for what is due from a checkpoint's time on. Our clock may be behind that, put back or not the
one of the last run: then the checkpoint is put back first, so that nothing is due where nobody looks.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

import msgspec
import structlog

from dispatcher.core.errors import DatabaseUnavailable, UnwritableFact
from dispatcher.core.pending import Lane, Pending
from dispatcher.daemon.shared import BEGINNING, Shared, utc_now
from dispatcher.store.connection import Link
from dispatcher.store.ledger import Appender, FactRow, Ledger, MonthGone, Unappendable

BATCH_ROWS: Final = 1_000
_LINGER_S: Final = 0.005
_MOST_WAITING: Final = 5_000

log = structlog.get_logger("recorder")


class Recorder:
    """The one writer of facts of a run."""

    def __init__(self, shared: Shared, link: Link, on_durable: Callable[[Pending, FactRow], None]) -> None:
        self._ledger = Ledger(link, shared.run_id)
        self._appender = Appender(link, shared.run_id)
        self._outage = shared.outage
        self._metrics = shared.metrics
        self._on_durable = on_durable
        self._waiting: deque[tuple[Pending | None, FactRow]] = deque()
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._encoder = msgspec.json.Encoder()
        self._searched_from = BEGINNING  # by a restart: what is due later than that is found
        self._moving = asyncio.Lock()  # it

    async def begin(self, searched_from: dt.datetime) -> None:
        """Take over from where on the last run lets a restart look; before anything is recorded."""
        self._searched_from = searched_from
        await self.reach_back(utc_now())

    async def search_from(self, low: dt.datetime) -> None:
        """Write down that a restart need not look for what was due before `low`."""
        async with self._moving:
            await self._move(low)

    async def _move(self, low: dt.datetime) -> None:
        # Forward at once, since nobody knows when PostgreSQL does it; back when it is durable.
        self._searched_from = max(self._searched_from, low)
        microseconds = (low - BEGINNING) // dt.timedelta(microseconds=1)
        await self._ledger.checkpoint(Lane.RETRY, max(1, microseconds), [])
        self._searched_from = low

    async def reach_back(self, due_at: dt.datetime) -> None:
        """See to it that a restart finds what is due then, before it is written down."""
        if due_at < self._searched_from:
            await self._outage.patiently("recorder", partial(self._reach_back, due_at))

    async def _reach_back(self, due_at: dt.datetime) -> None:
        async with self._moving:
            if due_at < self._searched_from:  # nobody else has reached further meanwhile
                await self._move(due_at)

    async def put(self, fact: FactRow, pending: Pending | None) -> None:
        """Hand over a fact; once it is durable, `pending` is settled (None: another fact of it follows)."""
        if not self._waiting:
            self._empty.clear()
            self._some.set()
        self._waiting.append((pending, fact))
        while len(self._waiting) > _MOST_WAITING:
            self._room.clear()
            await self._room.wait()

    def due_since(self) -> dt.datetime:
        """Give the earliest due time of the facts that are not durable yet; now, where none is earlier.

        After an outage that can be long ago.
        """
        due = (fact.next_attempt_at for _, fact in self._waiting)
        return min((at for at in due if at is not None), default=utc_now())

    @property
    def buffered(self) -> int:
        """How many facts wait to be written."""
        return len(self._waiting)

    async def drained(self) -> None:
        """Wait until every fact that was handed over is durable."""
        await self._empty.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._some.wait()
            if len(self._waiting) < BATCH_ROWS:
                await asyncio.sleep(_LINGER_S)
            count = min(len(self._waiting), BATCH_ROWS)
            batch = list(islice(self._waiting, count))
            started = time.perf_counter()
            due = [fact.next_attempt_at for _, fact in batch if fact.next_attempt_at is not None]
            if due:
                await self.reach_back(min(due))
            await self._append([fact for _, fact in batch])
            self._metrics.flush_s.observe(time.perf_counter() - started)
            self._metrics.facts_recorded.inc(count)
            for _ in range(count):
                self._waiting.popleft()
            if not self._waiting:
                self._some.clear()
                self._empty.set()
            if len(self._waiting) <= _MOST_WAITING:
                self._room.set()  # sooner would wake all who wait, to wait again
            for pending, fact in batch:
                if pending is not None:
                    self._on_durable(pending, fact)

    async def _append(self, facts: list[FactRow]) -> None:
        """Write facts the fast way; where that is refused, or its end is unknown, the careful one."""
        try:
            await self._appender.append(facts)
        except (Unappendable, DatabaseUnavailable):
            await self._write(facts)

    async def _write(self, facts: list[FactRow]) -> None:
        encoded = self._encoder.encode(facts).decode()
        try:
            await self._outage.patiently("recorder", lambda: self._ledger.record(encoded))
        except (UnwritableFact, MonthGone) as error:
            if len(facts) > 1:
                for fact in facts:
                    await self._write([fact])
                return
            if isinstance(error, MonthGone):
                # Retention drops no month with anything unfinished: this was asked for at that very moment.
                log.warning(
                    "a delivery was dropped with its month",
                    outbox_id=facts[0].outbox_id,
                    day=facts[0].day.isoformat(),
                    attempt=facts[0].attempt_no,
                )
                return
            log.exception("fact recorded without its details", fact=repr(facts[0]))
            await self._write([_without_details(facts[0], str(error))])


def _without_details(fact: FactRow, problem: str) -> FactRow:
    """Give the fact without what the receiver sent: that the attempt was made must not be lost."""
    if fact.error_message == "details could not be recorded":
        raise UnwritableFact(problem)
    return msgspec.structs.replace(
        fact,
        error_message="details could not be recorded",
        address=None,
        request_headers=None,
        response_headers=None,
        response_body=None,
        timings=None,
    )
