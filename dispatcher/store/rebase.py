"""After a restore: makes the database's past this server's own, and says what may have been sent meanwhile.

How this works. A backup knows nothing of what happened after it. So whatever it would let the dispatcher
send may have been sent: each such delivery gets an `interrupted` that says so, and only then goes on.
Transaction ids may be another server's: every row of the outbox that has no message is scheduled here, by its
id, and each lane's position begins anew with what is visible now. Ids go on far beyond those of the backup:
the events that came after it are gone, but receivers know their delivery ids, which follow from the event's.

All of it is one transaction, under the leases' row locks, so it is done or not, and nobody holds a shard
meanwhile, however long it takes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from typing import Final

import asyncpg
import msgspec

from dispatcher.core.body import build_body
from dispatcher.core.errors import LeaseLost, OperatorError
from dispatcher.core.ids import OutboxId, RunId
from dispatcher.core.pending import TAILED, Lane
from dispatcher.core.sharing import Shard
from dispatcher.core.snapshot import Position, Snapshot
from dispatcher.store.backlog import Backlog
from dispatcher.store.begun import read_begun
from dispatcher.store.connection import Link
from dispatcher.store.incarnation import enter
from dispatcher.store.ledger import Ledger, MessageRow
from dispatcher.store.outbox import outbox_row
from dispatcher.store.registry import Registry
from dispatcher.store.transaction import Transaction, transaction

_STATEMENT_S: Final = 3_600.0  # a day of deliveries at a time, however long the history
_SKIPPED_IDS: Final = 1_000_000_000  # more events than anybody inserts between a backup and its restore
_PAGE_ROWS: Final = 1_000
_MOST_DELIVERIES: Final = 10_000  # of one statement, unless a single event goes to more
_OTHER_XIDS: Final = (
    "the outbox's positions are ahead of this server's transaction ids, so these are not the same ids: "
    "run `dispatcher rebase` without --same-xids"
)
_OPEN: Final = (
    "a transaction that inserted into the outbox is still open, perhaps a prepared one: end it "
    "(pg_stat_activity, pg_prepared_xacts) and try again"
)


class Report(msgspec.Struct):
    """What a rebase did."""

    scheduled_events: int = 0  # that had not been read
    scheduled_deliveries: int = 0  # of these
    interrupted: int = 0  # deliveries that may have been sent, these included
    recoveries: int = 0  # that were under way, and are stopped


class Moved(msgspec.Struct):
    """What was taken over as it is."""

    lanes: int = 0  # whose positions named another server
    database: bool = False  # it was another copy, or its server's history had branched off


class _Rehearsed(Exception):
    """Everything went well and is to be undone."""


class Rebase:
    """One rebase, made by runs that hold all shards, the last of them the one that leads."""

    def __init__(self, link: Link, runs: Sequence[RunId], registry: Registry, *, rehearse: bool) -> None:
        self._link = link
        self._runs = runs
        self._run_id = runs[-1]
        self._registry = registry
        self._rehearse = rehearse

    async def restored(self) -> Report:
        """Take over a backup; raises `OperatorError` while a transaction on the outbox stays open."""
        boundary, visible = await self._boundary()
        await self._registry.refresh()
        report = Report()
        try:
            async with transaction(self._link, timeout_s=_STATEMENT_S) as changes:
                await self._hold(changes)
                days = await _days(changes)
                await self._schedule(changes, days, boundary, Position.after(visible), report)
                for day in days:
                    tag = await changes.execute("rebase_interrupt", self._run_id, day)
                    report.interrupted += _count(tag)
                report.recoveries = _count(await changes.execute("rebase_stop_recoveries", self._run_id))
                await changes.execute("rebase_done", self._run_id, boundary)
                await enter(changes, self._run_id, acknowledged=True)
                dead = [row["id"] for row in await changes.fetch("runs_before", self._run_id)]
                await Backlog(changes, Shard()).runs_ended(self._run_id, dead, "rescued")
                self._end()
        except _Rehearsed:
            pass
        return report

    async def same_xids(self) -> Moved:
        """Take over the positions where only the server's identifier or timeline, or the database's, changed.

        A branch of the server's history is acknowledged by it.
        """
        moved = Moved()
        try:
            async with transaction(self._link) as changes:
                await self._hold(changes)
                for lane in TAILED:
                    row = await changes.fetchrow("tail_newest", lane)
                    ahead = row is not None and (
                        row["from_elsewhere"]
                        or (
                            row["target_text"] is not None
                            and Snapshot.parse(row["target_text"]).xmax > int(row["next_xid"])
                        )
                    )
                    if ahead:
                        raise OperatorError(_OTHER_XIDS)
                    moved.lanes += _count(await changes.execute("rebase_same_xids", self._run_id, lane))
                moved.database = await enter(changes, self._run_id, acknowledged=True) is not None
                self._end()
        except _Rehearsed:
            pass
        return moved

    def _end(self) -> None:
        if self._rehearse:
            raise _Rehearsed

    async def _boundary(self) -> tuple[OutboxId, Snapshot]:
        """Give an id that every later row will exceed, and what is visible: every row up to it.

        Nobody writes to the outbox at this moment: a row of an open transaction would appear later, with a
        lower id.
        """
        if self._rehearse:
            row = await self._link.fetchrow("rebase_rehearse")
        else:
            async with transaction(self._link) as locked:
                await locked.execute("rebase_patience")
                try:
                    await locked.execute("rebase_lock")
                except asyncpg.LockNotAvailableError as error:
                    raise OperatorError(_OPEN) from error
                row = await locked.fetchrow("rebase_begin", _SKIPPED_IDS)
        assert row is not None  # noqa: S101 - the query has one row
        return row["boundary"], Snapshot.parse(row["snapshot"])

    async def _hold(self, changes: Transaction) -> None:
        if len(await changes.fetch("rebase_hold_leases", self._runs)) < len(self._runs):
            raise LeaseLost("another run leads")

    async def _schedule(
        self,
        changes: Transaction,
        days: Sequence[dt.date],
        boundary: OutboxId,
        position: Position,
        report: Report,
    ) -> None:
        """Write messages and deliveries of the rows that have none, and each lane's new position."""
        ledger = Ledger(changes, self._run_id)
        newest: dict[Lane, asyncpg.Record] = {}
        batches: dict[Lane, int] = {}
        system_id = 0
        today = dt.date.min
        for lane in TAILED:
            row = await changes.fetchrow("tail_newest", lane)
            assert row is not None  # noqa: S101 - the query's left side always has one row
            newest[lane] = row
            batches[lane] = row["batch"] or 0
            system_id, today = row["system_id_here"], row["today"]

        async def write(lane: Lane, messages: Sequence[MessageRow]) -> None:
            batches[lane] += 1
            await ledger.fan_out(lane, batches[lane], messages, position, system_id, today)
            report.scheduled_events += sum(not one.written for one in messages)
            report.scheduled_deliveries += sum(len(one.webhook_ids) for one in messages)

        collected: dict[Lane, list[MessageRow]] = {lane: [] for lane in TAILED}
        for lane, row in newest.items():
            if row["rest"]:  # a fan-out that was begun ends here
                found = await read_begun(changes, lane, row["outbox_id"], row["rest"])
                found.message.claimed.extend([False] * len(row["rest"]))
                collected[lane].append(found.message)
        deliveries = {lane: sum(len(one.webhook_ids) for one in some) for lane, some in collected.items()}
        for day in days:
            async for lane, message in self._unread(changes, day, boundary):
                collected[lane].append(message)
                deliveries[lane] += len(message.webhook_ids)
                if len(collected[lane]) == _PAGE_ROWS or deliveries[lane] >= _MOST_DELIVERIES:
                    await write(lane, collected[lane])
                    collected[lane], deliveries[lane] = [], 0
        for lane, messages in collected.items():
            await write(lane, messages)

    async def _unread(
        self, changes: Transaction, day: dt.date, boundary: OutboxId
    ) -> AsyncIterator[tuple[Lane, MessageRow]]:
        after = 0
        while rows := await changes.fetch("rebase_unread", day, after, boundary, _PAGE_ROWS):
            events = [outbox_row(row) for row in rows]
            told = await self._registry.told_before(changes, events)
            for row, event in zip(rows, events, strict=True):
                webhook_ids = self._registry.match(event, told)
                body = build_body(event.type, event.occurred_at, event.data_text, test=event.test)
                full_body, full_for = self._registry.full_body(event, webhook_ids, told)
                yield (
                    Lane(row["lane"]),
                    MessageRow(
                        day=event.day,
                        outbox_id=event.id,
                        type=event.type,
                        occurred_at=event.occurred_at,
                        recorded_at=event.recorded_at,
                        body=body.content,
                        test=event.test,
                        webhook_ids=webhook_ids,
                        claimed=[False] * len(webhook_ids),
                        full_body=full_body,
                        full_for=full_for,
                    ),
                )
            after = rows[-1]["id"]


async def _days(changes: Transaction) -> list[dt.date]:
    row = await changes.fetchrow("rebase_days")
    if row is None or row["first"] is None:
        return []
    first: dt.date = row["first"]
    return [first + dt.timedelta(days=number) for number in range((row["last"] - first).days + 1)]


def _count(tag: str) -> int:
    """Read how many rows a command tag such as `INSERT 0 5` says."""
    return int(tag.rpartition(" ")[2])
