"""Reads the outbox, lane by lane, by the difference of two snapshots (core/snapshot.py)."""

from __future__ import annotations

import datetime as dt
from typing import Final

import asyncpg
import msgspec

from dispatcher.core.errors import OperatorError
from dispatcher.core.ids import OutboxId, WebhookId
from dispatcher.core.snapshot import BEGINNING, Position, Snapshot
from dispatcher.store.transaction import Statements

_ANY_DAY: Final = dt.date(2000, 1, 3)  # before everything
_RESTORED: Final = (
    "the outbox's position was written on another PostgreSQL server, where transaction ids meant "
    "something else (a restored dump?): run `dispatcher rebase` before `dispatcher serve`"
)
_COPIED: Final = (
    "this is another database than the one that the dispatcher last ran on, though on the same server (a "
    "restored dump?): what it shows as pending may have been sent: run `dispatcher rebase` before "
    "`dispatcher serve`"
)


class OutboxRow(msgspec.Struct, frozen=True):
    """One event as upstream wrote it."""

    xid: int
    id: OutboxId
    day: dt.date
    type: str
    data_text: str
    occurred_at: dt.datetime
    recorded_at: dt.datetime
    network_id: str | None
    target_webhook_id: WebhookId | None
    test: bool
    event_id: str | None  # of the earthquake that it is about
    traceparent: str | None  # of the producer's span


class Page(msgspec.Struct, frozen=True):
    """Rows in the order (xid, id), and where the lane stands once all of them are dealt with."""

    rows: list[OutboxRow]
    start: Position
    target: Snapshot
    exhausted: bool  # nothing up to `target` is left beyond these rows
    registry_version: int
    day: dt.date  # on which it was read, by the database's clock

    def position_after(self, count: int) -> Position:
        """Give the position once the first `count` rows are dealt with."""
        if count == len(self.rows) and self.exhausted:
            return Position.after(self.target)
        return self.position_at(self.rows[count - 1])

    def position_at(self, row: OutboxRow) -> Position:
        """Give the position at one of the rows, whatever is left beyond it."""
        return self.start.advanced(self.target, row.xid, row.id)


class Start(msgspec.Struct, frozen=True):
    """Where a lane was left by the last run."""

    position: Position
    batch: int
    day: dt.date  # everything after it was recorded then or later
    system_id: int
    floor: OutboxId  # rows up to this one were dealt with by a rebase
    today: dt.date  # by the database's clock
    entered: bool  # a run has worked in this copy of the database before
    rest: tuple[WebhookId, ...] = ()  # those that the position's event goes to and that are not told yet


class OutboxReader:
    """Reads one lane."""

    def __init__(self, link: Statements, lane: int) -> None:
        self._link = link
        self._lane = lane
        self._floor = OutboxId(0)
        # Nobody knows what the server's clock showed before: no day is too late until all was read.
        self._until = dt.date.max

    async def newest_position(self) -> Start:
        """Give where the lane stands; raises `OperatorError` in another server or database than before."""
        row = await self._link.fetchrow("tail_newest", self._lane)
        assert row is not None  # noqa: S101 - the query's left side always has one row
        here: int = row["system_id_here"]
        floor, today = row["floor"], row["today"]
        entered = not row["elsewhere"]
        self._floor = floor
        if row["copied"]:
            raise OperatorError(_COPIED)
        if row["batch"] is None:
            if row["from_elsewhere"]:
                raise OperatorError(_RESTORED)
            return Start(Position.after(BEGINNING), 0, _ANY_DAY, here, floor, today, entered)
        done, target = Snapshot.parse(row["done_text"]), Snapshot.parse(row["target_text"])
        if row["system_id"] != here or target.xmax > int(row["next_xid"]):
            raise OperatorError(_RESTORED)
        position = Position(done, target, int(row["xid_text"]), row["outbox_id"])
        # Written in the midst of a long backlog, it says nothing about the days of what is left.
        day = row["day"] if position.complete else _ANY_DAY
        return Start(position, row["batch"], day, here, floor, today, entered, tuple(row["rest"] or ()))

    async def snapshot(self) -> str:
        """Give the present snapshot as text; as long as it does not change, nothing was committed."""
        row = await self._link.fetchrow("tail_snapshot")
        assert row is not None  # noqa: S101 - the query has one row
        text: str = row[0]
        return text

    async def read(self, position: Position, since: dt.date, limit: int) -> Page:
        """Give the next rows after `position`, at most `limit` of each kind.

        `since` is the day on which the page was read that `position.done` bounds: older partitions need no
        look, unless the server's clock was put back since.
        """
        xid, outbox_id = position.range_start()
        fixed = None if position.complete else str(position.target)
        # For an unfinished target the stragglers come first and the range may not be reached yet.
        found = await self._link.fetch(
            "tail_range", self._lane, str(xid), outbox_id, fixed, limit, since, self._floor, self._until
        )
        target = Snapshot.parse(found[0]["target_text"])
        in_range = [outbox_row(row) for row in found if row["id"] is not None]
        late: list[OutboxRow] = []
        start = position.straggler_start()
        if start is not None:
            xids = position.stragglers(target)
            if xids:
                rows = await self._link.fetch(
                    "tail_stragglers",
                    self._lane,
                    [str(one) for one in xids],
                    str(start[0]),
                    start[1],
                    limit,
                    self._floor,
                )
                late = [outbox_row(row) for row in rows]
        if len(late) == limit:
            in_range = []
            exhausted = False
        else:
            exhausted = len(in_range) < limit
        version, today = found[0]["registry_version"], found[0]["today"]
        if exhausted:
            self._until = today
        return Page(late + in_range, position, target, exhausted, version, today)


def outbox_row(row: asyncpg.Record) -> OutboxRow:
    """Give the event in a row of the tail's queries."""
    return OutboxRow(
        xid=int(row["xid_text"]),
        id=row["id"],
        day=row["day"],
        type=row["type"],
        data_text=row["data_text"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        network_id=row["network_id"],
        target_webhook_id=row["target_webhook_id"],
        test=row["test"],
        event_id=row["event_id"],
        traceparent=row["traceparent"],
    )
